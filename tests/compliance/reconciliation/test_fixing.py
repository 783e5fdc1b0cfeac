"""`reconcile_storage --fix`: versions, refusals of storage, and interruptions."""

from collections.abc import Iterable
from datetime import timedelta

import pytest
from pytest_django import Settings

from chatbots.buckets import hosted_storage
from chatbots.models import ChangeLogEntry
from common.storage import ObjectStorage, StorageError, Version
from compliance.reconciliation import scan
from tests.clients import empty
from tests.compliance.reconciling import EXPORT, ORPHANS, export_with, file_of, keys, put, reconcile


@pytest.fixture(autouse=True)
def everything_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat objects just written as old; S3 returns whole seconds."""
    monkeypatch.setattr(scan, "SAFETY_AGE", timedelta(seconds=-2))


def test_it_removes_old_versions_and_markers_and_leaves_the_object(versioned, chatbot) -> None:
    export_with(chatbot, EXPORT)
    for _ in range(3):
        put(versioned, EXPORT)
    gone = "acme/chatter_data_exports/1/a.csv"
    put(versioned, gone)
    versioned.connection.meta.client.delete_object(Bucket=versioned.bucket_name, Key=gone)

    report = reconcile(code=3)

    assert (report["old_versions"], report["orphans"]) == ({"chatter_data_exports": 1}, {"chatter_data_exports": 1})
    assert [one["versions"] for one in report["named_orphans"]] == [2, 2]
    assert reconcile("--fix", "--force", code=3)["fixed"] == {"orphans": 1, "old_versions": 1}
    assert keys(versioned) == [EXPORT]
    assert versioned.read(EXPORT) == b"lines"


def test_versions_behind_a_delete_marker_are_kept_while_a_row_refers_to_them(versioned, chatbot) -> None:
    """The object was deleted by hand: its old version is the only copy of the file."""
    file = file_of(chatbot)
    versioned.connection.meta.client.delete_object(Bucket=versioned.bucket_name, Key=file.object_key)

    report = reconcile("--fix", "--force", code=3)

    assert (report["missing"], report["fixed"]) == ({"files": [file.pk]}, {})
    assert len(keys(versioned)) == 2


def test_an_export_behind_a_marker_keeps_its_key(versioned, chatbot) -> None:
    """Without the key no deletion would find the versions, which are all still readable."""
    export = export_with(chatbot, EXPORT)
    put(versioned, EXPORT)
    versioned.connection.meta.client.delete_object(Bucket=versioned.bucket_name, Key=EXPORT)

    report = reconcile("--fix", "--force", code=3)

    assert (report["missing"], report["fixed"]) == ({"exports": [export.pk]}, {})
    export.refresh_from_db()
    assert (export.key, export.removed_at) == (EXPORT, None)
    assert len(keys(versioned)) == 2


def test_an_upload_that_cannot_be_aborted_is_reported_by_its_code(whole, storage, monkeypatch) -> None:
    storage.open_upload(ORPHANS[0], content_type="text/csv")

    def denied(*_args: object) -> None:
        raise StorageError("storage_access_denied", "The access key needs s3:AbortMultipartUpload.")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStorage, "abort", denied)
        report = reconcile("--fix", "--force", code=3)

    assert (report["fixed"], report["refused"]) == ({}, {"storage_access_denied": 1})


def test_an_interrupted_fix_is_finished_by_the_next(whole, storage, chatbot, monkeypatch) -> None:
    put(storage, *ORPHANS)
    monkeypatch.setattr("compliance.reconciliation.report._ORPHANS_PER_CALL", 2)
    calls: list[int] = []

    remove = ObjectStorage.remove_versions

    def dies(bucket: ObjectStorage, versions: Iterable[Version]) -> dict[str, StorageError]:
        if calls:
            raise KeyboardInterrupt
        some = list(versions)
        calls.append(len(some))
        return remove(bucket, some)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStorage, "remove_versions", dies)
        with pytest.raises(KeyboardInterrupt):
            reconcile("--fix", "--force")

    assert calls == [2]
    assert ChangeLogEntry.objects.get(event="storage.reconciled").data == {"orphans": 2}
    assert reconcile("--fix", "--force", code=3)["fixed"] == {"orphans": 3}
    assert keys(storage) == whole


@pytest.mark.usefixtures("chatbot")
def test_keys_refused_by_a_bulk_delete_are_reported(storage, settings: Settings) -> None:
    """A real bucket with object lock: the call succeeds and refuses one of two keys."""
    settings.S3_BUCKET = f"{settings.S3_BUCKET}-locked"
    locked = hosted_storage()
    client = locked.connection.meta.client
    if settings.S3_BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=settings.S3_BUCKET, ObjectLockEnabledForBucket=True)
    put(locked, *ORPHANS[:2])
    hold = {"Bucket": settings.S3_BUCKET, "Key": ORPHANS[0]}
    client.put_object_legal_hold(**hold, LegalHold={"Status": "ON"})
    try:
        report = reconcile("--fix", "--force", code=3)
    finally:
        client.put_object_legal_hold(**hold, LegalHold={"Status": "OFF"})
        left = keys(locked)
        empty(locked)

    assert (report["fixed"], report["refused"]) == ({"orphans": 1}, {"storage_locked": 1})
    assert left == [ORPHANS[0]]
