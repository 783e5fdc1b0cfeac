"""Each table and each object is looked at, also after one that cannot be searched; rows are read by an index."""

from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from common.db import BY_INDEX, execute, fetch
from common.storage import ObjectStorage
from compliance.canary import bucket, rows
from compliance.canary.rows import WITHOUT_CHATBOT
from compliance.canary.trouble import Budget, CannotTell
from compliance.canary.words import Search, planted
from compliance.models import CanaryTurn, Export, JournalEntry, LedgerObject
from conversations.models import Message
from conversations.models.conversations import EARLIEST
from tests.compliance.canary.support import collect
from tests.factories import (
    NOON,
    ConversationFactory,
    ExportFactory,
    MessageFactory,
    VariableValueFactory,
    conversation_of,
    export_of,
)
from tests.under_roles import role

# Of so few rows that no index would help: one chatbot has them all, or a key has one.
FEW = {"compliance_canaryturn", "compliance_canaryfinding", "chatbots_ratelimitwindow", "compliance_canary"}


@pytest.fixture
def turn(chatbot: Chatbot) -> CanaryTurn:
    return CanaryTurn.objects.create(chatbot=chatbot, day=datetime(2026, 11, 26, tzinfo=UTC).date())


def tables() -> list[rows._Table]:
    return [rows._Table(*row) for row in fetch(rows._TABLES)]


def test_each_table_is_known() -> None:
    without = {table.name for table in tables() if "chatbot_id" not in table.columns}

    assert without == WITHOUT_CHATBOT.keys() | {"chatbots_chatbot"}


def test_a_worker_may_read_all_that_is_searched(turn: CanaryTurn) -> None:
    with role("worker"):
        assert list(rows.look(Search(planted(turn.pk)), turn, since=NOON, budget=Budget(60))) == []


@pytest.mark.one_postgresql(reason="plans")
def test_rows_of_a_chatbot_are_read_by_an_index(turn: CanaryTurn) -> None:
    things: Any = {"conversations": [1, 2], "exports": [1, 2], "requests": [turn.pk], "entries": [1, 2]}
    with transaction.atomic():
        execute(BY_INDEX)
        for table in tables():
            if table.name in WITHOUT_CHATBOT or table.name in FEW or not table.readable:
                continue
            copy = rows.statement_for(table, turn, things, NOON).as_string(connection.connection)
            statement = copy.removeprefix("COPY (").removesuffix(") TO STDOUT")
            plan = "\n".join(line for (line,) in fetch(f"EXPLAIN {statement.replace('%', '%%')}"))
            assert "Seq Scan" not in plan, plan
            assert "Index Cond" in plan, plan
        for statement in chain(*rows._THINGS.values()):
            given = {"chatbot": turn.chatbot_id, "earliest": EARLIEST, "newest": 9}
            plan = "\n".join(line for (line,) in fetch(f"EXPLAIN {statement}", given))
            assert "Seq Scan" not in plan, plan


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
        chatbot=turn.chatbot, event="a.b", actor="command", data={"who": planted(turn.pk).value}
    )
    places: list[str] = []

    with role("worker"), pytest.raises(CannotTell, match="broken a_first"):
        collect(rows.look(Search(planted(turn.pk)), turn, since=NOON, budget=Budget(60)), places)

    assert places == ["chatbots_changelogentry.data"]


@pytest.mark.one_postgresql(reason="tables of the test's own")
def test_what_no_code_knows_of_a_chatbot_is_searched_and_nothing_else_taken_for_clean(turn: CanaryTurn) -> None:
    word = planted(turn.pk).value
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE of_others (chatbot_id bigint, said bytea)")
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
    places: list[str] = []

    with pytest.raises(CannotTell, match=r"table_unknown archive\.auth_user"):
        collect(rows.look(Search(planted(turn.pk)), turn, since=NOON, budget=Budget(60)), places)

    assert sorted(places) == ["archive.conversations_message.said", "kept.said", "of_others.said"]


