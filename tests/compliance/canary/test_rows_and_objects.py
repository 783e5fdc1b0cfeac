"""Each table and each object is looked at, also after one that cannot be searched; rows are read by an index."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from common import outbound
from common.db import by_index, execute, fetch
from common.storage import ObjectStorage
from compliance.canary import bucket, rows
from compliance.canary.words import Planted
from compliance.canary.work import Work
from compliance.models import CanaryTurn, Export, JournalEntry, LedgerObject
from tests.compliance.canary.support import places
from tests.factories import (
    NOON,
    ConversationFactory,
    ExportFactory,
    VariableValueFactory,
    export_of,
)
from tests.under_roles import role

# Of so few rows that no index would help: one chatbot has them all, or a key has one.
FEW = {"compliance_canaryturn", "chatbots_ratelimitwindow", "compliance_canary", "compliance_legalholdconversation"}


@pytest.fixture
def turn(chatbot: Chatbot) -> CanaryTurn:
    return CanaryTurn.objects.create(chatbot=chatbot, day=NOON.date())


def look(turn: CanaryTurn) -> tuple[list[str], str]:
    """Return the columns with a word of the turn, and what could not be looked at."""
    work = Work(turn)
    rows.scan(work)
    return places(work), str(work.trouble or "")


@pytest.mark.one_postgresql(reason="plans")
def test_rows_of_a_chatbot_are_read_by_an_index(turn: CanaryTurn) -> None:
    some = {"conversation": [1, 2], "export": [1, 2], "request": [turn.pk]}
    given = rows.parameters(Work(turn)) | some
    statements = list(rows._NEWEST_OF.values()) + [
        rows.statement_for(table)
        for table in rows.tables()
        if "chatbot_id" in table.columns and table.name not in FEW and table.readable
    ]
    assert len(statements) > 20
    with transaction.atomic():
        execute(by_index())
        for statement in statements:
            plan = "\n".join(line for (line,) in fetch(f"EXPLAIN {statement}", given))
            assert "Seq Scan" not in plan, plan
            assert "Index Cond" in plan, plan


@pytest.mark.one_postgresql(reason="tables of the test's own")
def test_what_cannot_be_read_does_not_end_the_search(turn: CanaryTurn) -> None:
    execute(
        """
        CREATE TABLE a_first AS SELECT id AS chatbot_id FROM chatbots_chatbot;
        GRANT SELECT ON a_first TO tests_worker;
        ALTER TABLE a_first ENABLE ROW LEVEL SECURITY;
        CREATE POLICY broken ON a_first USING (1 / (chatbot_id - chatbot_id) > 0);
        CREATE TABLE a_second (text text);
        """
    )
    ChangeLogEntry.objects.create(
        chatbot=turn.chatbot, event="a.b", actor="command", data={"who": Planted(turn.pk).value}
    )

    with role("worker"):
        assert look(turn) == (["chatbots_changelogentry.data"], "broken a_first")


@pytest.mark.one_postgresql(reason="tables of the test's own")
@pytest.mark.parametrize("name", ["auth_copy", "auth_archive.message"])
def test_a_table_that_no_code_knows_is_missed_whatever_its_name_begins_with(turn: CanaryTurn, name: str) -> None:
    execute("CREATE SCHEMA auth_archive")
    execute(f"CREATE TABLE {name} (chatbot_id bigint, said text); REVOKE ALL ON {name} FROM PUBLIC")

    with role("worker"):
        assert look(turn) == ([], f"rights_missing {name}.chatbot_id")


@pytest.mark.one_postgresql(reason="tables of the test's own")
def test_what_no_code_knows_of_a_chatbot_is_searched_and_nothing_else_taken_for_clean(turn: CanaryTurn) -> None:
    word = Planted(turn.pk).value
    with connection.cursor() as cursor:
        cursor.execute('CREATE TABLE of_others (chatbot_id bigint, "said %%s" bytea)', [])
        cursor.execute(
            "INSERT INTO of_others VALUES (%s, %s), (%s, '')", [turn.chatbot_id, word.encode(), turn.chatbot_id]
        )
        cursor.execute("CREATE SCHEMA archive")
        cursor.execute("CREATE TABLE archive.conversations_message (chatbot_id bigint, said text)")
        cursor.execute("INSERT INTO archive.conversations_message VALUES (%s, %s)", [turn.chatbot_id, word])
        cursor.execute("CREATE TABLE archive.auth_user AS SELECT 1 AS id")
        # It keeps what its table has lost.
        cursor.execute(
            "CREATE MATERIALIZED VIEW kept AS SELECT chatbot_id, %s::text AS said FROM compliance_canaryturn", [word]
        )

    assert look(turn) == (
        ["archive.conversations_message.said", "kept.said", "of_others.said %s"],
        "table_unknown archive.auth_user",
    )


def test_a_statement_that_has_no_time_is_not_taken_for_clean(turn: CanaryTurn) -> None:
    with outbound.within(4):
        assert look(turn) == ([], "too_long database")


def test_after_years_it_reads_the_newest_and_what_is_not_erased(turn, monkeypatch) -> None:
    monkeypatch.setattr(rows, "_NEWEST", 3)
    words, chatbot = Planted(turn.pk), turn.chatbot
    # As a backup brings it back.
    oldest = ConversationFactory.create(chatbot=chatbot, started_at=NOON - timedelta(days=3000))
    VariableValueFactory.create(conversation=oldest, value=words.value)
    erased = {"external_id": None, "message_count": None, "deletion_request_id": turn.pk, "deleted_at": NOON}
    for said in [words.value, "", "", "", words.value]:
        ConversationFactory.create(chatbot=chatbot, started_at=NOON.replace(hour=0), **erased)
        export = ExportFactory.create(request=export_of(chatbot, "42", reference=said))
        Export.objects.filter(pk=export.pk).update(key=f"{export.pk} {said}")
        ChangeLogEntry.objects.create(chatbot=chatbot, event="a.b", actor="command", data={"who": said})
    # The ledger has them.
    JournalEntry.objects.all().delete()

    with role("worker"):
        found, _ = look(turn)

    assert found == [
        "chatbots_changelogentry.data",
        "compliance_compliancerequest.reference",
        "compliance_export.key",
        "conversations_variablevalue.value",
    ]
    assert len(rows.parameters(Work(turn))["request"]) == 3


def test_an_object_that_cannot_be_searched_does_not_hide_the_next(turn: CanaryTurn, storage: ObjectStorage) -> None:
    words, work = Planted(turn.pk), Work(turn)
    folder = f"{turn.chatbot.slug}/chatter_data_exports"
    storage.put(f"{folder}/1.csv.gz", b"\x1f\x8b" + b"no gzip at all", "application/gzip")
    storage.put(f"{folder}/2.csv", words.file, "text/csv")

    bucket.scan(work)

    [place] = places(work)
    assert place.endswith(" (content)")
    assert str(work.trouble).startswith("too_much chatter_data_exports/")


def test_of_the_ledger_what_is_new_and_names_the_turn_is_read(turn: CanaryTurn, storage: ObjectStorage) -> None:
    words, now, work = Planted(turn.pk), timezone.now(), Work(turn)
    turn.deletion_id = turn.pk
    for key, at, request_id in [("1", now, turn.pk), ("2", now - timedelta(days=2), turn.pk), ("3", now, uuid4())]:
        storage.put(f"erasure_ledger/{key}", words.file, "application/json")
        LedgerObject.objects.create(key=f"erasure_ledger/{key}", at=at, written_at=now, request_ids=[request_id])

    bucket.scan(work)

    assert len(places(work)) == 1
