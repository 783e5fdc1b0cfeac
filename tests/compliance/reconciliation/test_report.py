"""`reconcile_storage`: bucket and database compared both ways, and the effect of `--fix`."""

import json
import logging
from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from chatbots.buckets import hosted_storage
from chatbots.models import ChangeLogEntry
from common.storage import ObjectStorage, StorageError
from compliance.models import Export, ExportFile
from compliance.reconciliation import scan
from conversations.models import DailyExtract, UploadedFile
from tests import factories
from tests.commands import run
from tests.compliance.reconciling import (
    COPY,
    EXPORT,
    EXTRACT,
    FOREIGN,
    ORPHANS,
    export_with,
    extract_with,
    file_of,
    keys,
    put,
    reconcile,
)
from tests.factories import NOON, conversation_of
from tests.patches import before, failing
from tests.under_roles import role


def test_it_finds_nothing_where_bucket_and_database_agree(whole, storage) -> None:
    report = reconcile()

    assert report["agrees"]
    assert report["objects"] == {
        "uploads": 1,
        "chatter_data_exports": 2,
        "daily_conversations_extracts": 1,
        "erasure_ledger": 1,
    }
    assert reconcile("--fix")["fixed"] is None
    assert keys(storage) == whole


def test_orphaned_objects_are_reported_and_removed_with_fix(whole, storage, chatbot) -> None:
    put(storage, *ORPHANS, *FOREIGN)

    report = reconcile(code=3)

    assert report["orphans"] == {
        "uploads": 2,
        "chatter_data_exports": 1,
        "daily_conversations_extracts": 1,
        "erasure_ledger": 1,
    }
    assert report["objects"]["unknown"] == len(FOREIGN)
    assert (report["orphan_bytes"], report["fixed"]) == (25, None)
    assert keys(storage) == sorted([*whole, *ORPHANS, *FOREIGN])
    named = {(one["folder"], one["chatbot"], one["kind"], one["bytes"]) for one in report["named_orphans"]}
    assert ("chatter_data_exports", "acme", "orphan", 5) in named
    assert "erin" not in json.dumps(report)

    fixed = reconcile("--fix", "--force", code=3)

    assert (fixed["fixed"], fixed["refused"]) == ({"orphans": 5}, {})
    assert keys(storage) == sorted([*whole, *FOREIGN])
    assert reconcile()["agrees"]
    entry = ChangeLogEntry.objects.get(event="storage.reconciled")
    assert (entry.chatbot, entry.actor, entry.data) == (chatbot, "command", {"orphans": 2})
    # A small share needs no confirmation.
    put(storage, ORPHANS[0])
    assert reconcile("--fix", code=3)["fixed"] == {"orphans": 1}


def test_the_row_is_checked_again_before_a_removal(whole, storage, chatbot, monkeypatch) -> None:
    put(storage, EXPORT + "2", EXPORT + "3")
    look = scan.still_orphaned

    @role("owner")
    def give_one_a_row(found: Sequence[scan.Orphan]) -> list[scan.Orphan]:
        export_with(chatbot, EXPORT + "2")
        return look(found)

    monkeypatch.setattr("compliance.reconciliation.report.still_orphaned", give_one_a_row)

    assert reconcile("--fix", "--force", code=3)["fixed"] == {"orphans": 1}
    assert EXPORT + "2" in keys(storage)
    assert EXPORT + "3" not in keys(storage)


def test_it_refuses_to_empty_a_bucket(whole, storage, chatbot) -> None:
    """As with an empty database, or one restored from an old backup."""
    Export.objects.update(key=None)
    DailyExtract.objects.all().delete()

    with pytest.raises(CommandError, match=r"2 of 5 versions of objects would be removed.*--force") as caught:
        run("reconcile_storage", "--fix")

    assert caught.value.returncode == 2
    assert keys(storage) == whole


def test_it_refuses_to_clear_keys_that_may_exist_in_another_bucket(whole, storage, chatbot, settings) -> None:
    """As with a wrong S3_BUCKET: no deletion would find cleared keys."""
    settings.S3_BUCKET = f"{settings.S3_BUCKET}-empty"
    hosted_storage().create_bucket_if_missing()

    with pytest.raises(CommandError, match=r"4 of 4 rows have no object.*--force") as caught:
        run("reconcile_storage", "--fix")

    assert caught.value.returncode == 2
    assert Export.objects.get().key == EXPORT
    assert DailyExtract.objects.get().state == "done"
    assert keys(storage) == whole


def test_rows_without_an_object_are_reported_and_corrected_and_no_others(whole, storage, neighbour) -> None:
    theirs = extract_with(neighbour, EXTRACT.replace("acme", "neighbour"))
    put(storage, str(theirs.key))
    file, export = UploadedFile.objects.get(), Export.objects.get()
    extract = DailyExtract.objects.exclude(pk=theirs.pk).get()
    copy = ExportFile.objects.get()
    for key in (file.object_key, EXPORT, COPY, EXTRACT):
        storage.purge(key)

    report = reconcile(code=3)

    expected = {"files": [file.pk], "exports": [export.pk], "export_files": [copy.pk], "extracts": [extract.pk]}
    assert report["missing"] == expected
    assert report["rows"] == dict.fromkeys(expected, 1)

    assert reconcile("--fix", "--force", code=3)["fixed"] == {"exports": 1, "extracts": 1}
    export.refresh_from_db()
    extract.refresh_from_db()
    assert export.key is None
    assert export.removed_at
    assert (extract.state, extract.version, extract.key) == ("stale", 2, EXTRACT)
    assert extract.stale_at
    theirs.refresh_from_db()
    assert (theirs.state, theirs.version) == ("done", 1)
    # The file is lost data: it is reported until a person has resolved it.
    assert reconcile(code=3)["missing"] == {"files": [file.pk]}
    assert ChangeLogEntry.objects.get(event="storage.reconciled").data == {"exports": 1, "extracts": 1}