def test_after_years_it_reads_the_newest_and_what_is_not_erased(turn, monkeypatch) -> None:
    monkeypatch.setattr(rows, "_MOST_ROWS", 100)
    monkeypatch.setattr(rows, "_NEWEST", 3)
    words, chatbot = planted(turn.pk), turn.chatbot
    # As a backup brings it back.
    oldest = ConversationFactory.create(chatbot=chatbot, started_at=NOON - timedelta(days=3000))
    VariableValueFactory.create(conversation=oldest, value=words.value)
    erased = {"external_id": None, "message_count": None, "deletion_request_id": turn.pk, "deleted_at": NOON}
    for said in [""] * 101 + [words.value]:
        ConversationFactory.create(chatbot=chatbot, started_at=NOON.replace(hour=0), **erased)
        export = ExportFactory.create(request=export_of(chatbot, "42", reference=said))
        Export.objects.filter(pk=export.pk).update(key=f"{export.pk} {said}")
        ChangeLogEntry.objects.create(chatbot=chatbot, event="a.b", actor="command", data={"who": said})
    # The ledger has them.
    JournalEntry.objects.all().delete()

    with role("worker"):
        found = list(rows.look(Search(words), turn, since=NOON, budget=Budget(60)))

    assert [one.where for one in found] == [
        "chatbots_changelogentry.data",
        "compliance_compliancerequest.reference",
        "compliance_export.key",
        "conversations_variablevalue.value",
    ]


def test_an_id_does_not_show_that_texts_are_read(turn: CanaryTurn) -> None:
    words = planted(turn.pk)
    conversation = conversation_of(turn.chatbot, words.value, messages=0, user_name=words.words["name"])
    VariableValueFactory.create(conversation=conversation, value=words.words["plan"])
    message = MessageFactory.create(conversation=conversation, external_id=words.message_id, text="")

    assert rows.control(Search(words), turn, budget=Budget(60)) == ["conversations_message.text"]
    Message.objects.filter(pk=message.pk).update(text=words.words["said"])
    assert rows.control(Search(words), turn, budget=Budget(60)) == []


def test_an_object_that_cannot_be_searched_does_not_hide_the_next(turn: CanaryTurn, storage: ObjectStorage) -> None:
    words = planted(turn.pk)
    folder = f"{turn.chatbot.slug}/chatter_data_exports"
    storage.put(f"{folder}/1.csv.gz", b"\x1f\x8b" + b"no gzip at all", "application/gzip")
    storage.put(f"{folder}/2.csv", words.file, "text/csv")
    places: list[str] = []

    with pytest.raises(CannotTell, match="too_much chatter_data_exports/"):
        collect(bucket.look(Search(words), turn, budget=Budget(60)), places)

    [place] = places
    assert place.endswith(" (content)")


def test_more_of_the_ledger_than_is_read_is_not_taken_for_clean(turn, storage, monkeypatch) -> None:
    monkeypatch.setattr(bucket, "_MOST_LEDGER_OBJECTS", 1)
    now = timezone.now()
    for key in ("erasure_ledger/1", "erasure_ledger/2"):
        LedgerObject.objects.create(key=key, at=now, written_at=now, request_ids=[turn.pk])
    LedgerObject.objects.create(key="erasure_ledger/3", at=now, written_at=now, request_ids=[uuid4()])
    keys = bucket.ledger_keys([turn.pk], since=now)

    assert keys == ["erasure_ledger/1", "erasure_ledger/2"]
    with pytest.raises(CannotTell, match="too_much erasure_ledger"):
        list(bucket.look(Search(planted(turn.pk)), turn, ledger_keys=keys, budget=Budget(60)))


def test_a_key_does_not_show_that_contents_are_read(turn: CanaryTurn, storage: ObjectStorage) -> None:
    words = planted(turn.pk)
    turn.file_id, turn.export_id = 1, turn.pk
    folder = f"{turn.chatbot.slug}/chatter_data_exports/{words.value}"
    storage.put(f"{folder}/1_files/1", words.file, "text/plain")
    storage.put(f"{folder}/1.csv", f"{words.value}\n".encode(), "text/csv")
    storage.put(f"uploads/{turn.chatbot_id}/{words.value}", b"", "text/plain")

    def unseen() -> list[str]:
        return bucket.control(words, turn, has_extract=False, budget=Budget(60))

    assert unseen() == ["chatter_data_exports", "uploads"]
    storage.put(f"{folder}/1.csv", words.words["said"].encode(), "text/csv")
    storage.put(f"uploads/{turn.chatbot_id}/1", words.file, "text/plain")
    assert unseen() == []
