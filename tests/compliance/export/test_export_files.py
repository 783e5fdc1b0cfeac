"""Copies of uploaded files beside an export (`include_files`): complete or absent, removed with the export."""

import csv
import hashlib
import io
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from chatbots.models import Chatbot
from common.storage import PART_BYTES, ObjectStorage
from compliance import worker
from compliance.api.schemas import RequestObject
from compliance.errors import ClaimLost
from compliance.export import attachments
from compliance.models import ComplianceRequest, Export, ExportFile
from compliance.requests import decisions
from compliance.requests.results import MOST_FILES
from compliance.work import claims, sizes, upload_pool
from conversations import uploads
from conversations.models import Conversation, UploadedFile
from tests.compliance.exporting import (
    COMPLETED,
    Peak,
    carry_out,
    committed,
    export_of_request,
    lose,
    open_uploads,
    outcome,
    patch_pieces,
    taken,
)
from tests.factories import conversation_of, deletion_of, export_of
from tests.functional.refusing import in_the_gap
from tests.functional.support import dump
from tests.patches import Killed, before, failing, once

pytestmark = committed


@pytest.fixture(params=["storage", "clients"], ids=["hosted", "client"])
def place(request: pytest.FixtureRequest, storage: ObjectStorage) -> ObjectStorage:
    """The storage of the exports: each test runs for the hosted bucket and for a client's."""
    found: ObjectStorage = request.getfixturevalue(request.param)
    return found


def stored(conversation: Conversation, content: bytes, name: str = "photo of Ada.jpg") -> UploadedFile:
    return uploads.receive(conversation=conversation, name=name, content_type="image/jpeg", chunks=[content])


def export_with_files(chatbot: Chatbot, value: str = "42", **fields: Any) -> ComplianceRequest:
    return export_of(chatbot, value, include_files=True, **fields)


def given_up(chatbot: Chatbot) -> ComplianceRequest:
    """An export whose last worker was lost right before completion."""
    request = export_with_files(chatbot)
    carry_out(taken(request))
    Export.objects.update(finished_at=None)
    ComplianceRequest.objects.filter(pk=request.pk).update(
        status="failed", failed_at=timezone.now(), error_code="worker_lost", completed_at=None, result=None,
        uci_value="42",
    )  # fmt: skip
    return request


def exports_in(place: ObjectStorage) -> list[str]:
    keys = place.keys()
    return [key for key in keys if "chatter_data_exports/" in key]


@pytest.mark.long(reason="the same in a client's bucket", beyond=1)
def test_files_are_stored_beside_the_csv_which_lists_their_names(chatbot: Chatbot, place: ObjectStorage) -> None:
    conversation = conversation_of(chatbot, "42")
    files = [stored(conversation, b"first"), stored(conversation, b"s" * (PART_BYTES + 1))]
    stored(conversation_of(chatbot, "43"), b"another's")
    uploads.open_upload(conversation=conversation, name="unfinished", content_type="image/jpeg")
    request = export_with_files(chatbot)
    carry_out(taken(request))

    assert outcome(request) == COMPLETED
    key = str(export_of_request(request).key)
    folder = key.removesuffix(".csv") + "_files/"
    assert set(exports_in(place)) == {key, *(f"{folder}{file.pk}" for file in files)}
    for file in files:
        assert hashlib.sha256(place.read(f"{folder}{file.pk}")).hexdigest() == file.sha256
    lines = csv.DictReader(io.StringIO(place.read(key).decode(), newline=""))
    found = {line["file_id"]: line["file_name"] for line in lines if line["file_id"]}
    assert found == {str(file.pk): "photo of Ada.jpg" for file in files}
    assert request.files == 2
    assert "photo" not in "".join(place.keys())
    head = place.client.head_object(Bucket=place.bucket_name, Key=f"{folder}{files[0].pk}")
    assert head["ContentType"] == "image/jpeg"
    assert RequestObject.of(request, status_url="", shows_key=True).model_dump(mode="json")["export"]["files"] == [
        {
            "name": str(file.pk),
            "file_id": file.pk,
            "key": f"{folder}{file.pk}",
            "bytes": file.size,
            "sha256": file.sha256,
        }
        for file in files
    ]
    assert {
        file["key"]
        for file in RequestObject.of(request, status_url="", shows_key=False).model_dump(mode="json")["export"][
            "files"
        ]
    } == {None}


