"""Compare the hosted bucket and the database both ways, report, and repair what can be.

The report names rows by id, and orphans by folder, chatbot, size, age and 12 hex digits of their key's SHA-256: a key
can contain a chatter's value.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from django.utils import timezone

from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.reconciliation import repair, scan
from compliance.reconciliation.scan import Folder, Orphan, RowMismatch

# More than this share of a bucket are hardly ever orphans: rather, the database is the wrong one.
MOST_SHARE = 0.2
# How many of each kind are listed in a report; all are counted.
_NAMED = 100

Progress = Callable[[int], object]


class FixRefused(Exception):
    """So much would be removed that the database is probably not this bucket's. The text says what to do."""


@dataclass
class Report:
    """Complete counts, and lists of the first hundred of each."""

    objects: Counter[str] = field(default_factory=Counter)
    versions: int = 0
    rows_met: int = 0
    rows_missing: int = 0
    orphans: Counter[str] = field(default_factory=Counter)
    old_versions: Counter[str] = field(default_factory=Counter)
    orphan_versions: int = 0
    orphan_bytes: int = 0
    named_orphans: list[dict[str, Any]] = field(default_factory=list)
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
        return {"agrees": self.agrees} | {name: value for name, value in vars(self).items() if name not in own}


def reconcile(
    *, fix: bool = False, force: bool = False, actor: str = "command", progress: Progress | None = None
) -> Report:
    """Compare; with `fix`, also remove orphans, abort stale uploads, and repair rows without their object.

    `progress` is called with each number of objects scanned. Raises StorageError, and FixRefused before anything is
    changed, unless `force`.
    """
    storage = hosted_storage()
    report = _compare(storage, progress)
    if fix and not report.agrees:
        if not force:
            _refuse_too_much(report)
        _fix(storage, report, actor, progress)
    return report


def _scan(storage: ObjectStorage, seen: scan.SeenRows, progress: Progress | None) -> Iterator[scan.ScannedKey]:
    for found in scan.scan_storage(storage, seen):
        if progress:
            progress(1)
        yield found


def _compare(storage: ObjectStorage, progress: Progress | None) -> Report:
    report = Report()
    slugs = dict(Chatbot.objects.values_list("pk", "slug"))
    differing: list[tuple[str, int]] = []
    seen = scan.SeenRows()
    for found in _scan(storage, seen, progress):
        report.objects[found.folder] += 1
        if found.folder is not Folder.UNKNOWN:
            report.versions += found.versions
        if found.orphan:
            _note_orphan(report, found.orphan, slugs)
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


def _fix(storage: ObjectStorage, report: Report, actor: str, progress: Progress | None) -> None:
    result, seen = repair.RepairResult(), scan.SeenRows()
    differing = ((store, row_id) for store, ids in report.of_another_size.items() for row_id in ids)
    try:
        # Scanned again, rather than keeping a list of all orphans.
        orphans = (found.orphan for found in _scan(storage, seen, progress) if found.orphan)
        repair.remove_orphans(storage, orphans, result)
        repair.repair_rows(storage, chain(_missing(storage, seen), _differing(storage, differing)), result)
        repair.abort_uploads(storage, scan.stale_uploads(storage), result)
    finally:
        result.record(actor)  # also after an error
    report.fixed, report.refused = dict(result.done), dict(result.refused)
