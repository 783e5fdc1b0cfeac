"""Objects that a storage refuses to remove: the deletion fails with the missing right, and can be retried.

On a real server: object lock on single versions of a file, and an identity without the right to delete versions.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from pytest_django import Settings

from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.ledger import objects as ledger
from compliance.models import ComplianceRequest, Export, ExportFile
from compliance.requests import decisions
from conversations import uploads
from conversations.models import UploadedFile
from tests.calls import TokenCaller
from tests.compliance.retention.test_purge_expired import purge_expired
from tests.factories import conversation_of, deletion_of
from tests.functional.company import Company, found_anywhere, settle, work
from tests.s3_server import ADMIN, Identity, S3Server, running

Status = ComplianceRequest.Status

pytestmark = pytest.mark.usefixtures("refused_at_once")

SERVICE = Identity("service", ["Read:clients", "Write:clients", "List:clients"])


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running(SERVICE) as server:
        yield server


def use(settings: Settings, server: S3Server, bucket: str, identity: Identity) -> ObjectStorage:
    """Let the service's own bucket be this one."""
    settings.S3_ENDPOINT_URL = settings.S3_PUBLIC_ENDPOINT_URL = server.endpoint
    settings.S3_ACCESS_KEY_ID, settings.S3_SECRET_ACCESS_KEY = identity.access_key, identity.secret_key
    settings.S3_BUCKET = bucket
    return hosted_storage()


def s3(storage: ObjectStorage) -> Any:
    return storage.client


def file_of(chatbot: Chatbot, value: str, *, versions: int = 1) -> UploadedFile:
    """A file of a chatter, written over a few times as a stale writer might."""
    conversation = conversation_of(chatbot, value)
    file = uploads.receive(conversation=conversation, name="photo.jpg", content_type="image/jpeg", chunks=[b"0"])
    for number in range(1, versions):
        hosted_storage().put(file.object_key, str(number).encode(), "image/jpeg")
    return file


def versions_of(storage: ObjectStorage, file: UploadedFile) -> list[str]:
    return [one.version_id for one in storage.versions(file.object_key)]


def retried(request: ComplianceRequest) -> ComplianceRequest:
    decisions.retry(request_id=request.pk, actor="command")
    worker.drain(seconds=60)
    request.refresh_from_db()
    return request


