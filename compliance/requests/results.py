"""Exports, copied files and remaining copies of requests, by a fixed number of queries."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from django.db.models import F

from common.db import array
from compliance.models import ComplianceRequest, Export, ExportFile, LeftCopy
from conversations.models import DailyExtract

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

# An export can have any number of files; the answer stays small.
MOST_FILES = 100

# OFFSET 0 keeps PostgreSQL at look-ups.
_EXPORTS = """
SELECT e.* FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (SELECT * FROM compliance_export WHERE request_id = ours.id OFFSET 0) AS e
"""
_COPIES = """
SELECT f.* FROM unnest(%s::bigint[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT * FROM compliance_exportfile WHERE export_id = ours.id ORDER BY file_id LIMIT %s) AS f
 ORDER BY f.export_id, f.file_id
"""


@dataclass(frozen=True)
class Outcomes:
    """By the request's id, copied files by the export's: exports, the copies of uploaded files beside them, and the
    exports and daily extracts that deletions left where they are. Some may be gone since."""

    exports: Mapping[UUID, Export]
    copies: Mapping[int, Sequence[ExportFile]]
    kept: Mapping[UUID, Sequence[Export]]
    delivered: Mapping[UUID, Sequence[DailyExtract]]


def read(requests: Collection[ComplianceRequest]) -> Outcomes:
    """Read the outcomes of requests. An export that a request has already (`select_related`) is not read again."""
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


def kept_exports(request_ids: Collection[UUID]) -> dict[UUID, list[Export]]:
    """Return the exports that these deletions left where they are, also those that are gone since."""
    left = LeftCopy.objects.filter(deletion__in=request_ids, export__isnull=False).select_related("export")
    kept: dict[UUID, list[Export]] = defaultdict(list)
    for copy in left.order_by(F("export__finished_at").asc(nulls_last=True), "export"):
        if copy.export:
            kept[copy.deletion_id].append(copy.export)
    return dict(kept)


def _delivered(request_ids: Collection[UUID]) -> dict[UUID, list[DailyExtract]]:
    left = LeftCopy.objects.filter(deletion__in=request_ids, extract__isnull=False).select_related("extract")
    delivered: dict[UUID, list[DailyExtract]] = defaultdict(list)
    for copy in left.order_by("extract__day"):
        if copy.extract:
            delivered[copy.deletion_id].append(copy.extract)
    return dict(delivered)


def _exports(requests: Collection[ComplianceRequest]) -> dict[UUID, Export]:
    field = ComplianceRequest._meta.get_field("export")
    unknown = [request.pk for request in requests if not field.is_cached(request)]
    known = [cast("Export | None", field.get_cached_value(request, None)) for request in requests]
    found = {export.request_id: export for export in known if export is not None}
    if unknown:
        found |= {export.request_id: export for export in Export.objects.raw(_EXPORTS, [array(unknown)])}
    return found


def _copies(export_ids: Collection[int]) -> dict[int, list[ExportFile]]:
    copies: dict[int, list[ExportFile]] = defaultdict(list)
    for copy in ExportFile.objects.raw(_COPIES, [array(export_ids), MOST_FILES]):
        copies[copy.export_id].append(copy)
    return dict(copies)
