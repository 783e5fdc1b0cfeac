"""Compare the hosted bucket and the database both ways, report, and repair what can be repaired.

The report identifies rows by id, and orphans by folder, chatbot, size, age and 12 hex digits of their key's SHA-256:
a key can contain a chatter's value. Repairs work in batches, so the finished part of a killed run stays done, and the
run can be repeated. Storage is called outside transactions, and rows are checked again right before objects are
removed.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from chatbots import changelog
from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from common.commands import ACTOR
from common.storage import ObjectStorage, OpenUpload, StorageError
from compliance.erasure import objects
from compliance.ledger import service, tripwire
from compliance.models import ExportFile, Service
from compliance.reconciliation import scan
from compliance.reconciliation.scan import Folder, Orphan, RowMismatch, still_orphaned
from conversations.models import DailyExtract

# More than this share of a bucket is hardly ever orphaned: rather, the database is the wrong one.
MOST_SHARE = 0.2
# How many of each kind are listed in a report; all are counted.
_NAMED = 100
_ORPHANS_PER_CALL = 100

Progress = Callable[[int], object]


class FixRefused(Exception):
    """So much would be removed that the database is probably not this bucket's. The text says what to do."""


@dataclass
class Report:
    """Complete counts, and lists of the first hundred of each.

    `young` are objects without a row that are too young to be orphans; `before_replay` are those, and orphans, that
    were written before the last replay ended: after the backup from which the database was restored, as a rule.
    """

    state: Service.State
    replayed_at: datetime | None
    objects: Counter[str] = field(default_factory=Counter)
    versions: int = 0
    rows_met: int = 0
    rows_missing: int = 0
    orphans: Counter[str] = field(default_factory=Counter)
    old_versions: Counter[str] = field(default_factory=Counter)
    orphan_versions: int = 0
    orphan_bytes: int = 0
    named_orphans: list[dict[str, Any]] = field(default_factory=list)
    young: Counter[str] = field(default_factory=Counter)
    before_replay: int = 0
    other_ledgers: Counter[str] = field(default_factory=Counter)
    stale_uploads: Counter[str] = field(default_factory=Counter)
    missing: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    of_another_size: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    rows: Counter[str] = field(default_factory=Counter)
    fixed: dict[str, int] | None = None
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether bucket and database agree. Objects outside our folders do not matter."""
        return not (self.orphans or self.old_versions or self.stale_uploads or self.rows)

    def as_dict(self) -> dict[str, Any]:
        own = {"versions", "rows_met", "rows_missing", "orphan_versions"}
        shown = {name: value for name, value in vars(self).items() if name not in own}
        return {"agrees": self.agrees} | shown


def reconcile(*, fix: bool = False, force: bool = False, progress: Progress = lambda _objects: None) -> Report:
    """Compare; with `fix`, also remove orphans, abort stale uploads, and repair rows without their object.

    `progress` is called with each number of objects scanned. Raises StorageError, and FixRefused before anything is
    changed, unless `force`; in a restored database it refuses in any case.
    """
    if fix:
        tripwire.check()  # a restore may not be noticed yet
        if not service.is_open():
            raise FixRefused(
                "The database was restored from a backup, so what it does not know may be needed. Nothing is removed "
                "before manage.py replay_erasures has ended that state. Compare without --fix."
            )
    storage = hosted_storage()
    report = _compare(storage, progress)
    if fix and not report.agrees:
        if not force:
            _refuse_too_much(report)
        _fix(storage, report, progress)
    return report


def _scan(storage: ObjectStorage, seen: scan.SeenRows, progress: Progress) -> Iterator[scan.ScannedKey]:
    for found in scan.scan_storage(storage, seen):
        progress(1)
        yield found


def _compare(storage: ObjectStorage, progress: Progress) -> Report:
    identity = service.current()
    report = Report(Service.State(identity.state), identity.replayed_at)
    slugs = dict(Chatbot.objects.values_list("pk", "slug"))
    differing: list[tuple[str, int]] = []
    seen = scan.SeenRows()
    for found in _scan(storage, seen, progress):
        report.objects[found.folder] += 1
        if found.folder.has_data:
            report.versions += found.versions
        if found.other_service:
            report.other_ledgers[found.other_service] += 1
        if found.orphan:
            _note_orphan(report, found.orphan, slugs)
        if found.without_row_since:
            if found.orphan is None:
                report.young[found.folder] += 1
            report.before_replay += found.without_row_since < (report.replayed_at or found.without_row_since)
        if found.row and found.size is not None:
            report.rows_met += 1
            if found.row.bytes not in {None, found.size}:
                differing.append((found.row.store, found.row.id))
    for mismatch in chain(_differing(storage, differing), _missing(storage, seen)):
        _note_mismatch(report, mismatch)
    report.stale_uploads.update(folder.value for _, folder, _ in scan.stale_uploads(storage))
    return report


def _missing(storage: ObjectStorage, seen: scan.SeenRows) -> Iterator[RowMismatch]:
    for store in scan.STORES:
        yield from _differing(storage, ((store, row_id) for row_id in scan.unseen(store, seen)))


def _differing(storage: ObjectStorage, rows: Iterable[tuple[str, int]]) -> Iterator[RowMismatch]:
    for store, row_id in rows:
        if mismatch := scan.differs(storage, store, row_id):
            yield mismatch


def _note_orphan(report: Report, orphan: Orphan, slugs: dict[int, str]) -> None:
    (report.old_versions if orphan.is_old else report.orphans)[orphan.folder] += 1
    if orphan.folder.has_data:
        report.orphan_versions += len(orphan.version_ids)
    report.orphan_bytes += orphan.bytes
    if len(report.named_orphans) < _NAMED:
        report.named_orphans.append(
            {
                "folder": orphan.folder.value,
                "chatbot": slugs.get(orphan.chatbot_id or 0),
                "kind": "old_versions" if orphan.is_old else "orphan",
                "versions": len(orphan.version_ids),
                "bytes": orphan.bytes,
                "age_days": (timezone.now() - orphan.newest_at).days,
                "key_sha256": orphan.name,
            }
        )


def _note_mismatch(report: Report, mismatch: RowMismatch) -> None:
    ids = (report.missing if mismatch.size is None else report.of_another_size)[mismatch.store]
    report.rows[mismatch.store] += 1
    report.rows_missing += mismatch.size is None
    if len(ids) < _NAMED:
        ids.append(mismatch.row_id)


def _refuse_too_much(report: Report) -> None:
    if report.orphan_versions > MOST_SHARE * report.versions:
        raise FixRefused(
            f"{report.orphan_versions:,} of {report.versions:,} versions of objects would be removed, more than a "
            "fifth. An empty database, a restored old one, or another service's bucket look just like this. If it is "
            "this bucket's database and up to date, use --force."
        )
    named = report.rows_met + report.rows_missing
    if report.rows_missing > MOST_SHARE * named:
        # No deletion finds an export once its row has lost its key.
        raise FixRefused(
            f"{report.rows_missing:,} of {named:,} rows have no object, over a fifth. Another bucket in S3_BUCKET, "
            "or a restored storage look just like this. If their objects are really lost, use --force."
        )


def _fix(storage: ObjectStorage, report: Report, progress: Progress) -> None:
    result, seen = RepairResult(), scan.SeenRows()
    differing = ((store, row_id) for store, ids in report.of_another_size.items() for row_id in ids)
    try:
        # Scanned again, rather than keeping a list of all orphans.
        orphans = (found.orphan for found in _scan(storage, seen, progress) if found.orphan)
        _remove_orphans(storage, orphans, result)
        _repair_rows(storage, chain(_missing(storage, seen), _differing(storage, differing)), result)
        _abort_uploads(storage, scan.stale_uploads(storage), result)
    finally:
        result.record()  # also after an error
    report.fixed, report.refused = dict(result.done), dict(result.refused)


class RepairResult:
    """Numbers of repairs, in all and per chatbot, and of refusals by the storage, by code."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._of_chatbot: defaultdict[int, Counter[str]] = defaultdict(Counter)

    def note(self, what: str, chatbot_id: int | None) -> None:
        self.done[what] += 1
        if chatbot_id is not None:
            self._of_chatbot[chatbot_id][what] += 1

    def record(self) -> None:
        """Write each chatbot's numbers to its change log."""
        changelog.record_all(
            changelog.entry("storage.reconciled", chatbot_id=chatbot_id, actor=ACTOR, data=dict(counts))
            for chatbot_id, counts in self._of_chatbot.items()
        )