def test_a_missing_permission_is_named_and_once_granted_the_deletion_completes(
    chatbot: Chatbot, neighbour: Chatbot, server: S3Server, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    s3(server.storage()).put_bucket_versioning(Bucket="clients", VersioningConfiguration={"Status": "Enabled"})
    storage = use(settings, server, "clients", SERVICE)
    file, of_another = file_of(chatbot, "42", versions=3), file_of(neighbour, "42")
    request = deletion_of(chatbot, "42")
    server.refuse(SERVICE, "s3:DeleteObjectVersion")

    worker.drain(seconds=60)

    request.refresh_from_db()
    assert (request.status, request.error_code, request.attempts) == (Status.FAILED, "storage_access_denied", 1)
    assert "Grant it s3:DeleteObjectVersion." in request.error_detail
    assert len(versions_of(storage, file)) == 3
    answer = TokenCaller(chatbot).get(f"requests/{request.pk}").json()
    assert answer["error"] == {"code": "storage_access_denied", "detail": request.error_detail, "retryable": True}
    assert file.object_key not in caplog.text + request.error_detail

    server.refuse(SERVICE)
    request = retried(request)

    assert (request.status, request.files, request.error_code) == (Status.COMPLETED, 1, "")
    left = {one.key for one in storage.versions() if not one.key.startswith(ledger.PREFIX)}
    assert left == {of_another.object_key}
    assert storage.read(of_another.object_key) == b"0"
    assert UploadedFile.objects.get() == of_another


def test_a_locked_version_and_its_row_are_kept_until_the_lock_is_lifted(chatbot, server, settings) -> None:
    """The bulk call succeeds, but refuses one of its versions. A retention that has not run out is a lock too."""
    admin = server.storage()
    s3(admin).create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    storage = use(settings, server, "locked", ADMIN)
    file, beside = file_of(chatbot, "42", versions=4), file_of(chatbot, "43", versions=2)
    held = versions_of(storage, file)[1]
    hold = {"Bucket": "locked", "Key": file.object_key, "VersionId": held}
    s3(storage).put_object_legal_hold(**hold, LegalHold={"Status": "ON"})
    retained = file_of(chatbot, "44")
    of_retained = {"Bucket": "locked", "Key": retained.object_key, "VersionId": versions_of(storage, retained)[0]}
    until = s3(storage).head_object(**of_retained)["LastModified"].replace(year=2099)
    s3(storage).put_object_retention(**of_retained, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until})
    stuck, fine, kept = (deletion_of(chatbot, value) for value in ("42", "43", "44"))

    worker.drain(seconds=60)

    for request in (stuck, fine, kept):
        request.refresh_from_db()
    assert (stuck.status, stuck.error_code) == (kept.status, kept.error_code) == (Status.FAILED, "storage_locked")
    assert "Wait until it ends, or remove it." in stuck.error_detail
    assert (fine.status, fine.files) == (Status.COMPLETED, 1)
    assert versions_of(storage, beside) == []
    assert versions_of(storage, file) == [held]
    assert set(UploadedFile.objects.all()) == {file, retained}

    # Still locked: it fails again, and nothing is lost.
    assert retried(stuck).error_code == "storage_locked"
    s3(storage).put_object_legal_hold(**hold, LegalHold={"Status": "OFF"})
    s3(storage).delete_object(**of_retained, BypassGovernanceRetention=True)

    assert (retried(stuck).status, stuck.files) == (Status.COMPLETED, 1)
    assert retried(kept).status == Status.COMPLETED
    assert versions_of(storage, file) == []
    assert not UploadedFile.objects.exists()


# --- Copies of files -------------------------------------------------------------------------------------


COPIES = "_files/"
EXPIRED = settings.HOSTED_FILE_DAYS + timedelta(days=1)


def exported_with_copy(company: Company, conversation_id: str, person: str, age: timedelta = timedelta()) -> Export:
    company.talk(conversation_id, person, has_file=True)
    export = company.exported(person, age=age, include_files=True)
    assert COPIES in export.copies.get().key
    return export


def test_a_deletion_fails_while_a_copy_is_refused_and_removes_it_when_it_is_retried(company, storage, refusals):
    export = exported_with_copy(company, "c-1", "alice")
    neighbours = exported_with_copy(company, "c-2", "bob")
    refusals.locked.add(COPIES)
    deletion = company.delete("alice", erase_exports=True)
    work()
    assert company.failure(deletion) == "storage_locked"
    assert storage.exists(str(export.key))

    refusals.end()
    company.retry(deletion)
    settle()
    assert company.status(deletion) == "completed"
    assert company.request_object(deletion)["counts"]["exports"] == 1
    assert found_anywhere(storage, ["c-1", "c-2"]) == {"c-2"}
    assert storage.exists(str(neighbours.key))
    assert ExportFile.objects.get().export_id == neighbours.pk


def test_an_expired_export_is_kept_and_not_counted_while_a_copy_is_refused(company, storage, refusals) -> None:
    export = exported_with_copy(company, "c-1", "alice", EXPIRED)
    copy = export.copies.get().key
    refusals.locked.add(COPIES)
    outcome = purge_expired(code=3)
    assert (outcome["removed"]["exports"], outcome["refused"]) == (0, {"storage_locked": 1})
    assert storage.exists(str(export.key))

    refusals.end()
    assert purge_expired()["removed"]["exports"] == 1
    assert not storage.exists(str(export.key))
    assert not storage.exists(copy)
