"""Objects of the ledger: what they say, that the database knows each before it exists, and how lost ones return."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from common.crypto import digest
from common.db import fetch
from common.storage import ObjectStorage, StorageError
from compliance.ledger import content, journal, lines, objects, service
from compliance.ledger.content import FORMAT, Fault, Header, InvalidLedgerObject, seal, unseal
from compliance.models import ComplianceRequest, LedgerObject, Occurrence, Service
from tests.compliance.conftest import Drain
from tests.factories import as_bytes, conversation_of, deletion_of, of_conversations, uci_of
from tests.hostile import Hostile, swallowing
from tests.ledger import header, keys_of, lines_of, noted, put, recovered, state
from tests.patches import after, before


def test_a_deletion_is_in_the_ledger_before_and_after_without_values(chatbot, drain, storage) -> None:
    conversation = conversation_of(chatbot, "value-of-the-chatter", external_id="id-of-the-platform")
    erased = as_bytes(conversation.external_id_digest).hex()
    request = deletion_of(chatbot, "value-of-the-chatter")

    drain()

    request.refresh_from_db()
    names = {
        "request": str(request.pk),
        "chatbot": str(chatbot.public_id),
        "variable": str(uci_of(chatbot).public_id),
        "variable_name": "member_id",
        "variable_category": "custom",
        "chatter": as_bytes(request.uci_digest).hex(),
        "erase_exports": False,
        "received_at": request.received_at.isoformat(),
        "requested_at": None,
        "due_at": request.due_at.isoformat(timespec="microseconds"),
        "deadline": "30",
        **dict.fromkeys(("extended_at", "extension_reason", "answered_at")),
        "filed_by": request.filed_by,
        **dict.fromkeys(("approved_by", "extended_by"), ""),
    }
    assert lines_of(storage) == [
        {"kind": "accepted", **names, "request_kind": "deletion", "conversations": None},
        {
            "kind": "exact",
            **names,
            "named": None,
            "cutoff_at": request.cutoff_at.isoformat(),
            "conversations": [erased],
        },
    ]
    for key in keys_of(storage):
        assert "value-of-the-chatter" not in key + storage.read(key).decode()
        assert "id-of-the-platform" not in key + storage.read(key).decode()


def test_the_ledger_has_what_a_deletion_named_and_what_it_erased(chatbot, drain, storage) -> None:
    conversation_of(chatbot, external_id="c-1")
    of_conversations(chatbot, "c-1", "c-unknown")
    drain()

    named = [digest("conversation", chatbot.public_id, each).hex() for each in ("c-1", "c-unknown")]
    accepted, exact = lines_of(storage)
    assert (exact["variable"], exact["chatter"]) == (None, None)
    assert sorted(accepted["conversations"]) == sorted(exact["named"]) == sorted(named)
    assert exact["conversations"] == named[:1]


def test_conversations_of_a_large_deletion_are_in_several_lines_and_objects(chatbot, drain, storage, monkeypatch):
    monkeypatch.setattr(lines, "CONVERSATIONS_PER_LINE", 2)
    monkeypatch.setattr(objects, "_LINES_BYTES", 1_000)
    digests = {as_bytes(conversation_of(chatbot, "42").external_id_digest).hex() for _ in range(5)}
    deletion_of(chatbot, "42")
    drain()

    exact = lines_of(storage, "exact")
    assert [len(line["conversations"]) for line in exact] == [2, 2, 1]
    assert {each for line in exact for each in line["conversations"]} == digests
    assert len(list(keys_of(storage))) == 3
    assert not LedgerObject.objects.filter(written_at=None).exists()


def test_each_object_has_a_row_that_was_there_first(chatbot, drain, storage, monkeypatch) -> None:
    known: list[int] = []

    def look(_: ObjectStorage, key: str, *__: object, **___: object) -> None:
        known.append(LedgerObject.objects.filter(key=key, written_at=None).count())

    before(monkeypatch, ObjectStorage, "put", look)
    request = deletion_of(chatbot, "42")
    drain()

    assert known == [1, 1]
    rows = LedgerObject.objects.order_by("at")
    assert [row.key for row in rows] == list(keys_of(storage))
    for row in rows:
        assert (row.request_ids, row.key_prefixes) == ([request.pk], [])
        assert as_bytes(row.sha256) == sha256(storage.read(row.key)).digest()
        assert row.key.startswith(f"erasure_ledger/{Service.objects.get().service_id}/{row.at:%Y/%m/%d/%H%M%S}-")


@pytest.mark.django_db(transaction=True)
def test_a_row_is_on_disk_before_its_object_is_written() -> None:
    """Even in this database, which waits for no other commit. After a crash the object would be unknown."""
    service.current()
    [(before,)] = fetch("SELECT pg_current_wal_insert_lsn()")
    objects._begin([], [])
    [(is_flushed,)] = fetch("SELECT pg_current_wal_flush_lsn() > %s::pg_lsn", [before])
    assert is_flushed


def test_keys_are_in_the_order_of_writing_when_the_clock_goes_back(storage: ObjectStorage) -> None:
    later = timezone.now() + timedelta(hours=3)
    LedgerObject.objects.create(key="erasure_ledger/x", at=later)

    objects.write([{"kind": "accepted"}], request_ids=[]).confirm()

    assert LedgerObject.objects.latest("pk").at == later
    assert f"/{later:%Y/%m/%d/%H%M%S}-" in next(keys_of(storage))


@pytest.fixture
def swallowed(versioned: ObjectStorage, settings: Settings) -> Iterator[Hostile]:
    """The hosted bucket behind a proxy that drops the first response to a PUT of an object."""
    puts: list[bytes] = []

    def is_first_put(head: bytes) -> bool:
        if head.startswith(b"PUT"):
            puts.append(head)
        return head.startswith(b"PUT") and len(puts) == 1

    with swallowing(str(settings.S3_ENDPOINT_URL), swallow=is_first_put) as proxy:
        settings.S3_ENDPOINT_URL = proxy.url()
        yield proxy


def test_an_object_whose_answer_was_lost_is_written_under_another_name(swallowed: Hostile) -> None:
    objects.write([{"kind": "accepted"}], request_ids=[]).confirm()

    bucket = hosted_storage()
    assert len(list(bucket.versions(objects.PREFIX))) == len(list(keys_of(bucket))) == 2
    assert lines_of(bucket) == [{"kind": "accepted"}] * 2
    assert [row.written_at is not None for row in LedgerObject.objects.order_by("pk")] == [False, True]


def test_an_object_whose_answer_was_lost_is_not_sent_again(swallowed: Hostile) -> None:
    with pytest.raises(StorageError) as caught:
        hosted_storage().put("a/key", b"x", "text/plain")

    assert caught.value.code == "storage_unavailable"
    assert [version.key for version in hosted_storage().versions()] == ["a/key"]


def test_an_object_is_never_larger_than_its_readers_allow() -> None:
    """Whatever its lines name: conversations, messages, or what a deletion was filed for."""
    digests = ["0" * 64] * 100
    for name in ("conversations", "messages", "named"):
        line = {"kind": "exact", "request": str(uuid4()), name: digests}
        sizes = [len(json.dumps(part)) for part in objects.parts([line] * 2_000)]
        assert max(sizes) < objects._MOST_BYTES
        assert len(sizes) < 2_000


@pytest.mark.parametrize("first", [b"", b'{"format":"nothing of ours"}\n', b'{"format":"erasure-ledger/3","more":"'])
def test_what_cannot_be_an_object_of_the_ledger_is_not_read_to_its_end(storage: ObjectStorage, first: bytes) -> None:
    key = f"{objects.folder()}2026/11/26/120000-one.jsonl"
    storage.put(key, first + b"x" * (6 * 1024 * 1024), content_type=objects.CONTENT_TYPE)
    pieces: list[int] = []
    stream = ObjectStorage.stream

    def counted(self: ObjectStorage, key: str) -> Iterator[bytes]:
        for piece in stream(self, key):
            pieces.append(len(piece))
            yield piece

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ObjectStorage, "stream", counted)
        with pytest.raises(InvalidLedgerObject) as caught:
            objects.read(key, service_id=service.current().service_id)

    assert caught.value.fault is Fault.UNREADABLE
    assert len(pieces) == 1


def test_a_bucket_that_was_rolled_back_is_written_again_with_what_is_true_today(
    ours: Service, chatbot: Chatbot, drain: Drain, storage: ObjectStorage, caplog: pytest.LogCaptureFixture
) -> None:
    conversation_of(chatbot, "member-1")
    request = deletion_of(chatbot, "member-1")
    drain()
    exact = lines_of(storage, "exact")
    before = dict(LedgerObject.objects.values_list("key", "sha256"))
    for key in list(keys_of(storage)):
        storage.purge(key)
    service.begin_incarnation()

    assert state() == "open"

    # Also the object from two days ago, which the listing does not reach.
    assert set(keys_of(storage)) == before.keys()
    assert lines_of(storage) == exact * 2
    assert exact[0]["request"] == str(request.pk)
    life = service.current().incarnation
    for row in LedgerObject.objects.all():
        assert row.sha256
        assert content.unseal(storage.read(row.key), key=row.key).header.incarnation == life
    assert noted(Occurrence.Name.LEDGER_MISSING) == 1
    assert "ledger.missing" in caplog.text
    assert state() == "open"
    assert (noted(Occurrence.Name.LEDGER_MISSING), noted(Occurrence.Name.LEDGER_FOREIGN)) == (1, 0)
    assert service.current().mended_to is None


def test_what_was_withdrawn_or_has_begun_since_is_written_again_as_that(ours, chatbot, storage) -> None:
    """Of what has begun the files may be gone: after a restore it can neither be held nor cancelled."""
    request, begun = deletion_of(chatbot, "member-1"), deletion_of(chatbot, "member-2")
    journal.write_accepted([request.pk, begun.pk])
    storage.purge(LedgerObject.objects.latest("pk").key)
    ComplianceRequest.objects.filter(pk=request.pk).update(
        status="cancelled", cancelled_at=timezone.now(), uci_value=None
    )
    ComplianceRequest.objects.filter(pk=begun.pk).update(started_at=timezone.now())

    assert state() == "open"

    (withdrawn,) = (line for line in lines_of(storage) if line["request"] == str(request.pk))
    assert (withdrawn["kind"], withdrawn["status"]) == ("withdrawn", "cancelled")
    assert [line["request"] for line in lines_of(storage, "intended")] == [str(begun.pk)]


def test_a_database_that_was_restored_writes_nothing_again(ours: Service, storage: ObjectStorage) -> None:
    """Together with its bucket, from backups of different days: what it knows is not true any more."""
    gone = put(storage, header(ours, age=timedelta(hours=3)), is_known=True)
    storage.purge(gone)
    put(storage, header(ours))
    recovered()
    assert state() != "open"
    assert noted(Occurrence.Name.LEDGER_MISSING) == 0
    assert gone not in set(keys_of(storage))


def test_nothing_is_written_over_that_a_listing_has_left_out(ours, storage, monkeypatch) -> None:
    """A storage that lists late, or as of before."""
    left_out = put(storage, header(ours), is_known=True)
    before = storage.read(left_out)
    row = LedgerObject.objects.filter(key=left_out)
    as_it_was = row.values("sha256", "written_at").get()
    keys = ObjectStorage.keys
    monkeypatch.setattr(ObjectStorage, "keys", lambda *a, **k: (key for key in keys(*a, **k) if key != left_out))
    assert state() == "open"
    assert noted(Occurrence.Name.LEDGER_MISSING) == 1
    assert storage.read(left_out) == before
    assert row.values("sha256", "written_at").get() == as_it_was


def test_mending_stops_once_the_database_is_closed(ours, storage, monkeypatch) -> None:
    monkeypatch.setattr(journal, "_ROWS_AT_ONCE", 1)
    for key in [put(storage, header(ours, age=timedelta(hours=hours)), is_known=True) for hours in (5, 4, 3)]:
        storage.purge(key)
    before = set(keys_of(storage))
    after(
        monkeypatch,
        ObjectStorage,
        "put",
        lambda *_, **__: service.trip(service.State.RESTORED, service.Reason.OTHER_SERVER),
    )
    journal.begin_mending(3)
    journal.mend()
    assert len(set(keys_of(storage)) - before) == 1


def test_what_is_lost_is_written_again_in_steps(ours, storage, monkeypatch) -> None:
    monkeypatch.setattr(journal, "_ROWS_AT_ONCE", 2)
    known = [put(storage, header(ours, age=timedelta(hours=hours)), is_known=True) for hours in (5, 4, 3, 2, 1)]
    for key in (known[0], known[3], known[4]):
        storage.purge(key)
    journal.begin_mending(1)
    for done in (2, 4, 6, None):
        Occurrence.objects.update(asked_at=None)
        journal.mend(seconds=0)
        mended_to = service.current().mended_to
        rows = list(LedgerObject.objects.order_by("pk").values_list("pk", flat=True))
        assert mended_to == (done and rows[done - 1])
    assert set(known) <= set(keys_of(storage))
    assert noted(Occurrence.Name.LEDGER_MISSING) == 1


# --- What is believed ------------------------------------------------------------------------------------


KEY = "erasure_ledger/service/2026/11/26/120000-one.jsonl"
HEADER = Header(KEY, UUID(int=1), UUID(int=2), datetime(2026, 11, 26, 12, tzinfo=UTC))
LINES = [{"kind": "accepted", "request": "1"}, {"kind": "exact", "request": "2", "conversations": ["ab", "cd"]}]


def fault_of(content: bytes, key: str = KEY) -> Fault:
    with pytest.raises(InvalidLedgerObject) as caught:
        unseal(content, key=key)
    return caught.value.fault


def test_it_says_what_was_written() -> None:
    read = unseal(seal(HEADER, LINES), key=KEY)

    assert (read.header, read.lines) == (HEADER, LINES)


def sealed(format: Any = FORMAT) -> bytes:  # noqa: A002
    return seal(HEADER, LINES).replace(json.dumps(FORMAT).encode(), json.dumps(format).encode())


def test_an_object_at_another_key_or_under_another_digest_key_is_not_believed(settings: Settings) -> None:
    content = sealed()
    assert fault_of(content, KEY.replace("one", "two")) is Fault.MOVED
    settings.DIGEST_KEY = bytes(32)
    assert fault_of(content) is Fault.OTHER_KEY


@pytest.mark.parametrize("length", [-1, -2, -40, -90])
def test_a_truncated_object_is_not_believed(length: int) -> None:
    assert fault_of(sealed()[:length]) is Fault.TRUNCATED


def test_a_code_that_is_no_text_is_not_believed() -> None:
    """A user who can write to the bucket must not be able to stop the readers."""
    content = sealed()
    body, end = content[: content.rindex(b'{"lines"')], b'{"lines":2,"hmac":"\\ud800"}\n'

    assert fault_of(body + end) is Fault.FORGED


def test_nothing_is_parsed_but_two_short_lines_until_the_bytes_are_authentic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader would spend most of its time on objects that any user can put into the bucket."""
    sealed = seal(HEADER, [{"kind": "exact", "conversations": ["ab" * 32] * 1_000}] * 10)
    parsed: list[int] = []
    before(monkeypatch, json, "loads", lambda line: parsed.append(len(line)))
    for changed, fault in [
        (sealed.replace(b"abab", b"cdcd", 1), Fault.FORGED),
        (sealed[:-2], Fault.TRUNCATED),
        (sealed.replace(b'"hmac"', b'"lmac"'), Fault.FORGED),
        (b" " * 1024 + sealed, Fault.UNREADABLE),
        (sealed.replace(b'"lines":10', b'"lines":' + b"1" * 1024), Fault.TRUNCATED),
    ]:
        assert fault_of(changed) is fault

    assert max(parsed) <= 1024


def test_a_line_more_or_less_or_in_another_place_is_not_believed() -> None:
    header, first, second, end = seal(HEADER, LINES).splitlines(keepends=True)
    for read in ([first], [first, first, second], [second, first]):
        assert fault_of(b"".join([header, *read, end])) is Fault.FORGED


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"\n",
            b"{}",
            b"[]\n",
            b'{"version":1,"erased":[]}',
            b"\xff\xfe",
            b"[" * 100_000,
            b"[" * 1_000 + b"\n",
        ),
        *(sealed(name) for name in ("x", "erasure-ledger/1", "erasure-ledger/4", ["erasure-ledger/3"], None)),
    ],
)
def test_anything_else_is_unreadable(content: bytes) -> None:
    assert fault_of(content) is Fault.UNREADABLE


@given(st.data())
def test_no_change_of_a_byte_is_believed(data: st.DataObject) -> None:
    content = bytearray(seal(HEADER, LINES))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))

    assert fault_of(bytes(content))
