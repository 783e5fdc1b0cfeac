"""The results of requests: their counts, their exports, and the copies that deletions left."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast
from uuid import UUID

from django.db.models import Count, F, Window
from django.db.models.functions import RowNumber

from common.db import array
from compliance.models import ComplianceRequest, Export, ExportFile, LeftCopy, Redaction, RepeatedExport, RetentionRun
from compliance.storage_locations import CLIENT
from conversations.models import Assurance, DailyExtract

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

# The actor that files an export again.
BY_WORKER = "worker"

# The request's counters, and their labels.
COUNTED: Mapping[str, str] = {
    "conversations": "Conversations",
    "messages": "Messages",
    "csat_comments": "CSAT comments",
    "identities": "UCI values",
    "variable_values": "Values of other variables",
    "files": "Uploaded files",
    "exports": "Earlier exports",
    "extracts": "Daily extracts rebuilt",
}

# The data that is kept of an erased conversation.
KEPT_OF_CONVERSATION = "number, day, channel, flags and scores"

# The data that a redaction removes.
REDACTED = ("messages", "csat_comments", "files", "exports", "extracts")
# A deletion empties a comment with its conversation.
ERASED = tuple(name for name in COUNTED if name != "csat_comments")

# The data that an export's file can contain.
EXPORTED = ("conversations", "messages", "files")

# Limits that keep the answer small: an export can have any number of files, and a conversation be in many exports.
MOST_FILES = MOST_REMOVED = 100

# OFFSET 0 makes PostgreSQL use look-ups.
_EXPORTS = """
SELECT e.* FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (SELECT * FROM compliance_export WHERE request_id = ours.id OFFSET 0) AS e
"""
_COPIES = """
SELECT f.* FROM unnest(%s::bigint[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT * FROM compliance_exportfile WHERE export_id = ours.id
        ORDER BY file_id NULLS FIRST, id LIMIT %s) AS f
 ORDER BY f.export_id, f.file_id NULLS FIRST, f.id
"""
# Each branch uses an index of its own.
_REPEATED = """
SELECT * FROM compliance_repeatedexport WHERE removed_id = ANY(%(removed)s::uuid[])
 UNION
SELECT * FROM compliance_repeatedexport WHERE repeat_id = ANY(%(repeats)s::uuid[])
"""


class RemovedExports(NamedTuple):
    """The first exports that a redaction removed, MOST_REMOVED at most, and the number of `all` of them."""

    first: Sequence[RepeatedExport] = ()
    all: int = 0


@dataclass(frozen=True)
class Outcomes:
    """The results of requests, by the request's id. Copies of uploaded files are by the export's id.

    `kept` and `delivered` are the exports and daily extracts that deletions left where they are. Some may have been
    removed since. `removed` are the exports that redactions removed. `repeated_by` maps such an export to the one
    that was filed in its place, and `repeats` the latter to the former. `continued_by` maps a deletion that left out
    conversations under a legal hold to the one that erases them, of which the state is read.
    """

    exports: Mapping[UUID, Export]
    copies: Mapping[int, Sequence[ExportFile]]
    kept: Mapping[UUID, Sequence[Export]]
    delivered: Mapping[UUID, Sequence[DailyExtract]]
    runs: Mapping[UUID, RetentionRun]
    redactions: Mapping[UUID, Redaction]
    removed: Mapping[UUID, RemovedExports]
    repeated_by: Mapping[UUID, UUID]
    repeats: Mapping[UUID, UUID]
    continued_by: Mapping[UUID, ComplianceRequest]


def read(requests: Collection[ComplianceRequest]) -> Outcomes:
    """Read the outcomes of requests. An export that a request has already (`select_related`) is not read again."""
    exports = _exports([request for request in requests if request.kind == Kind.EXPORT])
    with_copies = [
        exports[request.pk].pk
        for request in requests
        if request.pk in exports and request.has_files_beside and exports[request.pk].finished_at
    ]
    kept, delivered = _left_copies(
        [one.pk for one in requests if one.kind in {Kind.DELETION, Kind.REDACTION} and one.status == Status.COMPLETED]
    )
    retention = [request.pk for request in requests if request.kind == Kind.RETENTION]
    redactions = [request.pk for request in requests if request.kind == Kind.REDACTION]
    repeated = _repeated(requests, exports)
    partial = [request.pk for request in requests if request.result == ComplianceRequest.Result.PARTIAL]
    rest = ComplianceRequest.objects.filter(continues__in=partial).only("continues", "status", "answered_at")
    return Outcomes(
        exports=exports,
        copies=_copies(with_copies) if with_copies else {},
        kept=kept,
        delivered=delivered,
        runs=RetentionRun.objects.in_bulk(retention, field_name="request_id"),
        redactions=Redaction.objects.in_bulk(redactions, field_name="request_id"),
        removed=_removed(redactions),
        repeated_by={one.removed_id: one.repeat_id for one in repeated if one.repeat_id},
        repeats={one.repeat_id: one.removed_id for one in repeated if one.repeat_id},
        continued_by={one.continues_id: one for one in rest if one.continues_id},
    )


def counts_of(request: ComplianceRequest) -> dict[str, int]:
    """Return the numbers of rows that a deletion has erased so far, or that an export contains, by store."""
    return {name: getattr(request, name) for name in COUNTED}


def unverified_left_out(request: ComplianceRequest) -> int | None:
    """Return the number of conversations that a completed export left out for a weak identity, or else None."""
    is_known = request.kind == Kind.EXPORT and request.status == Status.COMPLETED
    return request.unverified_left_out if is_known else None


def assurance_of(request: ComplianceRequest) -> dict[Assurance, int] | None:
    """Return a chatter's conversations by assurance: for a deletion at the mark, for an export in the snapshot.

    None before that is known, for requests that are not about a chatter, and for those from before it was counted.
    """
    is_export = request.kind == Kind.EXPORT
    is_known = request.status == Status.COMPLETED if is_export else request.cutoff_at is not None
    if request.selector != ComplianceRequest.Selector.UCI or not is_known:
        return None
    numbers: dict[Assurance, int] = {level: getattr(request, f"assurance_{level}") for level in Assurance}
    found = request.conversations + request.shared_conversations if is_export else request.conversations_total
    return numbers if any(numbers.values()) or found <= request.erased_before else None


def conversations_done(request: ComplianceRequest) -> int:
    """Return the number of erased conversations in a deletion's scope, or of conversations in an export.

    While a deletion runs, only its own erasures count: those of another deletion count there.
    """
    if request.kind != ComplianceRequest.Kind.EXPORT and request.status == ComplianceRequest.Status.COMPLETED:
        return request.conversations_total
    return request.conversations


def waits_for(request: ComplianceRequest) -> str | None:
    """Return the `ComplianceRequest.WaitingFor` of a begun request while it waits."""
    waits = request.status == ComplianceRequest.Status.ACCEPTED and request.claim_id is None
    return request.waiting_for if waits else None


def _left_copies(request_ids: Collection[UUID]) -> tuple[dict[UUID, list[Export]], dict[UUID, list[DailyExtract]]]:
    """Return the copies that these deletions left where they are, including those that were removed since."""
    kept: defaultdict[UUID, list[Export]] = defaultdict(list)
    delivered: defaultdict[UUID, list[DailyExtract]] = defaultdict(list)
    left = LeftCopy.objects.filter(deletion__in=request_ids).select_related("export", "extract")
    for copy in left.order_by(F("export__finished_at").asc(nulls_last=True), "export", "extract__day"):
        if copy.export:
            # By now the export may have been finished elsewhere, with nothing of what was erased.
            unfinished = Export(request_id=copy.export.request_id, hosting=CLIENT)
            kept[copy.deletion_id].append(unfinished if copy.is_unfinished else copy.export)
        if copy.extract:
            # As for an export: the present file may be another one.
            former = DailyExtract(day=copy.extract.day)
            delivered[copy.deletion_id].append(former if copy.extract.was_left_in_former_bucket else copy.extract)
    return kept, delivered


def _exports(requests: Collection[ComplianceRequest]) -> dict[UUID, Export]:
    field = ComplianceRequest._meta.get_field("export")
    unknown = [request.pk for request in requests if not field.is_cached(request)]
    known = [cast("Export | None", field.get_cached_value(request, None)) for request in requests]
    found = {export.request_id: export for export in known if export is not None}
    if unknown:
        found |= {export.request_id: export for export in Export.objects.raw(_EXPORTS, [array(unknown)])}
    return found


def _removed(request_ids: Collection[UUID]) -> dict[UUID, RemovedExports]:
    of_one = F("redaction")
    numbered = RepeatedExport.objects.filter(redaction__in=request_ids).annotate(
        place=Window(RowNumber(), partition_by=of_one, order_by=F("pk").asc()),
        number=Window(Count("*"), partition_by=of_one),
    )
    first: dict[UUID, list[RepeatedExport]] = defaultdict(list)
    numbers: dict[UUID, int] = {}
    for one in numbered.filter(place__lte=MOST_REMOVED).order_by("pk"):
        first[one.redaction_id].append(one)
        numbers[one.redaction_id] = one.number
    return {redaction_id: RemovedExports(removed, numbers[redaction_id]) for redaction_id, removed in first.items()}


def _repeated(requests: Collection[ComplianceRequest], exports: Mapping[UUID, Export]) -> list[RepeatedExport]:
    """Return the repeats of these exports, and the exports that these repeat. Queries only if there can be any."""
    gone = [one.request_id for one in exports.values() if one.finished_at and not one.is_available]
    made = [one.pk for one in requests if one.kind == Kind.EXPORT and one.filed_by == BY_WORKER]
    if not gone and not made:
        return []
    return list(RepeatedExport.objects.raw(_REPEATED, {"removed": array(gone), "repeats": array(made)}))


def _copies(export_ids: Collection[int]) -> dict[int, list[ExportFile]]:
    copies: dict[int, list[ExportFile]] = defaultdict(list)
    for copy in ExportFile.objects.raw(_COPIES, [array(export_ids), MOST_FILES]):
        copies[copy.export_id].append(copy)
    return dict(copies)