def test_files_are_exported_only_on_request_and_of_shared_conversations_with_these(chatbot, storage) -> None:
    stored(conversation_of(chatbot, "42"), b"content")
    stored(conversation_of(chatbot, "43"), b"content of 43")
    stored(conversation_of(chatbot, "43", "45"), b"of both")
    requests = [export_of(chatbot, "42"), *(export_with_files(chatbot, value) for value in ("43", "44", "45"))]
    requests.append(export_with_files(chatbot, "45", include_shared=True))
    carry_out(taken(*requests))
    assert [outcome(request) for request in requests] == [COMPLETED] * 5
    assert [request.files for request in requests] == [0, 1, 0, 0, 1]


@pytest.mark.long(reason="copies hundreds of files")
def test_many_files_are_copied_in_groups_and_the_response_stays_small(chatbot, storage, monkeypatch) -> None:
    monkeypatch.setattr(attachments, "COPIES_AT_ONCE", 40)
    conversation = conversation_of(chatbot, "42")
    for number in range(MOST_FILES + 5):
        stored(conversation, b"content %d" % number)
    request = export_with_files(chatbot)
    carry_out(taken(request))
    assert outcome(request) == COMPLETED
    assert request.files == MOST_FILES + 5
    assert ExportFile.objects.filter(sha256__isnull=False).count() == MOST_FILES + 5
    assert (
        len(RequestObject.of(request, status_url="", shows_key=True).model_dump(mode="json")["export"]["files"])
        == MOST_FILES
    )


def test_an_export_with_many_bytes_to_copy_moves_to_the_large_lane(chatbot, storage, monkeypatch) -> None:
    monkeypatch.setitem(sizes.LARGE_FILES, ComplianceRequest.Kind.EXPORT, 2)
    conversation = conversation_of(chatbot, "42")
    for _ in range(3):
        stored(conversation, b"content")
    with_files, without = export_with_files(chatbot), export_of(chatbot, "42")
    held = claims.take(ComplianceRequest.Kind.EXPORT)
    assert held
    worker.work(held, deadline=0)
    with_files.refresh_from_db()
    without.refresh_from_db()
    assert (with_files.lane, with_files.status) == ("large", "accepted")
    assert (without.lane, without.status) == ("normal", "completed")


@pytest.mark.long(reason="the same with other damage", beyond=1)
@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_changed_file_fails_only_its_own_export(chatbot: Chatbot, storage: ObjectStorage, damage: str) -> None:
    lost = stored(conversation_of(chatbot, "42"), b"content")
    stored(conversation_of(chatbot, "43"), b"content of 43")
    storage.purge(lost.object_key)
    if damage == "changed":
        storage.put(lost.object_key, b"another content", "image/jpeg")
    request, other = export_with_files(chatbot), export_with_files(chatbot, "43")
    carry_out(taken(request, other))
    assert outcome(request) == ("accepted", "export_file_lost", 1)
    assert outcome(other) == COMPLETED
    export = export_of_request(other)
    assert set(exports_in(storage)) == {export.key, export.copies.get().key}
    assert open_uploads(storage) == []
    # The records of this attempt are removed by the next one.
    if damage == "changed":
        storage.purge(lost.object_key)
    storage.put(lost.object_key, b"content", "image/jpeg")
    carry_out(taken(request))
    assert outcome(request)[0] == "completed"
    assert len(exports_in(storage)) == 4


@pytest.mark.long(reason="the same in a client's bucket", beyond=1)
def test_the_next_attempt_removes_copies_of_a_killed_one(chatbot: Chatbot, place: ObjectStorage) -> None:
    stored(conversation_of(chatbot, "42"), b"content")
    request = export_with_files(chatbot)

    with pytest.MonkeyPatch.context() as monkeypatch:
        patch_pieces(monkeypatch, failing(Killed))
        held = taken(request)
        with pytest.raises(Killed):
            carry_out(held)
    # As after SIGKILL: published objects remain with their rows, and an upload is open.
    [copy] = ExportFile.objects.all()
    place.open_upload(copy.key, content_type="image/jpeg")
    assert copy.key in exports_in(place)
    lose(held)
    carry_out(taken(request))
    assert outcome(request) == COMPLETED
    export = export_of_request(request)
    assert set(exports_in(place)) == {export.key, export.copies.get().key}
    assert copy.key not in exports_in(place)
    assert open_uploads(place) == []


