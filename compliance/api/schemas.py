"""Responses of the operations on requests; `representation.py` builds them."""

from datetime import date, datetime
from typing import Literal
from uuid import UUID

from chatbots.models import Bucket
from compliance.models import Callback, ComplianceRequest, Redaction
from config.openapi.operations import Problem, ResponseModel


class Progress(ResponseModel):
    """How far a request is."""

    conversations_done: int
    conversations_total: int | None
    """Known once a deletion has begun; for an export at its end."""
    extracts_done: int
    """Daily extracts that are rebuilt, of those that a deletion requires."""
    extracts_total: int


class Counts(ResponseModel):
    """What was erased, or of an export what was written (`conversations`, `messages`, `files`)."""

    conversations: int
    messages: int
    identities: int
    variable_values: int
    files: int
    exports: int
    extracts: int
    """Days that were rebuilt."""


class AssuranceCounts(ResponseModel):
    """A chatter's conversations, by how far the identity in each can be relied on (`established_by` of the log)."""

    user_channel: int
    """Claimed through the user channel: it can be forged on the way."""
    platform: int
    """Said by the platform."""
    verified: int
    """Verified by you: asserted, signed or resolved."""


class CopiedFile(ResponseModel):
    """An uploaded file's copy beside an export."""

    file_id: int
    """As in the CSV's column `file_id`."""
    key: str | None
    """Null for keys without `requests:read`, and once the copy is removed."""
    bytes: int
    sha256: str


class ExportFile(ResponseModel):
    """The file of an export that is whole."""

    hosting: Bucket.Hosting
    """`hosted`: in the operator's bucket; `client`: in yours."""
    bucket: str
    key: str | None
    """Contains the chatter's value. Null for keys without `requests:read`, and once the file is removed or a deletion
    of the chatter has completed."""
    rows: int
    bytes: int
    sha256: str
    expires_at: datetime | None
    """Null in your own bucket: there the file is yours."""
    files: list[CopiedFile]
    """With `include_files`: the copies of uploaded files, the first 100 of them."""


class KeptExport(ResponseModel):
    """An export that a deletion left."""

    request_id: UUID
    """Of the export."""
    hosting: Bucket.Hosting
    finished_at: datetime | None
    """Null for what an export that failed may have left in a former bucket of yours."""
    sha256: str | None
    expires_at: datetime | None
    removed_at: datetime | None
    """Set once it is removed."""


class DeliveredExtract(ResponseModel):
    """A daily extract in your own bucket that holds what a deletion erased. It is yours to remove."""

    day: date
    finished_at: datetime | None
    sha256: str | None


class Failure(ResponseModel):
    """Why a request failed."""

    code: str
    detail: str
    retryable: bool
    """Whether an operator can still retry it."""


class Retention(ResponseModel):
    """What a retention run erases."""

    days: int
    """The period that the chatbot had when the run was filed."""
    older_than: datetime
    """Conversations whose last message is older were due."""
    left_out: int
    """Conversations that were due and kept, since an export that has not ended names them: for 30 days at most."""


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
    """How many it names; `counts` says how many still had a text."""
    reason: Redaction.Reason
    removed_exports: list[RemovedExport]
    """The finished hosted exports that held the conversation, the first 100 of them."""
    removed_exports_total: int
    """How many there are."""


class RequestObject(ResponseModel):
    """A deletion, an export, a retention run or a redaction, and how far it is."""

    request_id: UUID
    kind: ComplianceRequest.Kind
    status: ComplianceRequest.Status
    """`accepted` waits for a worker, `on_hold` for a decision. `completed`, `rejected` and `cancelled` are final;
    `failed` can be retried by an operator."""
    hold_reason: ComplianceRequest.HoldReason | None
    """While on hold."""
    selector: ComplianceRequest.Selector
    """By what it names whom it is about: a chatter's UCI value, or conversations' ids. A retention run names nobody:
    `age`, a redaction messages of a conversation: `messages`."""
    result: ComplianceRequest.Result | None
    """Once completed."""
    reference: str
    """Your own. Empty if you gave none, and from 90 days (`ERASURE_LEDGER_DAYS`) after the request has ended."""
    received_at: datetime
    requested_at: datetime
    """When the person asked: as filed, otherwise `received_at`."""
    not_before: datetime | None
    """It is not taken up earlier: a time to think again, or a pause after an error."""
    due_at: datetime
    """30 days after `requested_at`, unless the operator says otherwise."""
    started_at: datetime | None
    finished_at: datetime | None
    status_url: str
    """Ask here how far it is, with a token."""
    progress: Progress
    waiting_for: ComplianceRequest.WaitingFor | None
    """While a request that was begun waits. `extracts`: a deletion has erased the rows, and daily extracts that held
    them are rebuilt. `turn`: it takes long, and others are served in between. `rows`: another worker has locked
    some of its conversations; it continues within seconds."""
    counts: Counts
    assurance: AssuranceCounts | None
    """The chatter's live conversations that a deletion found when it marked, or an export in its snapshot, also those
    that it leaves out. Null before that is known, and of requests that name no chatter."""
    unverified_left_out: int | None
    """Of a completed export: conversations that the file leaves out, since the chatter's identity in them is weaker
    than the chatbot's setting for exports demands, or a changed session was not looked up yet."""
    export: ExportFile | None
    kept_exports: list[KeptExport]
    """Of a completed deletion or redaction: the exports that it left."""
    delivered_extracts: list[DeliveredExtract]
    """Of a completed deletion or redaction: the daily extracts in your own bucket that hold what was erased."""
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


