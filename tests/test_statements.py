"""The watch over the suite's statements finds bad ones."""

import psycopg
import pytest
from django.db import connection

from conversations.models import Conversation, Identity
from tests import statements
from tests.statements import WATCH, faults_in

CONVERSATION = "conversations_conversation"
SETTING = "SET LOCAL enable_seqscan TO 'off'; SET LOCAL jit TO 'off'"


@pytest.mark.parametrize(
    "named",
    [
        f"SELECT * FROM {CONVERSATION} WHERE chatbot_id = %s AND id = %s",
        f"SELECT * FROM {CONVERSATION} c WHERE c.chatbot_id = ANY(%(chatbots)s) AND c.id = %(id)s",
        f"UPDATE {CONVERSATION} SET score = 1 WHERE chatbot_id IN (%s, %s)",
        f"DELETE FROM {CONVERSATION} c USING unnest(%s) d(id) WHERE c.id = d.id AND %s = c.chatbot_id",
        f"INSERT INTO {CONVERSATION} (chatbot_id) VALUES (%s)",
        f"SELECT FROM {CONVERSATION} c JOIN conversations_identity i ON i.chatbot_id = %s WHERE c.chatbot_id = %s",
        "SELECT '100%%' FROM chatbots_chatbot",
        f"WITH c AS (SELECT id FROM {CONVERSATION} WHERE chatbot_id = %s) SELECT FROM c, compliance_export e",
        f"WITH e AS (SELECT id FROM compliance_export) SELECT FROM {CONVERSATION}, e WHERE chatbot_id = 1",
        f"SELECT FROM {CONVERSATION} c, chatbots_chatbot b WHERE c.chatbot_id = %s AND b.id = %s FOR UPDATE OF c",
        f"INSERT INTO compliance_leftcopy SELECT id FROM {CONVERSATION} WHERE chatbot_id = %s",
        f"INSERT INTO {CONVERSATION} (chatbot_id) SELECT chatbot_id FROM compliance_export ON CONFLICT DO NOTHING",
        f"WITH old AS (SELECT id FROM {CONVERSATION} WHERE chatbot_id = %s FOR UPDATE) SELECT FROM old",
        f"UPDATE {CONVERSATION} SET deleted_at = statement_timestamp() WHERE chatbot_id = %s",
        "UPDATE compliance_export SET expires_at = clock_timestamp()",
        SETTING,
        "INSERT INTO compliance_replay (id) VALUES (%s) ON CONFLICT (id) DO UPDATE SET at = now() WHERE id < now()",
        f"UPDATE {CONVERSATION} SET score = CASE WHEN deleted_at < %s THEN 1 END WHERE chatbot_id = %s RETURNING id",
        f"UPDATE {CONVERSATION} SET score = (SELECT coalesce(now(), %s)) WHERE chatbot_id = %s",
        f"INSERT INTO {CONVERSATION} (chatbot_id) VALUES (%s) ON CONFLICT (id) DO UPDATE SET deleted_at = now()",
    ],
)
def test_a_statement_that_can_be_distributed_passes(named: str) -> None:
    assert list(faults_in(named)) == []


