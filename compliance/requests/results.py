"""What came of requests, beside what their own rows say: exports, copies of files, copies that were left.

For any number of requests the number of queries is the same, and those are left out for which no request of the
given ones has a use.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple, cast
from uuid import UUID

from common.db import array, fetch
from compliance.models import ComplianceRequest, Export

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

# An export can have any number of files; the answer stays small.
MOST_FILES = 100

# OFFSET 0 keeps PostgreSQL at look-ups, here and below.
_EXPORTS = """
SELECT e.* FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (SELECT * FROM compliance_export WHERE request_id = ours.id OFFSET 0) AS e
"""

_KEPT = """
SELECT ours.id, e.request_id, e.hosting, e.finished_at, e.sha256, e.expires_at, e.removed_at
  FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT export_id FROM compliance_leftcopy
        WHERE deletion_id = ours.id AND export_id IS NOT NULL OFFSET 0) AS met
 CROSS JOIN LATERAL (SELECT * FROM compliance_export WHERE id = met.export_id OFFSET 0) AS e
 ORDER BY e.finished_at NULLS LAST, e.id
"""
_DELIVERED = """
SELECT ours.id, e.day, e.finished_at, e.sha256
  FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT extract_id FROM compliance_leftcopy
        WHERE deletion_id = ours.id AND extract_id IS NOT NULL OFFSET 0) AS met
 CROSS JOIN LATERAL (
       SELECT day, finished_at, sha256 FROM conversations_dailyextract WHERE id = met.extract_id OFFSET 0) AS e
 ORDER BY ours.id, e.day
"""

_COPIES = """
SELECT ours.id, f.file_id, f.key, f.bytes, f.sha256
  FROM unnest(%s::bigint[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT file_id, key, bytes, sha256
         FROM compliance_exportfile WHERE export_id = ours.id ORDER BY file_id LIMIT %s) AS f
 ORDER BY ours.id, f.file_id
"""


class Kept(NamedTuple):
    """An export that a deletion met and left where it was; it can have gone since."""

    request_id: UUID
    hosting: str
    finished_at: datetime | None
    sha256: str | None
    expires_at: datetime | None
    removed_at: datetime | None


class Delivered(NamedTuple):
    """A day's file in a client's bucket that holds what a deletion erased."""

    day: date
    finished_at: datetime
    sha256: str


class Copy(NamedTuple):
    """A copy of an uploaded file beside an export."""

    file_id: int
    key: str
    bytes: int | None
    sha256: str | None


@dataclass(frozen=True)
class Outcomes:
    """By the request's id; copies by that of the export. A request that has none of a thing is not in there."""

    exports: Mapping[UUID, Export]
    copies: Mapping[int, Sequence[Copy]]
    kept: Mapping[UUID, Sequence[Kept]]
    delivered: Mapping[UUID, Sequence[Delivered]]


def read(requests: Collection[ComplianceRequest]) -> Outcomes:
    """Read what came of these requests. What a request has of its export already (`select_related`) is not read."""
    exports = _exports([request for request in requests if request.kind == Kind.EXPORT])
    completed = [
        request.pk for request in requests if request.kind == Kind.DELETION and request.status == Status.COMPLETED
    ]
    with_copies = [
        exports[request.pk].pk
        for request in requests
        if request.pk in exports and request.include_files and exports[request.pk].finished_at
    ]
    return Outcomes(
        exports=exports,
        copies=_copies(with_copies) if with_copies else {},
        kept=kept_exports(completed) if completed else {},
        delivered=_delivered(completed) if completed else {},
    )


def kept_exports(request_ids: Collection[UUID]) -> dict[UUID, list[Kept]]:
    """Return the exports that these deletions met and left where they are, those that have gone since included."""
    kept: dict[UUID, list[Kept]] = defaultdict(list)
    for deletion_id, *export in fetch(_KEPT, [array(request_ids)]):
        kept[deletion_id].append(Kept(*export))
    return dict(kept)


def _delivered(request_ids: Collection[UUID]) -> dict[UUID, list[Delivered]]:
    found: dict[UUID, list[Delivered]] = defaultdict(list)
    for deletion_id, *extract in fetch(_DELIVERED, [array(request_ids)]):
        found[deletion_id].append(Delivered(*extract))
    return dict(found)


def _exports(requests: Collection[ComplianceRequest]) -> dict[UUID, Export]:
    field = ComplianceRequest._meta.get_field("export")
    unknown = [request.pk for request in requests if not field.is_cached(request)]
    known = [cast("Export | None", field.get_cached_value(request, None)) for request in requests]
    found = {export.request_id: export for export in known if export is not None}
    if unknown:
        found |= {export.request_id: export for export in Export.objects.raw(_EXPORTS, [array(unknown)])}
    return found


def _copies(export_ids: Collection[int]) -> dict[int, list[Copy]]:
    copies: dict[int, list[Copy]] = defaultdict(list)
    for export_id, *copy in fetch(_COPIES, [array(export_ids), MOST_FILES]):
        copies[export_id].append(Copy(*copy))
    return dict(copies)