class SubmittedRequest(RequestObject):
    """The request that answers for what was filed."""

    existing: bool
    """Nothing new was filed: an equal export that waits answers for this one. False of deletions."""


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


class KeptByDeletion(ResponseModel):
    """What a deletion would leave."""

    conversations: int
    """Entries "Deleted conversation", with what may be kept."""
    exports: int
    """Hosted exports within their grace: they go when it is over."""
    delivered_exports: int
    """Exports in your own bucket, which are yours."""
    delivered_extracts: int
    """Daily extracts in your own bucket, which are yours."""


class PreviewedDeletion(ResponseModel):
    """What a deletion would do."""

    erased: Counts
    """As a deletion counts. `messages` is the sum of what the conversations count themselves."""
    shared_conversations: int
    """Of the conversations, those in which another chatter took part too."""
    assurance: AssuranceCounts | None
    """Of the conversations; all are erased. Null for conversations by their ids."""
    exports_that_go: list[UUID]
    """The requests whose hosted files would be removed, the newest 100."""
    kept: KeptByDeletion
    held_by: list[ComplianceRequest.HoldReason]
    """What would put it on hold."""


class PreviewedExport(ResponseModel):
    """What an export would hold."""

    conversations: int
    messages: int
    files: int
    """Copies of uploaded files; 0 without `include_files`."""
    shared_left_out: int
    """Conversations with another chatter in them; 0 with `include_shared`."""
    assurance: AssuranceCounts | None
    """Of the conversations that are found, also those that are left out. Null for conversations by their ids."""
    unverified_left_out: int
    """Conversations in which the chatter's identity is weaker than the chatbot's setting for exports demands, or a
    changed session was not looked up yet, also shared ones."""
    refused: Literal["export_destination_missing"] | None
    """The code by which the export would be refused."""


class SimilarChatter(ResponseModel):
    """Another chatter of the chatbot whose value looks like yours."""

    unique_chatter_identifier_key: str
    unique_chatter_identifier_value: str
    conversations: int
    """Those that are not being deleted; 1,000 means that many or more."""
    differs_in: list[Literal["key", "case", "padding"]]
    """`padding`: spaces around it, or leading zeros."""


class PreviewResponse(ResponseModel):
    """What requests would do if they were carried out now."""

    deletion: PreviewedDeletion | None
    export: PreviewedExport | None
    at_least: bool
    """There are more conversations than were looked at (10,000): the numbers are lower bounds."""
    open_requests: list[UUID]
    """Requests about the chatter that are not over; they go first. The oldest 100."""
    similar: list[SimilarChatter]
    """At most 20."""


class RefusedItem(ResponseModel):
    """Why an item of a batch was refused."""

    error: Problem
    """Its pointers begin at the item."""


class BatchResponse(ResponseModel):
    """What became of each item of a batch, in order."""

    results: list[SubmittedRequest | RefusedItem]


Event = Literal["request.completed", "request.failed", "request.on_hold", "request.rejected", "request.cancelled"]


class CallbackObject(ResponseModel):
    """The event that a request reached a state, and its delivery."""

    callback_id: UUID
    """The same in each attempt: drop repeats by it."""
    event: Event
    occurred_at: datetime
    """When the request reached the state."""
    state: Callback.State
    """`waiting` is tried for a day; `given_up` was not delivered, and can be sent again."""
    receiver: str | None
    """Scheme and host of the address. Null once delivered or given up: the address is forgotten."""
    attempts: int
    next_attempt_at: datetime | None
    last_status: int | None
    """The HTTP status of your receiver's last answer."""
    last_error: Callback.Failure | None
    """Why the last attempt failed."""
    delivered_at: datetime | None


class RequestCallbacks(ResponseModel):
    """The callbacks of a request on record, in the order of events."""

    callbacks: list[CallbackObject]


class CallbackBody(ResponseModel):
    """The body of a callback. Nothing of the chatter."""

    callback_id: str
    """The same in each attempt: drop repeats by it."""
    event: Event
    chatbot: str
    """The chatbot's slug."""
    request_id: str
    kind: Literal["deletion", "export", "retention", "redaction"]
    reference: str
    """Your own. Empty if you gave none, or if it is no longer kept."""
    status: Literal["completed", "failed", "on_hold", "rejected", "cancelled"]
    hold_reason: str | None
    """While on hold."""
    result: Literal["done", "nothing_found"] | None
    """Once completed."""
    error_code: str | None
    """Once failed."""
    occurred_at: datetime
    """When the request reached the state. Callbacks can arrive in another order."""
