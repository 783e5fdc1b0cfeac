"""The export of one chatter: the file, its name and its memory."""

import hashlib
from datetime import datetime, timedelta
from urllib.parse import unquote
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import example, given
from hypothesis import strategies as st

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.export.records import MAX_KEY_BYTES, export_key
from compliance.models import Export
from conversations.csv_cells import HEADER
from conversations.models import Conversation
from tests import factories
from tests.compliance.exporting import (
    AT,
    Peak,
    carry_out,
    committed,
    export_of_request,
    exported,
    open_uploads,
    patch_pieces,
    taken,
)

# --- The file ------------------------------------------------------------------------------------------


@committed
def test_an_export_contains_the_chatters_data(chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage) -> None:
    factories.conversation_of(chatbot, "42", text='mine, "quoted"', messages=3)
    factories.conversation_of(chatbot, "43", text="another chatter's")
    factories.conversation_of(neighbour, "42", text="another chatbot's")
    factories.conversation_of(chatbot, "42", text="marked", deletion_request_id=uuid4())
    factories.conversation_of(chatbot, "42", "43", text="shared")
    export = exported(chatbot)
    data = storage.read(str(export.key))
    assert data.startswith(HEADER)
    assert data.count(b'"mine, ""quoted"""') == 3
    assert not any(text in data for text in (b"another", b"marked", b"shared"))
    request = export.request
    assert (request.status, request.result, request.uci_value) == ("completed", "done", None)
    assert (export.rows, request.conversations, request.messages, request.shared_conversations) == (3, 1, 3, 1)
    assert (export.bytes, export.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert list(storage.keys()) == [export.key]
    assert (export.upload_id, open_uploads(storage)) == (None, [])


@committed
def test_it_records_key_and_upload_before_the_first_byte(chatbot, storage, monkeypatch) -> None:
    seen: list[Export] = []
    patch_pieces(monkeypatch, lambda: seen.append(Export.objects.get()))
    export = exported(chatbot)
    assert (seen[0].pk, seen[0].key) == (export.pk, export.key)
    assert seen[0].upload_id


@committed
def test_it_keeps_the_value_out_of_the_statements_text(chatbot, storage, monkeypatch) -> None:
    """PostgreSQL shows a statement's text while it runs, and may keep it for good."""
    secret = f"value-{uuid4()}"
    factories.conversation_of(chatbot, secret)
    shown: list[str] = []

    def look() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND query LIKE '%COPY (%'"
            )
            shown.extend(row[0] for row in cursor.fetchall())

    patch_pieces(monkeypatch, look)
    exported(chatbot, secret)
    assert len(shown) == 1
    assert secret not in shown[0]


# --- Its name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "folder"),
    [
        ("42", "42"),
        ("Erin-1_x.y@example.org", "Erin-1_x.y@example.org"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("...", "..."),
        ("../..", "..%2F.."),
        ("a/b//c", "a%2Fb%2F%2Fc"),
        ("a b+c~d%2Fe", "a%20b%2Bc%7Ed%252Fe"),
        ("é\u202e", "%C3%A9%E2%80%AE"),
        ("\n\\", "%0A%5C"),
    ],
)
def test_it_is_named_after_the_value_percent_encoded(value: str, folder: str) -> None:
    key = export_key(prefix="acme/", value=value, at=AT)
    assert key == f"acme/chatter_data_exports/{folder}/20261123_090507_conversation_export.csv"


def test_it_is_named_by_the_second_in_utc() -> None:
    at = datetime.fromisoformat("2026-01-01T00:30:00+05:30")
    key = export_key(prefix="", value="42", at=at, number=2)
    assert key == "chatter_data_exports/42/20251231_190000_conversation_export_2.csv"


@given(value=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=512), number=st.integers(1, 9999))
@example(value="é" * 512, number=1)
@example(value="x" * 512, number=1)
@example(value="\U0001f600" * 512, number=3)
def test_it_never_leaves_its_folder_nor_passes_900_bytes(value: str, number: int) -> None:
    key = export_key(prefix="a" * 64 + "/", value=value, at=AT, number=number)
    _, top, folder, name = key.split("/")
    assert top == "chatter_data_exports"
    assert folder not in {"", ".", ".."}
    assert name.startswith("20261123_090507_conversation_export")
    assert key.isascii()
    assert len(key) <= MAX_KEY_BYTES
    if len(folder) < 700:
        assert unquote(folder) == value
    else:
        assert folder.endswith(hashlib.sha256(value.encode()).hexdigest())
        unquote(folder, errors="ignore").encode()


@committed
def test_it_numbers_a_second_file_of_the_same_second(chatbot: Chatbot, storage: ObjectStorage) -> None:
    request = factories.export_of(chatbot, "42")
    now = timezone.now()
    for seconds in range(30):
        key = export_key(prefix="acme/", value="42", at=now + timedelta(seconds=seconds))
        factories.ExportFactory.create(request=factories.export_of(chatbot, "42"), chatbot=chatbot, key=key)
    carry_out(taken(request))
    key = str(export_of_request(request).key)
    assert key.endswith("_conversation_export_2.csv")
    assert storage.exists(key)


# --- Its size ------------------------------------------------------------------------------------------


@pytest.mark.long(reason="300,000 messages are stored and written")
@committed
def test_it_needs_little_memory_for_300_000_messages(chatbot: Chatbot, storage: ObjectStorage) -> None:
    conversation: Conversation = factories.conversation_of(chatbot, "42", messages=0)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)
            SELECT %s, %s, 'm' || g, 'user', 'text', repeat('some words ', 30), now() + g * interval '1 second'
              FROM generate_series(1, 300000) g
            """,
            [chatbot.pk, conversation.pk],
        )
    exported(chatbot, "nobody")  # the client and its libraries are loaded
    with Peak() as peak:
        export = exported(chatbot)
    assert export.rows == export.request.messages == 300_000
    assert export.bytes > 100 * 2**20
    assert peak.growth < 100 * 2**20
