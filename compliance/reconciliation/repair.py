"""Remove from the hosted bucket what no row accounts for, and set rows right whose object is gone.

It goes in batches, each one bulk call: a run that is killed has done what it has done, and the next one goes on.
Storage is called outside any transaction, and the rows are looked for once more right before objects go.
"""

from collections import Counter
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
    """What was done, in all and for each chatbot that is known, and what storage refused, by code."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._of_chatbot: dict[int, Counter[str]] = {}

    def note(self, what: str, chatbot_id: int | None) -> None:
        self.done[what] += 1
        if chatbot_id is not None:
            self._of_chatbot.setdefault(chatbot_id, Counter())[what] += 1

    def record(self, actor: str) -> None:
        """Write into the change log of each chatbot how much of its was set right."""
        entries = [
            changelog.entry("storage.reconciled", chatbot_id=chatbot_id, actor=actor, data=dict(counts))
            for chatbot_id, counts in self._of_chatbot.items()
        ]
        changelog.record_all(entries)
        self._of_chatbot = {}


def remove_orphans(storage: ObjectStorage, orphans: Iterable[Orphan], outcome: RepairResult) -> None:
    """Remove exactly the versions that were found, by key and version."""
    waiting = iter(orphans)
    while some := list(islice(waiting, _ORPHANS_PER_CALL)):
        nobodys = still_orphaned(some)
        refused = storage.remove_versions(version for orphan in nobodys for version in orphan.versions)
        for orphan in nobodys:
            if refusal := refused.get(orphan.key):
                outcome.refused[refusal.code] += 1
            else:
                outcome.note("old_versions" if orphan.is_old else "orphans", orphan.chatbot_id)


def abort_uploads(
    storage: ObjectStorage, uploads: Iterable[tuple[OpenUpload, Folder, int | None]], outcome: RepairResult
) -> None:
    """Abort multipart uploads that nobody will complete."""
    for upload, _, chatbot_id in uploads:
        try:
            storage.abort(upload.key, upload.upload_id)
        except StorageError as error:
            outcome.refused[error.code] += 1
        else:
            outcome.note("uploads", chatbot_id)


def set_rows_right(storage: ObjectStorage, differences: Iterable[RowMismatch], outcome: RepairResult) -> None:
    """Let an export whose object is gone say so, and have a day's extract made again.

    An uploaded file that is gone is lost data and no clerical error: its row stays as it is, for a person to look at.
    """
    for one in differences:
        try:
            if one.store == "exports" and one.size is None and _remove(storage, one):
                outcome.note("exports", one.chatbot_id)
        except StorageError as error:
            outcome.refused[error.code] += 1
        if one.store == "extracts" and _make_again(one):
            outcome.note("extracts", one.chatbot_id)


def _remove(storage: ObjectStorage, one: RowMismatch) -> bool:
    """Note that an export is gone; the files beside it go too, for they are found by it.

    Not one that lies behind a delete marker: while the row has its key, a deletion and the end of its days find it.
    """
    if any(version.key == one.key for version in storage.versions(one.key)):
        return False
    for copy in ExportFile.objects.filter(export_id=one.row_id):
        storage.purge(copy.key)
        copy.delete()
    with transaction.atomic():
        return bool(objects.forget_exports([(one.row_id, one.key)]))


def _make_again(one: RowMismatch) -> bool:
    with transaction.atomic():
        done = DailyExtract.objects.filter(pk=one.row_id, key=one.key, state=DailyExtract.State.DONE)
        changed = done.update(
            state=DailyExtract.State.STALE,
            version=F("version") + 1,
            stale_at=Now(),
            attempts=0,
            not_before=None,
        )
    return bool(changed)
