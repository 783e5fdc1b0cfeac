"""What one chatter gets: the file, its name, and what it costs."""

import hashlib
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import example, given
from hypothesis import strategies as st

from chatbots.buckets import ObjectStorage
from chatbots.models import Chatbot
from compliance.claims import HeldClaim
from compliance.export import engine
from compliance.export.naming import MAX_KEY_BYTES, export_key
from compliance.models import Export
from conversations.models import Conversation
from conversations.transcripts import HEADER, ChatterTranscript
from tests import factories
from tests.compliance.exporting import AT, committed, exported, open_uploads, patch_chunks, taken

# --- The file ------------------------------------------------------------------------------------------


@committed
def test_it_delivers_what_is_held_of_the_chatter(
    chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage
) -> None:
    factories.conversation_of(chatbot, "42", text='mine, "quoted"', messages=3)
    factories.conversation_of(chatbot, "43", text="another chatter's")
    factories.conversation_of(neighbour, "42", text="another chatbot's")
    factories.conversation_of(chatbot, "42", text="marked", deletion_request_id=uuid4())
    factories.conversation_of(chatbot, "42", "43", text="shared")
    delivered = exported(chatbot)
    data = storage.read(delivered.key)
    assert data.startswith(HEADER)
    assert data.count(b'"mine, ""quoted"""') == 3
    assert not any(text in data for text in (b"another", b"marked", b"shared"))
    assert (delivered.rows, delivered.conversations, delivered.messages, delivered.shared_left_out) == (3, 1, 3, 1)
    assert (delivered.bytes, delivered.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert list(storage.keys()) == [delivered.key]
    assert open_uploads(storage) == []


@committed
def test_it_includes_shared_conversations_when_asked(chatbot: Chatbot, storage: ObjectStorage) -> None:
    factories.conversation_of(chatbot, "42", "43", text="shared", messages=1)
    delivered = exported(chatbot, include_shared=True)
    assert b"shared" in storage.read(delivered.key)
    assert (delivered.conversations, delivered.shared_left_out) == (1, 0)


@committed
def test_it_delivers_a_header_when_nothing_is_held(chatbot: Chatbot, storage: ObjectStorage) -> None:
    delivered = exported(chatbot, "unknown")
    assert storage.read(delivered.key) == HEADER
    assert (delivered.rows, delivered.conversations, delivered.messages) == (0, 0, 0)


@committed
def test_it_records_key_and_upload_before_the_first_byte(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Export] = []
    patch_chunks(monkeypatch, lambda: seen.append(Export.objects.get()))
    delivered = exported(chatbot)
    assert (seen[0].pk, seen[0].key) == (delivered.export_id, delivered.key)
    assert seen[0].upload_id


@committed
def test_it_reads_one_instant(chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes between counting and reading is in neither."""
    factories.conversation_of(chatbot, "42", messages=1)
    count = ChatterTranscript.count

    def count_then_more(self: ChatterTranscript) -> Any:
        counts = count(self)
        factories.conversation_of(chatbot, "42", messages=5)
        return counts

    monkeypatch.setattr(ChatterTranscript, "count", count_then_more)
    delivered = exported(chatbot)
    assert (delivered.rows, delivered.conversations, delivered.messages) == (1, 1, 1)


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


def test_it_tells_long_values_apart_by_their_digest() -> None:
    keys = {export_key(prefix="", value="é" * 500 + end, at=AT) for end in "abc"}
    assert len(keys) == 3
    assert {len(key) <= MAX_KEY_BYTES for key in keys} == {True}


@committed
def test_it_numbers_a_second_file_of_the_same_second(chatbot: Chatbot, storage: ObjectStorage) -> None:
    request = factories.export_of(chatbot, "42")
    now = timezone.now()
    for seconds in range(30):
        key = export_key(prefix="acme/", value="42", at=now + timedelta(seconds=seconds))
        factories.ExportFactory.create(request=factories.export_of(chatbot, "42"), chatbot=chatbot, key=key)
    delivered = engine.write_export(taken(request), request)
    assert delivered.key.endswith("_conversation_export_2.csv")
    assert storage.exists(delivered.key)


@committed
@pytest.mark.parametrize("value", ["../../other", "..", "\u00e9" * 512, "x" * 512, "\U0001f600/%2e%2e/"])
def test_it_stays_below_the_chatbots_slug(chatbot: Chatbot, storage: ObjectStorage, value: str) -> None:
    factories.conversation_of(chatbot, value, messages=1)
    delivered = exported(chatbot, value)
    assert list(storage.keys("acme/chatter_data_exports/")) == [delivered.key]
    assert delivered.rows == 1


# --- Its size ------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@committed
def test_it_needs_little_memory_for_300_000_messages(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    before = resident_bytes()
    peak = [before]
    monkeypatch.setattr(engine, "SECONDS_BETWEEN_KEEPS", 0.0)
    monkeypatch.setattr(HeldClaim, "keep", lambda held: peak.append(resident_bytes()))
    delivered = exported(chatbot)
    assert delivered.rows == delivered.messages == 300_000
    assert delivered.bytes > 100 * 2**20
    assert max(peak) - before < 100 * 2**20
