"""Marks and exports of a conversation are found by their indexes, however old the statistics are."""

from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.backends.utils import CursorWrapper

from chatbots.models import Chatbot
from common.db import array, by_index, execute, fetch
from compliance.erasure import exports, objects, rows, verify
from compliance.export import records
from compliance.ledger import lines
from compliance.models import Export
from compliance.replay import filing
from compliance.work.scope import DELETIONS
from compliance.work.sql import SHARING
from conversations import rows as intake
from tests.factories import conversation_of, export_of

pytestmark = pytest.mark.one_postgresql(reason="plans")


def plan_of(cursor: CursorWrapper, statement: str, values: object) -> str:
    cursor.execute(by_index())
    cursor.execute(f"EXPLAIN {statement}", values)
    return "\n".join(line for (line,) in cursor.fetchall())


def _insert_conversations(cursor: CursorWrapper, chatbot: Chatbot, *, are_marked: bool) -> None:
    cursor.execute(
        "INSERT INTO conversations_conversation (chatbot_id, external_id, external_id_digest, channel,"
        " started_at, has_file_upload, has_agent_handover, has_push, message_count, deletion_request_id)"
        " SELECT %s, id, sha256(id::bytea), 'widget', now(), FALSE, FALSE, FALSE, 0,"
        "        CASE WHEN %s THEN gen_random_uuid() END"
        "   FROM (SELECT gen_random_uuid()::text AS id FROM generate_series(1, 5000)) AS one",
        [chatbot.pk, are_marked],
    )


def test_an_index_that_was_empty_when_it_was_analysed_is_not_read_whole(chatbot: Chatbot) -> None:
    for number in range(50):
        conversation_of(chatbot, f"member-{number}", messages=0)
    ours = {"ids": array([uuid4(), uuid4()]), "chatbots": array([chatbot.pk])}
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE conversations_conversation")
        of_the_ledger = plan_of(cursor, lines._IN_SCOPE, ours)
        of_the_look = plan_of(cursor, verify._question().as_string(cursor.cursor), ours)
    assert "Index Cond: ((deletion_request_id = r.id)" in of_the_ledger, of_the_ledger
    assert "Index Cond: ((deletion_request_id = r.id)" in of_the_look, of_the_look


def test_marks_are_found_where_statistics_know_a_single_one(chatbot: Chatbot) -> None:
    """As after a first retention run: PostgreSQL takes a chatbot for rarer than a mark, and would read all it has."""
    ours = {"ids": array([uuid4(), uuid4()]), "chatbots": array([chatbot.pk])}
    with connection.cursor() as cursor:
        _insert_conversations(cursor, chatbot, are_marked=True)
        cursor.execute("UPDATE conversations_conversation SET deletion_request_id = %s", [uuid4()])
        cursor.execute("ANALYZE conversations_conversation")
        for statement in (verify._question().as_string(cursor.cursor), lines._IN_SCOPE, exports._MET_MARKED):
            plan = plan_of(cursor, statement, ours)
            assert "Index Cond: ((deletion_request_id = " in plan, plan


@pytest.mark.parametrize("held_before", [0, 5000], ids=["nothing", "what is gone"])
def test_an_export_is_found_by_its_conversations_when_statistics_show_none(chatbot, held_before) -> None:
    export = Export.objects.create(chatbot=chatbot, request=export_of(chatbot, "42"))
    hold = (
        "INSERT INTO compliance_exportconversation (chatbot_id, export_id, conversation_id)"
        " SELECT %s, %s, n FROM generate_series(1, %s) AS n"
    )
    values = {"ids": array([uuid4(), uuid4()]), "chatbots": array([chatbot.pk])}
    with connection.cursor() as cursor:
        cursor.execute(hold, [chatbot.pk, export.pk, held_before])
        cursor.execute("DELETE FROM compliance_exportconversation")
        cursor.execute("ANALYZE compliance_exportconversation")
        cursor.execute(hold, [chatbot.pk, export.pk, 5000])
        plan = plan_of(cursor, verify._question().as_string(cursor.cursor), values)
    assert "exportconversation_number" in plan, plan


@pytest.mark.parametrize("named_before", [0, 5000], ids=["nothing", "what is forgotten"])
def test_requests_are_found_by_what_they_name_when_statistics_show_none(chatbot: Chatbot, named_before: int) -> None:
    request = export_of(chatbot, "42")
    name = (
        "INSERT INTO compliance_requestsubject (chatbot_id, request_id, digest)"
        " SELECT %s, %s, sha256(n::text::bytea) FROM generate_series(1, %s) AS n"
    )
    with connection.cursor() as cursor:
        cursor.execute(name, [chatbot.pk, request.pk, named_before])
        cursor.execute("DELETE FROM compliance_requestsubject")
        cursor.execute("ANALYZE compliance_requestsubject")
        cursor.execute(name, [chatbot.pk, request.pk, 5000])
        plan = plan_of(cursor, f"SELECT FROM compliance_compliancerequest r, LATERAL {SHARING} AS sharing", None)
    assert "Index Cond: (request_id = r.id)" in plan, plan
    assert "requestsubject_digest" in plan, plan


@pytest.mark.parametrize("statement", [rows._EMPTY_CONVERSATIONS, filing._MARK], ids=["erased", "marked again"])
def test_conversations_are_changed_by_their_numbers_without_statistics(chatbot: Chatbot, statement: Any) -> None:
    """As in a new database, or one that was just restored: all of a chatbot were compared with each number given."""
    for number in range(50):
        conversation_of(chatbot, f"member-{number}", messages=0)
    numbers = array(range(1, 2_501))
    values = {"numbers": numbers, "taken": numbers, "chatbots": array([chatbot.pk]), "marks": "{}"}
    with connection.cursor() as cursor:
        text = statement if isinstance(statement, str) else statement.as_string(cursor.cursor)
        plan = plan_of(cursor, text, values)
    assert "Join" not in plan, plan
    assert "Nested Loop" not in plan, plan
    assert "id = ANY" in plan.partition("Index Cond:")[2], plan


