"""Storage that refuses or is silent: which requests lose attempts, which continue, and the errors."""

import time

import pytest
from django.utils import timezone

from chatbots.models import ChangeLogEntry
from common import leases
from common.storage import ObjectStorage, StorageError, errors
from common.storage.removal import Removal, Removed
from compliance import worker
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from compliance.work import claims
from conversations.models import UploadedFile
from tests import factories
from tests.compliance.work.test_failures import end_back_offs
from tests.factories import conversation_of, deletion_of, export_of

Status = ComplianceRequest.Status

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_object_that_cannot_be_removed_delays_only_its_own_request(chatbot, storage, monkeypatch) -> None:
    for value in ("42", "43"):
        conversation = conversation_of(chatbot, value)
        factories.UploadedFileFactory.create(conversation=conversation, object_key=f"uploads/1/{value}", stored=True)
    stuck, fine = deletion_of(chatbot, "42"), deletion_of(chatbot, "43")
    remove = Removal.purge_many

    def locked(self: Removal, keys: list[str]) -> Removed:
        removed = remove(self, [key for key in keys if not key.endswith("42")])
        removed.failed["uploads/1/42"] = StorageError("storage_locked", "An object lock forbids it: lift it.")
        return removed

    monkeypatch.setattr(Removal, "purge_many", locked)
    worker.drain(seconds=60)

    stuck.refresh_from_db()
    fine.refresh_from_db()
    assert (stuck.status, stuck.error_code, stuck.error_detail) == (
        Status.FAILED, "storage_locked", "An object lock forbids it: lift it.",
    )  # fmt: skip
    assert (fine.status, fine.files) == (Status.COMPLETED, 1)
    assert UploadedFile.objects.get().object_key == "uploads/1/42"

    monkeypatch.undo()
    decisions.retry(request_id=stuck.pk, actor="command")
    worker.drain(seconds=60)

    stuck.refresh_from_db()
    assert (stuck.status, stuck.files, stuck.error_code, stuck.messages) == (Status.COMPLETED, 1, "", 2)


def test_retries_of_unavailable_storage_wait_longer_each_time(chatbot, storage, monkeypatch) -> None:
    request = deletion_of(chatbot, "42")

    def down(*args: object, **options: object) -> None:
        raise StorageError("storage_unavailable", "The storage does not answer.", retryable=True)

    monkeypatch.setattr(ObjectStorage, "put", down)
    waits = []
    for _ in range(claims.MAX_ATTEMPTS - 1):
        worker.drain(seconds=60)
        request.refresh_from_db()
        assert request.status == Status.ACCEPTED
        waits.append(round((request.not_before - timezone.now()).total_seconds() / 5))
        end_back_offs()
    worker.drain(seconds=60)

    request.refresh_from_db()
    assert waits == [1, 2, 24, 480]
    assert (request.status, request.error_code, request.attempts) == (Status.FAILED, "storage_unavailable", 5)
    events = ChangeLogEntry.objects.filter(request_id=request.pk).order_by("pk").values_list("event", flat=True)
    assert list(events) == [*["request.requeued"] * 4, "request.failed"]


def test_a_short_refusal_fails_no_request(chatbot, storage, monkeypatch) -> None:
    request = export_of(chatbot, "42")
    refusals = iter([errors.denied("s3:PutObject"), errors.from_code("NoSuchBucket", operation="PutObject")])
    open_upload = ObjectStorage.open_upload

    def refusing(*args: object, **options: object) -> str:
        if refusal := next(refusals, None):
            raise refusal
        return open_upload(*args, **options)

    monkeypatch.setattr(ObjectStorage, "open_upload", refusing)
    waits = []
    for _ in range(2):
        worker.drain(seconds=60)
        request.refresh_from_db()
        assert request.status == Status.ACCEPTED
        waits.append(round((request.not_before - timezone.now()).total_seconds() / 5))
        end_back_offs()
    worker.drain(seconds=60)

    request.refresh_from_db()
    assert (waits, request.status, request.error_code) == ([1, 2], Status.COMPLETED, "")


def test_a_refusal_that_stays_fails_at_the_last_of_its_attempts(chatbot, storage, monkeypatch) -> None:
    request = deletion_of(chatbot, "42")

    def refused(*args: object, **options: object) -> None:
        raise errors.denied("s3:PutObject")

    monkeypatch.setattr(ObjectStorage, "put", refused)
    for _ in range(errors.REFUSED_ATTEMPTS):
        worker.drain(seconds=60)
        end_back_offs()

    request.refresh_from_db()
    assert (request.status, request.error_code, request.attempts) == (Status.FAILED, "storage_access_denied", 4)


@pytest.mark.usefixtures("refused_at_once")
def test_a_failed_export_has_an_error_and_leaves_no_file(chatbot, storage, monkeypatch) -> None:
    conversation_of(chatbot, "42")
    request = export_of(chatbot, "42")

    def denied(*args: object, **options: object) -> None:
        raise StorageError("storage_access_denied", "The access key needs s3:PutObject.")

    monkeypatch.setattr(ObjectStorage, "open_upload", denied)
    worker.drain(seconds=60)

    request.refresh_from_db()
    assert (request.status, request.error_code) == (Status.FAILED, "storage_access_denied")
    assert not list(storage.versions())


def test_a_storage_that_is_slow_to_refuse_does_not_lose_the_claim(chatbot, storage, monkeypatch) -> None:
    for value in ("42", "43", "44"):
        conversation = conversation_of(chatbot, value)
        factories.UploadedFileFactory.create(conversation=conversation, object_key=f"uploads/1/{value}")
        deletion_of(chatbot, value)
    monkeypatch.setattr(leases, "SECONDS_BETWEEN_RENEWALS", 0.02)
    kept: list[int] = []
    keep = claims.HeldClaim._lock

    def counted(self: claims.HeldClaim):
        kept.append(self.id)
        return keep(self)

    monkeypatch.setattr(claims.HeldClaim, "_lock", counted)

    def slow(self: Removal, keys: list[str]) -> Removed:
        before = len(kept)
        time.sleep(0.3)
        assert len(kept) > before + 3
        return Removed(failed={key: errors.unavailable() for key in keys})

    monkeypatch.setattr(Removal, "purge_many", slow)
    worker.drain(seconds=60)

    assert set(ComplianceRequest.objects.values_list("error_code", "attempts")) == {("storage_unavailable", 1)}
