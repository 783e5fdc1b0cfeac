"""`reconcile_storage --fix`: versions, refusals, interruptions; and beside a database that was restored."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import Any, NoReturn

import pytest
from django.core.management import CommandError
from django.utils import timezone
from pytest_django import Settings

from chatbots.buckets import hosted_location, hosted_storage, probe, trial
from chatbots.buckets.probe import new_name
from chatbots.models import ChangeLogEntry, Chatbot
from common.storage import ObjectStorage, StorageError, Version
from compliance.ledger import service
from compliance.models import Service
from compliance.reconciliation import scan
from compliance.work import bucket_checks
from conversations.models import UploadedFile
from tests.clients import empty
from tests.closed import State, close
from tests.commands import run
from tests.compliance.reconciling import COPY, EXPORT, EXTRACT, ORPHANS, export_with, file_of, keys, put, reconcile
from tests.patches import Killed, after, failing


def test_it_removes_old_versions_and_markers_and_leaves_the_object(versioned, chatbot) -> None:
    export_with(chatbot, EXPORT)
    for _ in range(3):
        put(versioned, EXPORT)
    gone = "acme/chatter_data_exports/1/a.csv"
    put(versioned, gone)
    versioned.client.delete_object(Bucket=versioned.bucket_name, Key=gone)

    report = reconcile(code=3)

    assert (report["old_versions"], report["orphans"]) == ({"chatter_data_exports": 1}, {"chatter_data_exports": 1})
    assert [one["versions"] for one in report["named_orphans"]] == [2, 2]
    assert reconcile("--fix", "--force", code=3)["fixed"] == {"orphans": 1, "old_versions": 1}
    assert keys(versioned) == [EXPORT]
    assert versioned.read(EXPORT) == b"lines"


def test_versions_behind_a_delete_marker_and_keys_are_kept_while_a_row_refers_to_them(versioned, chatbot) -> None:
    """Objects were deleted by hand: their old versions are the only copies, and no deletion would find them."""
    file, export = file_of(chatbot), export_with(chatbot, EXPORT)
    put(versioned, EXPORT)
    for key in (file.object_key, EXPORT):
        versioned.client.delete_object(Bucket=versioned.bucket_name, Key=key)

    report = reconcile("--fix", "--force", code=3)

    assert (report["missing"], report["fixed"]) == ({"files": [file.pk], "exports": [export.pk]}, {})
    export.refresh_from_db()
    assert (export.key, export.removed_at) == (EXPORT, None)
    assert len(keys(versioned)) == 4


def test_an_upload_that_cannot_be_aborted_is_reported_by_its_code(whole, storage, monkeypatch) -> None:
    storage.open_upload(ORPHANS[0], content_type="text/csv")

    with monkeypatch.context() as patch:
        patch.setattr(
            ObjectStorage,
            "abort",
            failing(StorageError("storage_access_denied", "The access key needs s3:AbortMultipartUpload.")),
        )
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
    client = locked.client
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


# Written after the backup: the database does not know their rows.
NEWER = [
    "uploads/0/0af3",
    "acme/chatter_data_exports/erin%40example.org/20261102_120000_conversation_export.csv",
    "acme/daily_conversations_extracts/2026-11-02_conversations_extract.csv",
]
OTHER = "01a00000-0000-7000-8000-000000000001"
OTHER_LEDGER = f"erasure_ledger/{OTHER}/2020/01/02/030405-{OTHER}.jsonl"


def replayed() -> None:
    """The replay has ended in a moment from now."""
    service.remember()
    Service.objects.update(replayed_at=timezone.now() + timedelta(minutes=1))


def told(*options: str) -> str:
    return run("reconcile_storage", *options).out


def test_objects_that_the_database_has_forgotten_are_told_while_they_are_young(whole, storage, monkeypatch) -> None:
    """A backup of this morning: nothing that it lacks is old enough to be an orphan."""
    monkeypatch.setattr(scan, "SAFETY_AGE", timedelta(days=1))
    put(storage, *NEWER)
    storage.open_upload(UploadedFile.objects.get().object_key, content_type="image/jpeg")
    replayed()

    report = reconcile()

    expected = {"uploads": 1, "chatter_data_exports": 1, "daily_conversations_extracts": 1}
    assert (report["agrees"], report["young"], report["orphans"]) == (True, expected, {})
    # The objects of `whole` have their rows, and the ledger has none.
    assert report["before_replay"] == 3
    text = told()
    assert "uploads: 1 object without a row, younger than a day: run it again tomorrow" in text
    assert "If there is a newer backup, restore that one" in text
    assert reconcile("--fix", "--force")["fixed"] is None
    assert keys(storage) == sorted([*whole, *NEWER])


def test_objects_without_rows_and_rows_without_objects_are_told_apart(whole, storage, chatbot) -> None:
    """Since the backup, more was written, and what it knows was erased or has expired."""
    put(storage, *NEWER)
    for key in (UploadedFile.objects.get().object_key, EXPORT, COPY, EXTRACT):
        storage.purge(key)
    replayed()

    report = reconcile(code=3)

    assert report["orphans"] == {"uploads": 1, "chatter_data_exports": 1, "daily_conversations_extracts": 1}
    assert report["rows"] == {"files": 1, "exports": 1, "export_files": 1, "extracts": 1}
    assert (report["before_replay"], report["young"]) == (3, {})

    # Orphans of later are no matter of the restore.
    Service.objects.update(replayed_at=timezone.now() - timedelta(days=1))
    assert reconcile(code=3)["before_replay"] == 0
    assert "backup" not in told()


@pytest.mark.parametrize("state", [State.RESTORED, State.CATCHING_UP])
def test_nothing_is_fixed_before_the_replay(whole: list[str], storage: ObjectStorage, state: State) -> None:
    put(storage, *NEWER)
    storage.purge(EXPORT)
    close(state)
    before = keys(storage)

    for options in (["--fix"], ["--fix", "--force"]):
        with pytest.raises(CommandError, match="replay_erasures") as caught:
            told(*options)
        assert caught.value.returncode == 2

    assert keys(storage) == before
    assert reconcile(code=3)["state"] == state
    assert "run replay_erasures, and then compare again" in told()


def test_the_ledger_of_another_service_is_left_alone_and_told(whole: list[str], storage: ObjectStorage) -> None:
    put(storage, OTHER_LEDGER, NEWER[0])

    report = reconcile("--fix", "--force", code=3)

    assert report["other_ledgers"] == {OTHER: 1}
    assert report["fixed"] == {"orphans": 1}
    assert OTHER_LEDGER in keys(storage)
    assert f"erasure_ledger: 1 object of another service, {OTHER}, left alone" in told()


def test_the_services_own_ledger_is_kept_without_rows(whole: list[str], storage: ObjectStorage) -> None:
    """Those without a row are what a replay reads."""
    own = f"{service.current().service_id}/{timezone.now():%Y/%m/%d}/030405-{OTHER}.jsonl"
    put(storage, f"erasure_ledger/{own}")

    report = reconcile("--fix", "--force")

    assert (report["agrees"], report["other_ledgers"]) == (True, {})


# --- Checks that are killed ------------------------------------------------------------------------------


@pytest.fixture
def killed(chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill each kind of check when all its objects are written."""
    in_folder = hosted_location(chatbot)
    for location in (in_folder, replace(in_folder, prefix="")):
        assert len(list(islice(probe(location), 4))) == 4  # an object, and an open upload
    with monkeypatch.context() as patch:
        after(patch, ObjectStorage, "put", failing(Killed))
        with pytest.raises(Killed):
            bucket_checks.check_hosted_if_due()

    name = new_name()

    def allow_and_die(_attempts: object) -> NoReturn:
        # As a store that lets the credentials write.
        put(storage, *(f"{key}_written" for key in list(storage.keys()) if name in key))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(trial, "new_name", lambda: name)
        patch.setattr(trial, "_check_allowed", allow_and_die)
        patch.setattr(ObjectStorage, "purge", lambda *_: None)
        with pytest.raises(Killed):
            trial.try_credentials(chatbot=chatbot, access_key_id="key", secret="secret")


@pytest.mark.usefixtures("killed")
def test_what_killed_checks_leave_is_removed_after_a_day(chatbot, storage, monkeypatch) -> None:
    kept = file_of(chatbot).object_key
    others = ["access_checks", "acme/access_check", "acme/access_check_by_hand", f"access_check_{'0' * 16}/notes.txt"]
    put(storage, *others)
    with monkeypatch.context() as patch:
        patch.setattr(scan, "SAFETY_AGE", timedelta(days=1))
        young: dict[str, Any] = reconcile("--fix")
    assert (young["agrees"], young["young"], len(list(storage.uploads()))) == (True, {}, 2)

    # They do not hide how much else would be removed.
    for key in others:
        storage.purge(key)
    put(storage, ORPHANS[0])
    with pytest.raises(CommandError, match="1 of 2 versions"):
        reconcile("--fix")
    storage.purge(ORPHANS[0])
    put(storage, *others)

    report = reconcile("--fix", code=3)

    assert (report["orphans"], report["stale_uploads"]) == ({"access_check": 11}, {"access_check": 2})
    assert report["fixed"] == {"orphans": 11, "uploads": 2}
    assert keys(storage) == sorted([kept, *others])
    assert list(storage.uploads()) == []
