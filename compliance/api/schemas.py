"""Responses of the operations on requests."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Any, Literal, Self, cast
from uuid import UUID

from django.conf import settings
from pydantic import Field

from chatbots.models import Bucket, Chatbot
from common.times import UtcInstant
from compliance import models
from compliance.models import ComplianceRequest, Redaction
from compliance.requests import results
from compliance.requests.decisions import is_retryable
from compliance.requests.results import Outcomes, RemovedExports
from config.openapi.operations import Problem, ResponseModel, Stored

Status = ComplianceRequest.Status


class Progress(ResponseModel):
    """The progress of a request."""

    conversations_done: int
    conversations_total: int | None
    """Known once a deletion has begun; for an export at its end."""
    extracts_done: int
    """Daily extracts that are rebuilt, of those that a deletion requires."""
    extracts_total: int


class Counts(ResponseModel):
    """The numbers of erased rows, or of rows in an export (`conversations`, `messages`, `files`)."""

    conversations: int
    messages: int
    identities: int
    variable_values: int
    files: int
    exports: int
    extracts: int
    """Days that were rebuilt."""


class RequestCounts(Counts):
    """The numbers that a request counts."""

    csat_comments: int
    """Of a redaction. A deletion empties them with their `conversations`."""


class AssuranceCounts(ResponseModel):
    """A chatter's conversations, by how far the identity in each can be relied on (`established_by` of the log)."""

    user_channel: int
    """Claimed through the user channel: it can be forged on the way."""
    platform: int
    """Said by the platform."""
    verified: int
    """Verified by you: asserted, signed or resolved."""


class CopiedFile(ResponseModel):
    """A file beside an export: of one of its formats, or an uploaded file's copy."""

    name: str
    """`index.html`, `conversations.jsonl` and so on; of a copy its `file_id`."""
    file_id: int | None
    """Of a copy, as in the CSV's column `file_id`."""
    key: str | None
    """Null for keys without `requests:read`, and once the copy is removed."""
    bytes: Stored[int]
    sha256: Stored[str]


class ExportFile(ResponseModel):
    """The file of an export that is whole."""

    hosting: Stored[Bucket.Hosting]
    """`hosted`: in the operator's bucket; `client`: in yours."""
    bucket: str
    key: str | None
    """Contains the chatter's value. Null for keys without `requests:read`, and once the file is removed or a deletion
    of the chatter has completed."""
    rows: int
    bytes: int
    sha256: str
    expires_at: UtcInstant | None
    """Null in your own bucket: there the file is yours."""
    files: list[CopiedFile]
    """The files of its formats, and with `include_files` the copies of uploaded files; the first 100 of them. None of
    a ZIP, which contains them."""

    @classmethod
    def of(cls, export: models.Export, copies: Iterable[models.ExportFile], *, shows_key: bool) -> Self:
        """Return the file; without keys unless `shows_key`."""
        files = [CopiedFile.model_validate(copy) for copy in copies]
        for one in files if not shows_key else ():
            one.key = None
        where = {"bucket": export.bucket or settings.S3_BUCKET, "key": export.key if shows_key else None}
        return cls.model_validate(vars(export) | where | {"files": files})


class KeptExport(ResponseModel):
    """An export that a deletion left."""

    request_id: UUID
    """Of the export."""
    hosting: Stored[Bucket.Hosting]
    finished_at: UtcInstant | None
    """Null for what an export that failed may have left in a former bucket of yours."""
    sha256: str | None
    expires_at: UtcInstant | None
    removed_at: UtcInstant | None
    """Set once it is removed."""


class DeliveredExtract(ResponseModel):
    """A daily extract in your own bucket with data that a deletion erased. Remove it yourself."""

    day: date
    finished_at: UtcInstant | None
    sha256: str | None


class Failure(ResponseModel):
    """Why a request failed."""

    code: str
    detail: str
    retryable: bool
    """Whether an operator can still retry it."""


class Retention(ResponseModel):
    """What a retention run erases."""

    days: int = Field(validation_alias="retention_days")
    """The period that the chatbot had when the run was filed."""
    older_than: UtcInstant
    """Conversations whose last message is older were due."""
    left_out: int
    """Conversations that were due but kept for an export that has not ended, for 30 days at most."""


class RemovedExport(ResponseModel):
    """An export that a redaction removed."""

    request_id: UUID
    repeated_by: UUID | None
    """The export that was filed in its place, for the same subject and with the same options. Null if nothing of the
    subject is stored any more."""