def test_files_beside_an_orphaned_export_are_removed_with_it(whole, storage) -> None:
    storage.purge(EXPORT)

    assert reconcile("--fix", "--force", code=3)["fixed"] == {"exports": 1}

    assert COPY not in keys(storage)
    assert not ExportFile.objects.exists()
    assert reconcile()["agrees"]


def test_a_file_that_is_missing_costs_the_export_of_the_same_number_nothing(whole, storage) -> None:
    UploadedFile.objects.update(id=Export.objects.get().pk)
    storage.purge(UploadedFile.objects.get().object_key)

    assert reconcile("--fix", "--force", code=3)["fixed"] == {}

    assert COPY in keys(storage)
    assert ExportFile.objects.exists()


def test_an_export_keeps_its_key_while_storage_refuses_the_files_beside_it(whole, storage, monkeypatch) -> None:
    storage.purge(EXPORT)

    with monkeypatch.context() as patch:
        patch.setattr(
            ObjectStorage, "purge", failing(StorageError("storage_locked", "Object lock protects a version."))
        )
        report = reconcile("--fix", "--force", code=3)

    assert (report["fixed"], report["refused"]) == ({}, {"storage_locked": 1})
    assert Export.objects.get().key == EXPORT
    assert ExportFile.objects.get().key == COPY


def test_it_reports_an_object_of_another_size(whole, storage) -> None:
    file, extract = UploadedFile.objects.get(), DailyExtract.objects.get()
    for key in (file.object_key, EXTRACT):
        storage.put(key, b"another", "text/csv")
    UploadedFile.objects.update(size=8)

    report = reconcile("--fix", code=3)

    assert report["of_another_size"] == {"files": [file.pk], "extracts": [extract.pk]}
    assert report["fixed"] == {"extracts": 1}
    assert reconcile(code=3)["of_another_size"] == {"files": [file.pk]}


def test_rows_in_progress_or_in_another_bucket_are_not_differences(chatbot, storage) -> None:
    factories.UploadedFileFactory.create(conversation=conversation_of(chatbot, "42"))
    export_with(chatbot, "somewhere/else.csv", hosting="client", bucket="theirs")
    export_with(chatbot, None, removed_at=NOON)
    export_with(chatbot, EXPORT, finished_at=None)
    extract_with(chatbot, EXTRACT, state="stale")

    assert reconcile()["agrees"]


def test_objects_written_during_the_scan_are_not_differences(whole, storage, chatbot, monkeypatch) -> None:
    @role("owner")
    def late(store: str, seen: scan.SeenRows) -> None:
        if store == "files":
            file_of(chatbot)

    before(monkeypatch, scan, "unseen", late)

    assert reconcile()["agrees"]


def test_orphaned_uploads_are_aborted(whole, storage, chatbot, monkeypatch) -> None:
    known = UploadedFile.objects.get().object_key
    open_one = storage.open_upload(known, content_type="image/jpeg")
    for key in (ORPHANS[0], FOREIGN[0]):
        storage.open_upload(key, content_type="image/jpeg")

    assert reconcile(code=3)["stale_uploads"] == {"uploads": 2}
    monkeypatch.setattr(scan, "SAFETY_AGE", timedelta(days=1))
    assert reconcile("--fix", code=3)["fixed"] == {"uploads": 1}

    left = {upload.key: upload.upload_id for upload in storage.uploads()}
    assert left.keys() == {known, FOREIGN[0]}
    assert left[known] == open_one


def test_it_reads_many_keys_page_by_page(chatbot, storage, monkeypatch) -> None:
    monkeypatch.setattr(scan, "_KEYS_AT_ONCE", 2)
    for number in range(5):
        export_with(chatbot, f"{EXPORT}{number}")
    put(storage, *(f"{EXPORT}{number}" for number in range(9)))
    export_with(chatbot, f"{EXPORT}x")
    export_with(chatbot, f"{EXPORT}y")

    report = reconcile(code=3)

    assert report["orphans"] == {"chatter_data_exports": 4}
    assert report["rows"] == {"exports": 2}


def test_the_report_is_readable_and_contains_no_personal_data(whole, storage, capsys, caplog) -> None:
    put(storage, *ORPHANS)
    storage.purge(EXPORT)

    with caplog.at_level(logging.INFO), pytest.raises(SystemExit):
        call_command("reconcile_storage", "--fix", "--force")

    output = "".join(capsys.readouterr()) + caplog.text
    assert "chatter_data_exports: 1 orphans" in output
    assert f"exports: object missing, rows {Export.objects.get().pk}" in output
    assert "There are differences." in output
    assert "erin" not in output
    assert not any(key in output for key in [*ORPHANS, *whole])


def test_unavailable_storage_is_reported(chatbot, settings: Settings) -> None:
    settings.S3_BUCKET = "nobody-made-this"

    with pytest.raises(CommandError, match="storage_bucket_missing"):
        call_command("reconcile_storage")


def test_it_remembers_each_row_of_each_store_apart() -> None:
    seen = scan.SeenRows()
    far = 10**15
    for row_id in (1, 8, 32_767, 32_768, far):
        seen.add(scan.ObjectRow("files", row_id, None))
    met = [row_id for row_id in (0, 1, 7, 8, 9, 32_767, 32_768, 32_769, far) if seen.has("files", row_id)]
    assert met == [1, 8, 32_767, 32_768, far]
    assert not seen.has("exports", 1)