def _remove_orphans(storage: ObjectStorage, orphans: Iterable[Orphan], result: RepairResult) -> None:
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


def _abort_uploads(
    storage: ObjectStorage, uploads: Iterable[tuple[OpenUpload, Folder, int | None]], result: RepairResult
) -> None:
    for upload, _, chatbot_id in uploads:
        try:
            storage.abort(upload.key, upload.upload_id)
        except StorageError as error:
            result.refused[error.code] += 1
        else:
            result.note("uploads", chatbot_id)


def _repair_rows(storage: ObjectStorage, mismatches: Iterable[RowMismatch], result: RepairResult) -> None:
    """Mark exports without an object as removed, and have mismatching extracts rebuilt.

    A missing uploaded file is lost data, so its row stays unchanged for a person to examine.
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

    Does nothing if its object is behind a delete marker: a deletion, and the expiry, find the object while the row
    has its key.
    """
    if any(version.key == row.key for version in storage.versions(row.key)):
        return False
    for copy in ExportFile.objects.filter(export_id=row.row_id):
        storage.purge(copy.key)
        copy.delete()
    with transaction.atomic():
        return bool(objects.forget_exports([(row.row_id, row.key)], [row.chatbot_id]))


def _mark_stale(row: RowMismatch) -> bool:
    done = DailyExtract.objects.filter(pk=row.row_id, key=row.key, state=DailyExtract.State.DONE)
    stale = {"state": DailyExtract.State.STALE, "version": F("version") + 1, "stale_at": Now()}
    return bool(done.update(**stale, attempts=0, next_attempt_at=Now()))