class Redacted(ResponseModel):
    """What a redaction removes."""

    number: int
    """Of the conversation."""
    messages: int
    """The number of selected messages; `counts` has the number of those that still had a text."""
    csat_comment: bool
    """Whether the comment of the conversation's CSAT was selected; `counts` says whether there still was one."""
    reason: Stored[Redaction.Reason]
    removed_exports: list[RemovedExport]
    """The finished hosted exports that held the conversation, the first 100 of them."""
    removed_exports_total: int
    """How many there are."""


class RequestObject(ResponseModel):
    """A deletion, an export, a retention run or a redaction, and its progress."""

    request_id: UUID
    kind: Stored[ComplianceRequest.Kind]
    status: Stored[ComplianceRequest.Status]
    """`accepted` waits for a worker, `on_hold` for a decision. `completed`, `rejected` and `cancelled` are final;
    `failed` can be retried by an operator."""
    hold_reason: Stored[ComplianceRequest.HoldReason] | None
    """While on hold."""
    selector: ComplianceRequest.Selector
    """How it selects its data: by a chatter's UCI value, or by conversations' ids. `age` is that of a retention run,
    `messages` that of a redaction, which selects messages of a conversation, or its CSAT comment."""
    result: Stored[ComplianceRequest.Result] | None
    """Once completed."""
    reference: str
    """Your own. Empty if you gave none, and from 90 days (`ERASURE_LEDGER_DAYS`) after the request has ended."""
    received_at: UtcInstant
    requested_at: UtcInstant
    """When the person asked: as filed, otherwise `received_at`."""
    not_before: UtcInstant | None
    """No worker takes it earlier: a time to cancel it, or a pause after an error."""
    deadline: str
    """The chatbot's rule when it was filed: `gdpr` (one month), `ccpa` (45 days), or a number of days."""
    due_at: UtcInstant
    """The end of the last day in the chatbot's time zone, counted from `requested_at` by `deadline`."""
    extended_at: UtcInstant | None
    """When `due_at` was extended."""
    extension_reason: Stored[ComplianceRequest.ExtensionReason] | None
    """Once extended."""
    answered_at: UtcInstant | None
    """When you recorded that the person was told of a refusal or a hold: it is not overdue then."""
    started_at: UtcInstant | None
    finished_at: UtcInstant | None
    status_url: str
    """The address of its status, which is read with a token."""
    progress: Progress
    waiting_for: Stored[ComplianceRequest.WaitingFor] | None
    """While a request that was begun waits. `extracts`: a deletion has erased the rows, and daily extracts that held
    them are rebuilt. `turn`: it takes long, and others are served in between. `rows`: another worker has locked
    some of its conversations; it continues within seconds."""
    counts: RequestCounts
    assurance: AssuranceCounts | None
    """The chatter's live conversations that a deletion found when it marked, or an export in its snapshot, also those
    that it leaves out. Null before that is known, and of requests that name no chatter."""
    unverified_left_out: int | None
    """Of a completed export: conversations that the file leaves out, since the chatter's identity in them is weaker
    than the chatbot's setting for exports demands, or a changed session was not looked up yet."""
    withheld: int
    """Conversations that a deletion or a retention run left out, since a legal hold covers them."""
    continues: UUID | None
    """The deletion that left out, under a legal hold, what this deletion erases. Both have the same `requested_at`
    and `due_at`."""
    continued_by: UUID | None
    """Of a deletion with the result `partial`: the deletion that was filed for the rest."""
    csv_dialect: Stored[Chatbot.CsvDialect] | None
    """Of an export: how its CSV is written. As it was filed, or else as the chatbot was set then."""
    formats: list[Stored[Chatbot.ExportFormat]] | None
    """Of an export: as it was filed, or else as the chatbot was set then."""
    archive: Literal["zip"] | None
    """Of an export: `zip` if its files are one ZIP."""
    export: ExportFile | None
    kept_exports: list[KeptExport]
    """Of a completed deletion or redaction: the exports that it left."""
    delivered_extracts: list[DeliveredExtract]
    """Of a completed deletion or redaction: the daily extracts in your own bucket that contain erased data."""
    retention: Retention | None
    """Of a retention run."""
    redaction: Redacted | None
    """Of a redaction."""
    repeated_by: UUID | None
    """Of an export that a redaction removed: the export that was filed in its place."""
    repeats: UUID | None
    """Of an export that was filed because a redaction removed another: that one."""
    error: Failure | None
    """While failed."""

    @classmethod
    def of(cls, request: ComplianceRequest, *, status_url: str, shows_key: bool) -> Self:
        """Return the object of one request; see `all_of`."""
        [shown] = cls.all_of([request], status_url=lambda _request: status_url, shows_key=shows_key)
        return shown

    @classmethod
    def all_of(
        cls, requests: Sequence[ComplianceRequest], *, status_url: Callable[[ComplianceRequest], str], shows_key: bool
    ) -> list[Self]:
        """Return the objects of requests, in order, by a number of queries that does not grow with the requests.

        They never contain the chatter's value, except in the key of a hosted export. `shows_key`: the caller may read
        the key (scope `requests:read`).
        """
        outcomes = results.read(requests)
        return [
            cls.model_validate(_fields(request, outcomes, shows_key=shows_key) | {"status_url": status_url(request)})
            for request in requests
        ]


