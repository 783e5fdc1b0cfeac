"""Reading one instant of the database."""

import pytest

from chatbots.models import Chatbot
from common.db import fetch
from conversations.snapshots import SNAPSHOT_MINUTES, one_instant, snapshot
from tests.factories import conversation_of

pytestmark = pytest.mark.django_db(transaction=True)

_SETTINGS = """
SELECT current_setting('jit'), current_setting('enable_seqscan') FROM conversations_conversation WHERE chatbot_id = %s
"""


def test_what_is_read_by_index_is_not_compiled(chatbot: Chatbot) -> None:
    """Where the rows are: on Citus on their machine."""
    conversation_of(chatbot, "42")
    with snapshot() as reader:
        assert reader.execute(_SETTINGS, [chatbot.pk]).fetchall() == [("off", "off")]
    with one_instant():
        assert fetch(_SETTINGS, [chatbot.pk]) == [("off", "off")]
    assert fetch(_SETTINGS, [chatbot.pk]) == [("on", "on")]


def test_a_snapshot_may_wait_for_a_bucket_longer_than_another_transaction() -> None:
    limit = "SHOW idle_in_transaction_session_timeout"
    with snapshot() as reader:
        assert reader.execute(limit).fetchall() == [(f"{SNAPSHOT_MINUTES}min",)]
    assert fetch(limit) == [("1min",)]
