"""Remove orphans from the hosted bucket, and repair rows whose object is missing.

Works in batches, so a run that is killed has done what it has done and can be repeated. Storage is called outside
transactions, and the rows are checked again right before objects are removed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import islice

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from chatbots import changelog
from common.storage import ObjectStorage, OpenUpload, StorageError
from compliance.erasure import objects
from compliance.models import ExportFile
from compliance.reconciliation.scan import Folder, Orphan, RowMismatch, still_orphaned
from conversations.models import DailyExtract

_ORPHANS_PER_CALL = 100


class RepairResult:
    """Numbers of what was repaired, in all and per chatbot, and of refusals by the storage, by code."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._of_chatbot: defaultdict[int, Counter[str]] = defaultdict(Counter)

    def note(self, what: str, chatbot_id: int | None) -> None:
        self.done[what] += 1
        if chatbot_id is not None:
            self._of_chatbot[chatbot_id][what] += 1

    def record(self, actor: str) -> None:
        """Write each chatbot's numbers to its change log."""
        changelog.record_all(
            [
                changelog.entry("storage.reconciled", chatbot_id=chatbot_id, actor=actor, data=dict(counts))
                for chatbot_id, counts in self._of_chatbot.items()
            ]
        )


def remove_orphans(storage: ObjectStorage, orphans: Iterable[Orphan], result: RepairResult) -> None:
    """Remove exactly the versions that were found, by key and version."""
    waiting = iter(orphans)
    while batch := list(islice(waiting, _ORPHANS_PER_CALL)):
        batch = still_orphaned(batch)
        refused = storage.remove_versions(version for orphan in batch for version in orphan.versions)
        for orphan in batch:
            if refusal := refused.get(orphan.key):
                result.refused[refusal.code] += 1
            else:
                result.note("old_versions" if orphan.is_old else "orphans", orphan.chatbot_id)


def abort_uploads(
    storage: ObjectStorage, uploads: Iterable[tuple[OpenUpload, Folder, int | None]], result: RepairResult
) -> None:
    for upload, _, chatbot_id in uploads:
        try:
            storage.abort(upload.key, upload.upload_id)
        except StorageError as error:
            result.refused[error.code] += 1
        else:
            result.note("uploads", chatbot_id)


def repair_rows(storage: ObjectStorage, mismatches: Iterable[RowMismatch], result: RepairResult) -> None:
    """Mark exports without an object as removed, and have mismatching extracts rebuilt.

    A missing uploaded file is lost data, so its row stays as it is, for a person to look at.
    """
    for row in mismatches:
        try:
            if row.store == "exports" and row.size is None and _remove_export(storage, row):
                result.note("exports", row.chatbot_id)
        except StorageError as error:
            result.refused[error.code] += 1
        if row.store == "extracts" and _mark_stale(row):
            result.note("extracts", row.chatbot_id)


def _remove_export(storage: ObjectStorage, row: RowMismatch) -> bool:
    """Mark an export as removed, with its copied files, which are found by it.

    Not if its object is behind a delete marker: a deletion, and its expiry, find that while the row has its key.
    """
    if any(version.key == row.key for version in storage.versions(row.key)):
        return False
    for copy in ExportFile.objects.filter(export_id=row.row_id):
        storage.purge(copy.key)
        copy.delete()
    with transaction.atomic():
        return bool(objects.forget_exports([(row.row_id, row.key)], chatbot_ids=[row.chatbot_id]))


def _mark_stale(row: RowMismatch) -> bool:
    done = DailyExtract.objects.filter(pk=row.row_id, key=row.key, state=DailyExtract.State.DONE)
    return bool(
        done.update(
            state=DailyExtract.State.STALE, version=F("version") + 1, stale_at=Now(), attempts=0, not_before=None
        )
    )