@pytest.mark.parametrize(
    "bad",
    [
        f"SELECT * FROM {CONVERSATION} WHERE id = %s",
        f"{SETTING}; UPDATE compliance_claim SET owner = %s",
        f"SELECT * FROM {CONVERSATION} WHERE chatbot_id = %s OR id = %s",
        f"SELECT * FROM {CONVERSATION} WHERE chatbot_id <> %s",
        f"SELECT * FROM {CONVERSATION} c, chatbots_chatbot b WHERE c.chatbot_id = b.id",
        f"SELECT * FROM {CONVERSATION} WHERE chatbot_id = ANY(ARRAY(SELECT id FROM chatbots_chatbot))",
        f"UPDATE {CONVERSATION} SET score = 1",
        f"SELECT FROM chatbots_chatbot b WHERE EXISTS (SELECT FROM {CONVERSATION} WHERE id = b.id)",
        f"WITH old AS (DELETE FROM {CONVERSATION} WHERE id = %s RETURNING id) SELECT * FROM old",
        f"COPY (SELECT * FROM {CONVERSATION}) TO STDOUT",
        f"SELECT FROM {CONVERSATION} c WHERE chatbot_id = %s UNION SELECT FROM {CONVERSATION} c",
        f"SELECT FROM {CONVERSATION} c LEFT JOIN conversations_identity i ON i.id = c.id WHERE c.chatbot_id = %s",
        f"SELECT FROM FROM {CONVERSATION}",
        f"SELECT FROM {CONVERSATION} c, compliance_export e WHERE c.chatbot_id = %s FOR UPDATE OF c",
        f"UPDATE {CONVERSATION} SET score = 1 WHERE chatbot_id = %s AND EXISTS (SELECT FROM compliance_export)",
        f"DELETE FROM {CONVERSATION} USING compliance_export e WHERE chatbot_id = %s AND e.id = {CONVERSATION}.id",
        f"UPDATE compliance_export SET key = '' WHERE id IN (SELECT id FROM {CONVERSATION} WHERE chatbot_id = %s)",
        f"UPDATE {CONVERSATION} SET deleted_at = clock_timestamp() WHERE chatbot_id = %s",
        f"DELETE FROM {CONVERSATION} WHERE chatbot_id = %s AND deleted_at < clock_timestamp()",
        f"SELECT FROM {CONVERSATION} c JOIN compliance_export e ON e.id = c.id WHERE c.chatbot_id = %s",
        f"SELECT EXISTS (SELECT FROM {CONVERSATION} WHERE chatbot_id = %s), EXISTS (SELECT FROM compliance_export)",
        f"WITH c AS (SELECT FROM {CONVERSATION}, compliance_export WHERE chatbot_id = %s) SELECT FROM c",
        f"INSERT INTO compliance_leftcopy SELECT id FROM {CONVERSATION}, compliance_export WHERE chatbot_id = %s",
        "UPDATE compliance_export SET expires_at = clock_timestamp() FROM chatbots_chatbot b WHERE b.id = chatbot_id",
        f"UPDATE {CONVERSATION} SET score = CASE WHEN deleted_at < now() THEN 1 END WHERE chatbot_id = %s",
        f"UPDATE {CONVERSATION} SET deleted_at = coalesce(deleted_at, statement_timestamp()) WHERE chatbot_id = %s",
        f"DELETE FROM {CONVERSATION} WHERE chatbot_id = %s RETURNING deleted_at < now()",
        f"INSERT INTO {CONVERSATION} (id) VALUES (%s) ON CONFLICT (id) DO UPDATE SET score = 1 WHERE %s < now()",
    ],
)
def test_a_statement_that_cannot_be_distributed_is_found(bad: str) -> None:
    assert len(list(faults_in(bad))) == 1


@pytest.mark.django_db
def test_a_bad_statement_is_reported_with_its_text_and_without_values(chatbot, monkeypatch) -> None:
    # This module stands for the service's code meanwhile.
    monkeypatch.setattr(statements, "EXEMPT", {})
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM {CONVERSATION} WHERE external_id = %s", ["somebody"])
    cast = Identity.objects.filter(chatbot=chatbot, conversation__external_id="somebody")
    list(cast)

    first, second = WATCH.take()
    assert first.statement == f"SELECT id FROM {CONVERSATION} WHERE external_id = %s"
    assert first.caller.startswith("tests/test_statements.py::test_a_bad")
    assert second.what == f"no condition on the chatbot of {CONVERSATION}"
    assert "somebody" not in f"{first}{second}"

    list(cast.filter(conversation__chatbot=chatbot))
    Conversation.objects.filter(chatbot=chatbot).update(score=1)
    assert WATCH.take() == []


@pytest.mark.django_db(transaction=True)
def test_connections_beside_djangos_are_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "EXEMPT", {})
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as reader:
        reader.execute(f"SELECT FROM {CONVERSATION}")
        with reader.cursor() as cursor, cursor.copy(f"COPY (SELECT id FROM {CONVERSATION}) TO STDOUT") as copy:
            list(copy)
        with reader.cursor(name="on_the_server") as cursor:
            cursor.execute(f"SELECT id FROM {CONVERSATION}")

    assert len(WATCH.take()) == 3
