"""Exports in several formats when storage, claims or hostile files get in the way."""

import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.db.models import F
from django.test import Client
from django.utils import timezone
from psycopg import Connection

from chatbots.models import ChangeLogEntry
from common import leases
from common.crypto import encrypt
from common.storage import s3
from common.storage.s3 import STREAM_BYTES
from compliance import worker
from compliance.export.delivery import Delivery
from compliance.models import Claim, ComplianceRequest, Export, ExportFile
from compliance.requests import decisions, downloads
from compliance.work import sizes
from compliance.work.claims import HeldClaim
from conversations import chats, pages, uploads
from conversations.documents import MAX_TEXT
from conversations.models import Conversation
from conversations.transcripts import Transcripts
from tests.clients import CLIENT, PREFIX, empty, use_client_bucket
from tests.factories import UploadedFileFactory, conversation_of
from tests.functional.company import Company, attempts, document, events, key_of_file, settle, work
from tests.functional.redacting import redact, said
from tests.functional.refusing import in_the_gap
from tests.functional.test_export_formats import ALL, assert_whole, export_of, files_left, files_of, talk, texts_of
from tests.patches import before, failing


@pytest.mark.parametrize("options", [{}, {"archive": "zip"}], ids=["folder", "zip"])
def test_a_storage_that_fails_in_the_middle_of_a_file_stops_no_worker(company, storage, monkeypatch, options) -> None:
    # A part that is not taken is noticed when the next is sent, and then much is still to be read.
    monkeypatch.setattr(s3, "PART_BYTES", STREAM_BYTES)
    conversation_of(company.chatbot, "bob", text=secrets.token_hex(MAX_TEXT // 2), messages=100)
    company.talk("c-1", "alice")
    broken = company.export("bob", formats=["json"], **options)
    for formats in (["json"], ["html"], ["csv", "json"], ["csv", "html"]):
        company.export("alice", formats=formats)

    def abort() -> None:
        for upload in [each for each in storage.uploads("") if "/bob/" in each.key]:
            storage.abort(upload.key, upload.upload_id)

    met = in_the_gap(monkeypatch, "write_parts", "/bob/", "before", abort)
    worker.drain(seconds=30)
    assert met
    assert attempts(broken) == [1]
    others = ComplianceRequest.objects.exclude(pk=broken).values_list("status", "lane", "attempts")
    assert set(others) == {("completed", "normal", 0)}


def test_no_cursor_outlives_its_transaction(company, storage, monkeypatch) -> None:
    """A pooler in transaction mode would give its next statement another session."""
    monkeypatch.setattr(type(connections["default"]), "chunked_cursor", failing(AssertionError("a cursor")))
    talk(company, "c-1")
    export_of(company, formats=["html"])


def test_a_worker_that_lost_its_claim_leaves_no_upload_open(company, storage, monkeypatch) -> None:
    company.talk("c-1", "alice")
    export = company.export("alice", formats=ALL)

    def take_over() -> None:
        Claim.objects.update(expires_at=F("expires_at") - timedelta(hours=1))
        settle()

    met = in_the_gap(monkeypatch, "open_upload", "/conversations.jsonl", "before", take_over)
    worker.drain(seconds=30)
    assert met
    assert_whole(company, storage, export)


ENDINGS: dict[str, Callable[[Company, int, str], object]] = {
    "sweep": lambda *_: worker.sweep(),
    "deletion": lambda company, *_: approved(company.delete("alice")),
    "deletion with exports": lambda company, *_: approved(company.delete("alice", erase_exports=True)),
    "deletion by ids": lambda company, *_: approved(company.delete(["c-1"])),
    "redaction": lambda company, number, _: redact(company, number),
    "cancellation": lambda _company, _number, export: decisions.cancel(request_id=UUID(export), actor="user:7"),
    "retry": lambda company, _number, export: company.retry(export),
}


def approved(deletion: str) -> None:
    work()
    decisions.approve(request_id=UUID(deletion), actor="user:7")


@pytest.mark.long(reason="a storage of the client's own, and each way to end", beyond=1)
@pytest.mark.parametrize("ending", ENDINGS)
def test_half_of_a_folder_in_a_clients_bucket_goes(company, storage, server, refusals, ending) -> None:
    use_client_bucket(company.chatbot, server, identity=CLIENT)
    clients = server.storage()
    empty(clients)
    number = company.talk("c-1", "alice", has_file=True)
    refusals.forbidden.add("/index.html")
    export = company.export("alice", formats=ALL, include_files=True)
    settle()
    refusals.end()
    assert company.failure(export) == "storage_access_denied"
    left = set(clients.keys())
    assert {"conversations.csv", "page-1.html"} < {key.rpartition("/")[2] for key in left}
    # Of the same names, in another folder of the same bucket.
    theirs = {key.replace(PREFIX, "neighbour/") for key in left}
    for key in theirs:
        clients.put(key, b"of the neighbour", "text/plain")

    ENDINGS[ending](company, number, export)
    settle()
    worker.sweep()
    assert not ComplianceRequest.objects.exclude(status__in=["completed", "failed", "cancelled"]).exists()
    shown = company.request_object(export)["export"]
    files = {shown["key"], *(one["key"] for one in shown["files"])} if shown else set()
    assert bool(files) == (ending == "retry")
    assert set(clients.keys()) == theirs | files
    assert set(ExportFile.objects.values_list("key", flat=True)) == files - {shown and shown["key"]}
    assert list(clients.uploads()) == []
    assert events(export).count("request.completed") == bool(files)
    assert files_left(storage) == set()


def test_a_slow_bucket_has_as_long_for_each_format(company, storage, monkeypatch) -> None:
    limits: list[str] = []

    def look(reader: Connection[Any], _transcripts: Transcripts) -> None:
        limits.extend(*reader.execute("SHOW statement_timeout"))

    before(monkeypatch, chats, "read", look)
    company.talk("c-1", "alice")
    export_of(company, formats=ALL)
    assert limits == ["1h"]
    export_of(company, formats=ALL, archive="zip")
    assert limits == ["1h", "30min", "30min"]
    limits.clear()
    for person in ("bob", "carol", "dave"):
        company.talk(f"of-{person}", person)
        company.export(person, formats=ALL)
    company.export("alice", formats=["json"])
    settle()
    assert sorted(limits) == ["1h", "1h", "1h", "30min"]


def test_messages_are_in_the_order_of_the_csv(company, storage) -> None:
    late = said("late", "late") | {"sent_at": "2026-11-01T12:00:01Z"}
    same = [said(f"m{number}", f"m{number}") | {"sent_at": "2026-11-01T12:00:00Z"} for number in range(26)]
    company.send(document("c-1", "alice", messages=[late]))
    company.send(document("c-1", "alice", messages=[late, *same]))
    texts = texts_of(files_of(storage, export_of(company, formats=ALL)))
    in_order = [*(f"m{number}" for number in range(26)), "late"]
    assert texts == dict.fromkeys(ALL, in_order)


def test_a_long_text_is_read_alone(company, storage, monkeypatch) -> None:
    chunks: list[bytes] = []
    read = chats.json_lines

    def watched(found: Iterable[chats.Chat]) -> Iterator[bytes]:
        for chunk in read(found):
            chunks.append(chunk)
            yield chunk

    monkeypatch.setattr(chats, "json_lines", watched)
    messages = [said(f"m{number}", "\x01" * MAX_TEXT) for number in range(10)]
    company.send(document("c-1", "alice", messages=messages))
    export_of(company, formats=["json"])
    assert sum(map(len, chunks)) > 6_000_000
    assert max(map(len, chunks)) < 1_000_000


def test_conversations_without_messages_are_not_gathered() -> None:
    empty = (
        chats.Chat(number, b'{"conversation_id" : "' + b"x" * 2_000 + b'"}', iter(())) for number in range(1_000)
    )
    assert max(map(len, chats.json_lines(empty))) < 200_000


def test_a_changed_file_is_not_handed_over_in_a_zip(company, storage) -> None:
    key = key_of_file(company.talk("c-1", "alice", has_file=True))
    storage.purge(key)
    storage.put(key, b"another content", "image/jpeg")
    company.export("alice", formats=["html"], include_files=True, archive="zip")
    worker.drain(seconds=30)
    assert list(ComplianceRequest.objects.values_list("status", "error_code")) == [("accepted", "export_file_lost")]


def test_a_lease_is_renewed_while_a_file_shrinks_in_a_zip(company, storage, monkeypatch) -> None:
    number = company.talk("c-1", "alice")
    assert company.upload(number, "x" * (20 * STREAM_BYTES)).status_code == 201
    monkeypatch.setattr(leases, "SECONDS_BETWEEN_RENEWALS", 0.0)
    renewed: list[HeldClaim] = []
    before(monkeypatch, HeldClaim, "renew", renewed.append)
    export_of(company, formats=["csv"], archive="zip", include_files=True)
    assert len(renewed) >= 20


def test_few_exports_in_several_formats_begin_in_a_claim(company, storage, monkeypatch) -> None:
    monkeypatch.setattr(sizes, "FORMATS_AT_ONCE", 2)
    for number in range(5):
        company.export(f"p{number}", formats=["csv", "html"])
    company.export("plain")
    begun: list[int] = []

    def count(*_: object, **__: object) -> None:
        begun.append(ComplianceRequest.objects.filter(status="processing").exclude(formats="csv").count())

    before(monkeypatch, Delivery, "run", count)
    settle()
    assert max(begun) == 2
    assert set(ComplianceRequest.objects.values_list("status", flat=True)) == {"completed"}
    assert ChangeLogEntry.objects.filter(event="request.started").count() == 6


def test_pages_are_within_the_limit(company, storage, monkeypatch) -> None:
    monkeypatch.setattr(pages, "MOST_BYTES", 30_000)
    messages = [said(f"m{number}", f"{number} " + "x" * 2_000) for number in range(60)]
    company.send(document("c-1", "alice", messages=messages))
    Conversation.objects.update(has_file_upload=True)
    conversation = Conversation.objects.get()
    for number in range(150):
        UploadedFileFactory.create(conversation=conversation, name=f"{number}-{'x' * 200}.jpg", stored=True)
    files = files_of(storage, export_of(company, formats=["html"]))
    assert b"149-x" in b"".join(files.values())
    assert max(len(data) for name, data in files.items() if name.startswith("page-")) <= 30_000


def test_the_name_of_a_file_does_not_mislead(company, storage) -> None:
    conversation = Conversation.objects.get(pk=company.talk("c-1", "alice"))
    uploads.receive(conversation=conversation, name="photo\u202egpj.exe", content_type="image/jpeg", chunks=[b"x"])
    page = files_of(storage, export_of(company, formats=["html"], include_files=True))["page-1.html"].decode()
    assert "photo_gpj.exe" in page


def test_a_link_of_the_version_before_leads_to_its_file(company, storage) -> None:
    company.talk("c-1", "alice", has_file=True)
    shown = export_of(company, include_files=True)
    [one] = shown["export"]["files"]
    address = company.caller.get(f"requests/{shown['request_id']}/download?file={one['name']}")["Location"]
    actor = downloads._opened(address.rpartition("/")[2]).actor
    old = [Export.objects.get().pk, one["file_id"], actor, int(timezone.now().timestamp())]
    token = encrypt(json.dumps(old), bound_to=downloads._PURPOSE)
    assert Client(raise_request_exception=False).get(f"/api/downloads/{token}").status_code == 302
