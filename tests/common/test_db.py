"""Running statements, and settings for them."""

import time

import pytest
from django.db import DatabaseError, connection, transaction

from chatbots.models import Chatbot
from common.db import (
    by_index,
    execute,
    fetch,
    fetch_in_index_order,
    finds_by_index,
    retry_while_unavailable,
    sessions_find_by_index,
)
from tests.factories import conversation_of

pytestmark = pytest.mark.django_db


@pytest.mark.django_db(transaction=True)
def test_settings_hold_where_the_rows_are_until_the_transaction_ends(chatbot: Chatbot) -> None:
    conversation_of(chatbot, "42")
    setting = "SELECT current_setting(%s) FROM conversations_conversation WHERE chatbot_id = %s"
    with transaction.atomic():
        execute(by_index())
        assert fetch(setting, ["enable_seqscan", chatbot.pk]) == [("off",)]
        assert fetch(setting, ["jit", chatbot.pk]) == [("off",)]
    assert fetch(setting, ["enable_seqscan", chatbot.pk]) == [("on",)]
    assert fetch_in_index_order(setting, ["enable_sort", chatbot.pk]) == [("off",)]
    assert fetch_in_index_order(setting, ["jit", chatbot.pk]) == [("off",)]
    assert fetch(setting, ["enable_sort", chatbot.pk]) == [("on",)]


@pytest.mark.django_db(transaction=True)
def test_sessions_of_workers_find_rows_by_index_and_others_do_not() -> None:
    assert not finds_by_index()
    with sessions_find_by_index():
        assert finds_by_index()
        connection.close()  # it may be lost
        assert finds_by_index()
    assert not finds_by_index()
    with transaction.atomic(), sessions_find_by_index():  # in one, the session stays as it is
        assert not finds_by_index()


@pytest.mark.django_db(transaction=True)
def test_a_connection_is_replaced_that_is_lost_and_not_one_that_is_old() -> None:
    [(first,)] = fetch("SELECT pg_backend_pid()")
    connection.close_at = time.monotonic() - 1
    with pytest.raises(DatabaseError):
        execute("SELECT 1 / 0")
    retry_while_unavailable(lambda: None)
    assert fetch("SELECT pg_backend_pid()") == [(first,)]

    with pytest.raises(DatabaseError):
        execute("SELECT pg_terminate_backend(pg_backend_pid())")
    retry_while_unavailable(lambda: None)
    assert fetch("SELECT pg_backend_pid()") != [(first,)]