def test_a_worker_that_lost_its_claim_publishes_no_copy(chatbot, storage, monkeypatch) -> None:
    """It wakes with open uploads after another worker has finished the export."""
    stored(conversation_of(chatbot, "42"), b"content")
    request = export_with_files(chatbot)
    stale = taken(request)

    def overtake() -> None:
        lose(stale)
        carry_out(taken(request))

    assert in_the_gap(monkeypatch, "open_upload", "_files/", "before", overtake) == []
    with pytest.raises(ClaimLost):
        carry_out(stale)
    assert outcome(request) == COMPLETED
    export = export_of_request(request)
    assert set(exports_in(storage)) == {export.key, export.copies.get().key}
    assert open_uploads(storage) == []


@pytest.mark.long(reason="the same after a retry of everything", beyond=1)
@pytest.mark.parametrize("retried_whole", [False, True])
def test_the_sweep_keeps_copies_made_by_a_concurrent_retry(chatbot, storage, monkeypatch, retried_whole) -> None:
    stored(conversation_of(chatbot, "42"), b"content")
    request = given_up(chatbot)

    def retry(*_: object) -> None:
        decisions.retry(request_id=request.pk, actor="command")
        if retried_whole:
            carry_out(taken(request))
        connection.close()  # this is a thread of the sweep

    before(monkeypatch, ObjectStorage, "purge_many", once(retry))
    worker.sweep()
    if not retried_whole:
        carry_out(taken(request))
    assert outcome(request) == COMPLETED
    export = export_of_request(request)
    assert set(exports_in(storage)) == {export.key, export.copies.get().key}


def test_a_slow_bucket_does_not_keep_a_snapshot_open_forever(chatbot, storage, monkeypatch) -> None:
    """Time is up when the first of three is copied; the other exports of the claim get their files."""
    for number in range(3):
        stored(conversation_of(chatbot, "42"), b"content %d" % number)
    slow, quick = export_with_files(chatbot), export_of(chatbot, "43")
    copied: list[attachments.Copy] = []

    def late(self: attachments.FileCopier, copy: attachments.Copy, upload_id: str) -> None:
        self._until = 0
        copied.append(copy)

    before(monkeypatch, attachments.FileCopier, "_send", late)
    monkeypatch.setattr(upload_pool, "THREADS", 1)
    monkeypatch.setattr(attachments, "THREADS", 0)  # none waits for a thread
    carry_out(taken(slow, quick))
    assert outcome(slow) == ("accepted", "export_not_read", 1)
    assert "too slow" in slow.error_detail
    assert len(copied) == 1
    assert outcome(quick) == COMPLETED
    assert open_uploads(storage) == []


def test_a_deletion_keeps_and_forgets_copies_in_a_clients_bucket(chatbot, clients, storage, drain) -> None:
    file = stored(conversation_of(chatbot, "the-value-of-42"), b"content")
    neighbour = stored(conversation_of(chatbot, "43"), b"content of 43")
    for value in ("the-value-of-42", "43"):
        export_with_files(chatbot, value)
    drain()
    before = exports_in(clients)
    assert len(before) == 4
    deletion = deletion_of(chatbot, "the-value-of-42", erase_exports=True)
    drain()
    assert outcome(deletion) == COMPLETED
    assert not storage.exists(file.object_key)
    assert storage.exists(neighbour.object_key)
    assert exports_in(clients) == before
    assert ExportFile.objects.count() == 1
    assert "the-value-of-42" not in dump()
    assert deletion.exports == 0


@pytest.mark.long(reason="240 MiB are copied")
def test_memory_is_bounded_when_all_files_are_big(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """Ten files of 24 MiB; each alone uses all the memory that threads may hold."""
    conversation = conversation_of(chatbot, "42")
    for number in range(10):
        stored(conversation, b"%d" % number * 24 * 2**20)
    carry_out(taken(export_of(chatbot, "nobody")))  # the client and its libraries are loaded
    request = export_with_files(chatbot)
    with Peak() as peak:
        carry_out(taken(request))
    assert outcome(request) == COMPLETED
    assert request.files == 10
    assert peak.growth < 100 * 2**20
