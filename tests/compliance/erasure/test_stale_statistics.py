"""Marks and exports of a conversation are found by their indexes, however old the statistics are."""

from uuid import uuid4

import pytest
from django.db import connection
from django.db.backends.utils import CursorWrapper

from chatbots.models import Chatbot
from common.db import BY_INDEX, array
from compliance.erasure import verify
from compliance.export import records
from compliance.ledger import lines
from compliance.models import Export
from compliance.work.sql import SHARING
from tests.factories import conversation_of, export_of

pytestmark = pytest.mark.one_postgresql(reason="plans")


def plan_of(cursor: CursorWrapper, statement: str, values: object) -> str:
    cursor.execute(BY_INDEX)
    cursor.execute(f"EXPLAIN {statement}", values)
    return "\n".join(line for (line,) in cursor.fetchall())


def test_an_index_that_was_empty_when_it_was_analysed_is_not_read_whole(chatbot: Chatbot) -> None:
    for number in range(50):
        conversation_of(chatbot, f"member-{number}", messages=0)
    ours = {"ids": array([uuid4(), uuid4()]), "chatbots": array([chatbot.pk])}
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE conversations_conversation")
        of_the_ledger = plan_of(cursor, lines._IN_SCOPE, ours)
        of_the_look = plan_of(cursor, verify._question().as_string(cursor.cursor), ours)
    assert "Index Cond: (deletion_request_id = r.id)" in of_the_ledger, of_the_ledger
    assert "Index Cond: (deletion_request_id = r.id)" in of_the_look, of_the_look


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


def test_exports_are_locked_by_their_ids_and_not_compared_with_all_that_never_expire(db: None) -> None:
    values = {"ids": list(range(1, 51)), "keys": [str(each) for each in range(1, 51)]}
    with connection.cursor() as cursor:
        plan = plan_of(cursor, records._LOCK_OURS, values)
    assert "Join" not in plan, plan


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
        assert cursor.fetchall() == [], "set STATISTICS 0 as compliance/migrations/0024_chatbots_uncounted.py does"