_OF_REQUEST = (
    *("kind", "status", "hold_reason", "selector", "result", "reference", "received_at", "not_before", "deadline"),
    *("due_at", "extended_at", "extension_reason", "answered_at", "started_at", "withheld"),
    "existing",  # of a request that was just filed
)


def _fields(request: ComplianceRequest, outcomes: Outcomes, *, shows_key: bool) -> dict[str, Any]:
    export = outcomes.exports.get(request.pk)
    error = {"code": request.error_code, "detail": request.error_detail, "retryable": is_retryable(request)}
    return {
        **{name: getattr(request, name) for name in _OF_REQUEST},
        "request_id": request.pk,
        "requested_at": request.requested_at or request.received_at,
        "finished_at": {
            Status.COMPLETED: request.completed_at,
            Status.FAILED: request.failed_at,
            Status.CANCELLED: request.cancelled_at,
            Status.REJECTED: request.rejected_at,
        }.get(cast("Status", request.status)),
        "progress": {
            "conversations_done": results.conversations_done(request),
            "conversations_total": request.conversations_total,
            "extracts_done": request.extracts,
            "extracts_total": request.extracts + request.extracts_left,
        },
        "waiting_for": results.waits_for(request),
        "counts": request,
        "assurance": results.assurance_of(request),
        "unverified_left_out": results.unverified_left_out(request),
        "continues": request.continues_id,
        "continued_by": continued.pk if (continued := outcomes.continued_by.get(request.pk)) else None,
        "csv_dialect": request.csv_dialect if request.kind == ComplianceRequest.Kind.EXPORT else None,
        "formats": request.formats.split() if request.kind == ComplianceRequest.Kind.EXPORT else None,
        "archive": request.archive or None,
        "export": ExportFile.of(export, outcomes.copies.get(export.pk, ()), shows_key=shows_key)
        if export and export.finished_at
        else None,
        "kept_exports": outcomes.kept.get(request.pk, ()),
        "delivered_extracts": outcomes.delivered.get(request.pk, ()),
        "retention": outcomes.runs.get(request.pk),
        "redaction": _redaction(outcomes.redactions.get(request.pk), outcomes.removed.get(request.pk)),
        "repeated_by": outcomes.repeated_by.get(request.pk),
        "repeats": outcomes.repeats.get(request.pk),
        "error": error if request.status == Status.FAILED else None,
    }


def _redaction(redaction: models.Redaction | None, removed: RemovedExports | None) -> dict[str, Any] | None:
    if redaction is None:
        return None
    removed = removed or RemovedExports()
    return {
        "number": redaction.conversation_id,
        "messages": len(redaction.message_numbers),
        "csat_comment": redaction.csat_comment,
        "reason": redaction.reason,
        "removed_exports": [{"request_id": one.removed_id, "repeated_by": one.repeat_id} for one in removed.first],
        "removed_exports_total": removed.all,
    }


class SubmittedRequest(RequestObject):
    """The filed request, or the equal one that is returned in its place."""

    existing: bool
    """Nothing new was filed: an equal export that waits is returned instead. Always false for deletions."""


class RequestPage(ResponseModel):
    """A page of requests, the newest first."""

    results: list[RequestObject]
    next: str | None
    """The address of the page behind this one."""
    previous: str | None
    """The address of the page before this one."""


class RequestLookup(ResponseModel):
    """The requests about one chatter, the newest first."""

    results: list[RequestObject]
    left_out: int
    """How many older ones there are beside these; more than 9,800 are not counted."""


class RefusedItem(ResponseModel):
    """The error of a refused item of a batch."""

    error: Problem
    """Its pointers begin at the item."""


class BatchResponse(ResponseModel):
    """The result of each item of a batch, in order."""

    results: list[SubmittedRequest | RefusedItem]
