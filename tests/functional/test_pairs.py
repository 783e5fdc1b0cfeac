"""Two acts that meet in one conversation, at each moment: what must remain remains, and nothing else."""

from collections.abc import Iterator

import pytest
from django.db import connection

from compliance import worker
from tests.extracting import versioned_bucket
from tests.stress.pairs import pairs
from tests.stress.searching import Stage, stage
from tests.under_roles import role

pytestmark = pytest.mark.django_db(transaction=True)

PAIRS = pairs()

# What a worker does to the rows when it has worked, and the invariant that this breaks.
PLANTED = [
    ("DELETE FROM conversations_message WHERE text LIKE 'planted.acme.c3.%'", (3, "part of a conversation")),
    ("DELETE FROM conversations_message WHERE text LIKE 'planted.neighbour.%'", (3, "part of a conversation")),
    (
        """
        INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)
        SELECT chatbot_id, id, 'again', 'user', 'text', 'planted.acme.c1.again', now()
          FROM conversations_conversation
         WHERE deletion_request_id IN (SELECT id FROM compliance_compliancerequest WHERE status = 'completed')
        ON CONFLICT DO NOTHING
        """,
        (2, "rows"),
    ),
    (
        """
        INSERT INTO chatbots_changelogentry (chatbot_id, request_id, event, actor, at, data)
        SELECT chatbot_id, request_id, event, actor, at, data FROM chatbots_changelogentry
         WHERE event = 'request.completed' LIMIT 1
        """,
        (4, "final events"),
    ),
    ("UPDATE compliance_compliancerequest SET messages = messages + 1 WHERE kind = 'deletion'", (4, "counts")),
]


@pytest.fixture(scope="module")
def on_stage() -> Iterator[Stage]:
    with versioned_bucket() as storage, stage(storage) as found:
        yield found


@pytest.mark.long(reason="each plays a story", beyond=1, spread=True)
@pytest.mark.parametrize("pair", PAIRS)
def test_two_acts_leave_what_must_remain(on_stage: Stage, pair: str) -> None:
    assert on_stage.play(PAIRS[pair], seed=1) is None


@pytest.mark.long(reason="each plays a story")
@pytest.mark.parametrize(("statement", "kind"), PLANTED)
def test_what_a_worker_does_wrong_is_found(
    on_stage: Stage, monkeypatch: pytest.MonkeyPatch, statement: str, kind: tuple[int, str]
) -> None:
    drain = worker.drain

    def drain_and_do_wrong(*, seconds: float) -> None:
        drain(seconds=seconds)
        with role("owner"), connection.cursor() as cursor:
            cursor.execute(statement)

    monkeypatch.setattr(worker, "drain", drain_and_do_wrong)
    broken = on_stage.play(PAIRS["deletion by ids, export after the mark"], seed=1)
    assert broken is not None
    assert broken.kind == kind
