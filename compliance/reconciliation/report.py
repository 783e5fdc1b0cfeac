"""Compare the hosted bucket and the database both ways, report, and set right what can be.

The report names rows by id. An object that no row accounts for is told by its folder, its chatbot, its size, its age
and 12 hex digits of its key's SHA-256, since a key can bear what a chatter is known by.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone

from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.reconciliation import repair, scan
from compliance.reconciliation.scan import Folder, Orphan, RowMismatch

# More than this share of a bucket is hardly ever what is left over: rather the database is the wrong one.
MOST_SHARE = 0.2
# So many are named in a report, of each kind; all are counted.
_NAMED = 100

Tell = Callable[[int], object]


class FixRefused(Exception):
    """So much would go that the database is probably not this bucket's. The text says what to do."""


@dataclass
class Report:
    """What was found. Counts are complete, lists hold the first hundred of each."""

    objects: Counter[str] = field(default_factory=Counter)
    versions: int = 0
    rows_met: int = 0
    rows_missing: int = 0
    orphans: Counter[str] = field(default_factory=Counter)
    old_versions: Counter[str] = field(default_factory=Counter)
    orphan_versions: int = 0
    orphan_bytes: int = 0
    named: list[dict[str, Any]] = field(default_factory=list)
    stale_uploads: Counter[str] = field(default_factory=Counter)
    missing: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    of_another_size: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    rows_counted: Counter[str] = field(default_factory=Counter)
    fixed: dict[str, int] | None = None
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Say that bucket and database tell the same. Objects outside our folders are nobody's fault."""
        return not (self.orphans or self.old_versions or self.stale_uploads or self.rows_counted)

    def as_dict(self) -> dict[str, Any]:
        return {
            "agrees": self.agrees,
            "objects": dict(self.objects),
            "orphans": dict(self.orphans),
            "old_versions": dict(self.old_versions),
            "orphan_bytes": self.orphan_bytes,
            "named_orphans": self.named,
            "stale_uploads": dict(self.stale_uploads),
            "missing": dict(self.missing),
            "of_another_size": dict(self.of_another_size),
            "rows": dict(self.rows_counted),
            "fixed": self.fixed,
            "refused": self.refused,
        }


def reconcile(*, fix: bool = False, force: bool = False, actor: str = "command", tell: Tell | None = None) -> Report:
    """Compare; with `fix` also remove orphans, abort stale uploads, and set rows right whose object is gone.

    `tell` is called with how many objects were looked at just now. Raises StorageError, and FixRefused before
    anything is changed, unless `force`.
    """
    storage = hosted_storage()
    report = _look(storage, tell)
    if fix and not report.agrees:
        if not force:
            _refuse_too_much(report)
        _fix(storage, report, actor, tell)
    return report


def _look(storage: ObjectStorage, tell: Tell | None) -> Report:
    report = Report()
    slugs = dict(Chatbot.objects.values_list("pk", "slug"))
    differing: list[tuple[str, int]] = []
    seen = scan.SeenRows()
    for found in scan.scan_storage(storage, seen):
        if tell:
            tell(1)
        report.objects[found.folder] += 1
        if found.folder is not Folder.UNKNOWN:
            report.versions += found.versions
        if found.orphan:
            _note_orphan(report, found.orphan, slugs)
        if found.row and found.size is not None:
            report.rows_met += 1
        if found.row and found.size is not None and found.row.bytes not in {None, found.size}:
            differing.append((found.row.store, found.row.id))
    for store, row_id in differing:
        _note_difference(report, scan.differs(storage, store, row_id))
    for one in _missing(storage, seen):
        _note_difference(report, one)
    report.stale_uploads.update(folder.value for _, folder, _ in scan.stale_uploads(storage))
    return report


def _missing(storage: ObjectStorage, seen: scan.SeenRows) -> Iterator[RowMismatch]:
    for store in scan.STORES:
        for row_id in scan.unseen(store, seen):
            if difference := scan.differs(storage, store, row_id):
                yield difference


def _note_orphan(report: Report, orphan: Orphan, slugs: dict[int, str]) -> None:
    (report.old_versions if orphan.is_old else report.orphans)[orphan.folder] += 1
    report.orphan_versions += len(orphan.version_ids)
    report.orphan_bytes += orphan.bytes
    if len(report.named) < _NAMED:
        report.named.append(
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


def _note_difference(report: Report, one: RowMismatch | None) -> None:
    if one is None:
        return
    ids = (report.missing if one.size is None else report.of_another_size)[one.store]
    report.rows_counted[one.store] += 1
    report.rows_missing += one.size is None
    if len(ids) < _NAMED:
        ids.append(one.row_id)


def _refuse_too_much(report: Report) -> None:
    if report.orphan_versions > MOST_SHARE * report.versions:
        raise FixRefused(
            f"{report.orphan_versions:,} of {report.versions:,} versions of objects would go, more than a fifth. "
            "An empty database, an old one that was restored, or another service's bucket look just like this. "
            "If it is this bucket's database and up to date, say --force."
        )
    named = report.rows_met + report.rows_missing
    if report.rows_missing > MOST_SHARE * named:
        # What lets go of its key here is found by no deletion any more.
        raise FixRefused(
            f"{report.rows_missing:,} of {named:,} rows have no object, over a fifth. Another bucket in S3_BUCKET, "
            "or a storage that was restored looks just like this. If their objects are really gone, say --force."
        )


def _fix(storage: ObjectStorage, report: Report, actor: str, tell: Tell | None) -> None:
    outcome, seen = repair.RepairResult(), scan.SeenRows()
    try:
        repair.remove_orphans(storage, _orphans(storage, seen, tell), outcome)
        repair.set_rows_right(storage, _differences(storage, seen, report), outcome)
        repair.abort_uploads(storage, scan.stale_uploads(storage), outcome)
    finally:
        # Also of what was done before an error.
        outcome.record(actor)
    report.fixed, report.refused = dict(outcome.done), dict(outcome.refused)


def _orphans(storage: ObjectStorage, seen: scan.SeenRows, tell: Tell | None) -> Iterator[Orphan]:
    """Walk again, so that no list of all of them has to be kept."""
    for found in scan.scan_storage(storage, seen):
        if tell:
            tell(1)
        if found.orphan:
            yield found.orphan


def _differences(storage: ObjectStorage, seen: scan.SeenRows, report: Report) -> Iterator[RowMismatch]:
    yield from _missing(storage, seen)
    for store, ids in report.of_another_size.items():
        for row_id in ids:
            if difference := scan.differs(storage, store, row_id):
                yield difference