def test_conversations_are_erased_by_their_numbers_and_not_by_a_channel_at_a_time(chatbot: Chatbot) -> None:
    """PostgreSQL 18 skips over the channels of an index that begins with them, and reads all that the chatbot has."""
    values = {"numbers": array(range(1, 2_501)), "chatbots": array([chatbot.pk]), "marks": "{}"}
    with connection.cursor() as cursor:
        _insert_conversations(cursor, chatbot, are_marked=False)
        cursor.execute("ANALYZE conversations_conversation")
        plan = plan_of(cursor, rows._EMPTY_CONVERSATIONS.as_string(cursor.cursor), values)
    assert "conversation_log_channel" not in plan, plan


@pytest.mark.parametrize("statement", [intake._UPDATE_CONVERSATIONS, intake._STRENGTHEN])
def test_intake_changes_what_it_has_by_its_numbers(chatbot: Chatbot, statement: str) -> None:
    """And does not read all of a chatbot, which PostgreSQL takes for small."""
    with connection.cursor() as cursor:
        # Pages that tests before have left empty make one index dearer than another.
        cursor.execute("TRUNCATE conversations_conversation CASCADE")
        for number in range(50):
            conversation_of(chatbot, f"member-{number}", messages=0)
        plan = plan_of(cursor, statement, ["[]", chatbot.pk, "{1}"]).splitlines()
    assert any("Index Cond" in line and "id = ANY ('{1}'" in line for line in plan), plan


def test_exports_are_locked_by_their_ids_and_not_compared_with_all_that_never_expire(db: None) -> None:
    values = {"ids": list(range(1, 51)), "keys": [str(each) for each in range(1, 51)]}
    with connection.cursor() as cursor:
        plan = plan_of(cursor, records._LOCK_OURS, values)
    assert "Join" not in plan, plan


def test_what_an_export_holds_is_looked_up_by_number_when_statistics_show_no_mark(chatbot: Chatbot) -> None:
    """As when a tenth of the conversations, all of the marked ones, were marked since the last ANALYZE."""
    values = {"exports": array([1]), "conversations": array([1]), "chatbots": array([chatbot.pk])}
    with connection.cursor() as cursor:
        for is_marked in (False, True):
            _insert_conversations(cursor, chatbot, are_marked=is_marked)
            if not is_marked:
                cursor.execute("ANALYZE conversations_conversation")
        plan = plan_of(cursor, records._CLOSED, values)
    assert "conversation_of_deletion" not in plan, plan
    assert "conversation_log_closed" not in plan, plan


_GOING = f"{objects._GOING.format(of=DELETIONS)} SELECT FROM going"


@pytest.mark.parametrize("statement", [exports._EXPIRE_ERASED, _GOING], ids=["met", "going"])
def test_exports_are_found_by_their_ids_when_statistics_show_none_with_a_key(chatbot, statement) -> None:
    """As after a quiet time, in which all have been removed."""
    values = {
        "ids": array([uuid4(), uuid4()]),
        "chatbots": array([chatbot.pk]),
        "met": "{1,2}",
        "goes_now": "{t,f}",
        "for_a_person": "{t,f}",
        "grace": 1,
    }
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # there are no such requests
        for has_key in (False, True):
            cursor.execute(
                "INSERT INTO compliance_export (chatbot_id, request_id, hosting, bucket, endpoint, key, rows, bytes,"
                " sha256, finished_at, expires_at)"
                " SELECT %(chatbot)s, gen_random_uuid(), 'hosted', '', '', CASE WHEN %(has_key)s THEN n END, 0, 0,"
                "        repeat('0', 64), now(), CASE WHEN %(has_key)s THEN now() END"
                "   FROM generate_series(1, 5000) AS n",
                {"chatbot": chatbot.pk, "has_key": has_key},
            )
            if not has_key:
                cursor.execute("ANALYZE compliance_export")
        plan = plan_of(cursor, statement, values)
    assert "compliance_export_pkey" in plan, plan
    assert "export_expiry" not in plan, plan


def test_postgresql_does_not_count_whose_rows_a_table_has(db: None) -> None:
    """So a chatbot that is newer than the statistics is planned for as any other."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT c.conrelid::regclass::text, a.attname
              FROM pg_constraint c
              JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
             WHERE c.contype = 'f' AND c.confrelid IN ('chatbots_chatbot'::regclass, 'chatbots_variable'::regclass)
               AND a.attstattarget IS DISTINCT FROM 0
            """
        )
        assert cursor.fetchall() == [], "set STATISTICS 0 as compliance/migrations/0002_raw_sql.py does"


def test_postgresql_takes_no_samples_of_words_and_looks(chatbot: Chatbot) -> None:
    for number in range(300):
        conversation_of(chatbot, f"member-{number}", user_name=f"Ada {number}", messages=0)
    execute("ANALYZE conversations_nameword, conversations_identity")
    sampled = fetch(
        "SELECT tablename, attname FROM pg_stats WHERE attname IN ('conversation_id', 'word', 'look')"
        " AND tablename IN ('conversations_nameword', 'nameword_lookup', 'conversations_identity', 'identity_look')"
    )
    assert set(sampled) == {
        ("conversations_nameword", "conversation_id"),
        ("conversations_identity", "conversation_id"),
    }
