"""One member of the shared data is exported and deleted; checked by the file, the dump and the bucket."""

import csv
import io
from typing import Any

import pytest
from django.db import connection

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from conversations.models import Conversation, Message
from tests import factories
from tests.calls import SigningCaller, TokenCaller
from tests.commands import report, run
from tests.functional.support import (
    SHARED_DATA,
    Rows,
    dump,
    everything_in,
    needs_shared_data,
    rows_of,
    shared_documents,
)

MEMBER = "M00088"
BODY = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": MEMBER}

pytestmark = needs_shared_data


@pytest.fixture
def imported(storage: ObjectStorage) -> Chatbot:
    chatbot = factories.ready_chatbot(slug="acme")
    run("import_conversations", "acme", str(SHARED_DATA))
    return chatbot


def members_documents() -> list[dict[str, Any]]:
    return [document for document in shared_documents() if document["custom_variables"]["member_id"] == MEMBER]


@pytest.mark.long(reason="thousands of messages are imported twice")
def test_the_import_loads_everything_and_again_changes_nothing(imported: Chatbot) -> None:
    assert (Conversation.objects.count(), Message.objects.count()) == (2098, 38768)
    before = dump()

    summary = report("import_conversations", "acme", str(SHARED_DATA))

    # Not a row, and not a sequence either.
    assert dump() == before
    assert (summary["unchanged"], summary["created"], summary["updated"], summary["refused"]) == (2098, 0, 0, 0)


def test_export_and_deletion_of_one_member(imported: Chatbot, storage: ObjectStorage) -> None:
    signed = SigningCaller(imported)
    exported = signed.post("data-export", BODY).json()
    worker.drain(seconds=60)

    _compare_csv_with_file(imported, exported["request_id"], storage)
    before = rows_of(dump())
    numbers = {str(number) for number in _numbers()}

    deleted = signed.post("data-deletion", BODY | {"erase_exports": True})
    assert deleted.status_code == 200
    worker.drain(seconds=60)

    after = dump()
    status = TokenCaller(imported).get(f"requests/{deleted.json()['request_id']}").json()
    documents = members_documents()
    messages = sum(len(document["messages"]) for document in documents)
    assert (status["status"], status["result"]) == ("completed", "done")
    assert (status["counts"]["conversations"], status["counts"]["messages"]) == (len(documents), messages)
    assert status["counts"]["exports"] == 1
    _look_for_the_member(documents, after, everything_in(storage))
    _compare_neighbours(before, rows_of(after), numbers)


def _numbers() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT conversation_id FROM conversations_identity WHERE value = %s", [MEMBER])
        return [row[0] for row in cursor.fetchall()]


def _compare_csv_with_file(chatbot: Chatbot, request_id: str, storage: ObjectStorage) -> None:
    export = TokenCaller(chatbot).get(f"requests/{request_id}").json()["export"]
    assert export["key"].startswith(f"acme/chatter_data_exports/{MEMBER}/")
    text = storage.read(export["key"]).decode()
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    wanted = [
        (document["id"], message["id"], message["sender"], message["text"])
        for document in members_documents()
        for message in document["messages"]
    ]
    got = [(row["conversation_id"], row["message_id"], row["sender"], row["text"].removeprefix("'")) for row in lines]
    assert sorted(got) == sorted(wanted)
    assert export["rows"] == len(wanted)
    assert {row["uci_value"] for row in lines} == {MEMBER}


def _look_for_the_member(documents: list[dict[str, Any]], database: str, bucket: str) -> None:
    """Search for texts, ids and comments that are this member's alone: many members say "Yes, thanks."."""
    theirs: set[str] = {MEMBER}
    for document in documents:
        theirs |= {document["id"], *(message["text"] for message in document["messages"])}
        theirs.add(document.get("csat", {}).get("comment") or MEMBER)
    others: set[str] = set()
    for document in shared_documents():
        if document["custom_variables"]["member_id"] != MEMBER:
            others |= {message["text"] for message in document["messages"]}
    planted = {text for text in theirs - others if not any(text in other for other in others)}
    assert len(planted) > 40
    left = [text for text in planted if text in database or text in bucket]
    assert not left, f"{len(left)} of {len(planted)} strings of the member are still there"


def _compare_neighbours(before: Rows, after: Rows, numbers: set[str]) -> None:
    """Only the member's rows are removed, and all other rows are unchanged byte for byte."""
    for table in (name for name in before if name.startswith(("conversations_", "chatbots_"))):
        gone = before[table] - after[table]
        if table in {"conversations_conversation", "conversations_message", "conversations_identity"}:
            position = _position(table, "id" if table == "conversations_conversation" else "conversation_id")
            assert {row[position] for row in gone} <= numbers
        else:
            assert not gone, table
    assert len(before["conversations_conversation"]) == len(after["conversations_conversation"]) == 2098


def _position(table: str, column: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT ordinal_position FROM information_schema.columns WHERE table_name = %s AND column_name = %s",
            [table, column],
        )
        return int(cursor.fetchone()[0]) - 1
