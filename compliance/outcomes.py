"""What came of requests, beside what their own rows say: exports, copies, days.

For any number of requests the number of queries is the same, and those are left out for which no request of the
given ones has a use.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

from django.db import connection

from compliance.by_ids import SHARING
from compliance.erasure import extracts
from compliance.models import ComplianceRequest, Export
from config.arrays import array

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

# An export can have any number of files; the answer stays small.
MOST_FILES = 100

# OFFSET 0 keeps PostgreSQL at look-ups, here and below.
_EXPORTS = """
SELECT e.* FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (SELECT * FROM compliance_export WHERE request_id = ours.id OFFSET 0) AS e
"""

# Each deletion's own, and, as long as they lie there, the chatter's hosted ones that an earlier deletion had left
# already; of a deletion by ids those that name one of its conversations.
_KEPT = f"""
WITH met AS (
    SELECT ours.id AS deletion_id, lying.id AS export_id
      FROM unnest(%(ids)s::uuid[]) AS ours(id)
     CROSS JOIN LATERAL (SELECT id FROM compliance_export WHERE left_by = ours.id OFFSET 0) AS lying
     UNION
    SELECT ours.id, lying.id
      FROM unnest(%(ids)s::uuid[]) AS ours(id)
     CROSS JOIN LATERAL (
           SELECT variable_id, uci_digest, conversation_digests, seq
             FROM compliance_compliancerequest WHERE id = ours.id OFFSET 0) AS r
     CROSS JOIN LATERAL (
           SELECT id FROM compliance_compliancerequest
            WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest AND seq < r.seq AND kind = 'export'
            UNION ALL
           SELECT id FROM {SHARING} AS sharing WHERE seq < r.seq AND kind = 'export') AS made
     CROSS JOIN LATERAL (
           SELECT id FROM compliance_export
            WHERE request_id = made.id AND hosting = 'hosted' AND finished_at IS NOT NULL AND key IS NOT NULL
           OFFSET 0) AS lying
)
SELECT met.deletion_id, e.request_id, e.hosting, e.finished_at, e.sha256, e.expires_at, e.removed_at
  FROM met CROSS JOIN LATERAL (SELECT * FROM compliance_export WHERE id = met.export_id OFFSET 0) AS e
 ORDER BY e.finished_at NULLS LAST, e.id
"""  # noqa: S608  (a constant of ours)

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
    days: Mapping[UUID, extracts.Days]
    delivered: Mapping[UUID, Sequence[extracts.Delivered]]


def read(requests: Collection[ComplianceRequest]) -> Outcomes:
    """Read what came of these requests. What a request has of its export already (`select_related`) is not read."""
    exports = _exports([request for request in requests if request.kind == Kind.EXPORT])
    deletions = [request for request in requests if request.kind == Kind.DELETION]
    completed = [request.pk for request in deletions if request.status == Status.COMPLETED]
    # A deletion knows its days once it has begun.
    begun = [request.pk for request in deletions if request.cut_at is not None]
    with_copies = [
        exports[request.pk].pk
        for request in requests
        if request.pk in exports and request.include_files and exports[request.pk].finished_at
    ]
    return Outcomes(
        exports=exports,
        copies=_copies(with_copies) if with_copies else {},
        kept=kept_exports(completed) if completed else {},
        days=extracts.look(begun) if begun else {},
        delivered=extracts.delivered(completed) if completed else {},
    )


def kept_exports(request_ids: Collection[UUID]) -> dict[UUID, list[Kept]]:
    """Return the exports that these deletions met and left where they are, those that have gone since included."""
    kept: dict[UUID, list[Kept]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_KEPT, {"ids": array(request_ids)})
        for deletion_id, *export in cursor.fetchall():
            kept[deletion_id].append(Kept(*export))
    return dict(kept)


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
    with connection.cursor() as cursor:
        cursor.execute(_COPIES, [array(export_ids), MOST_FILES])
        for export_id, *copy in cursor.fetchall():
            copies[export_id].append(Copy(*copy))
    return dict(copies)
