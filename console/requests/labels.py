"""Labels of a request's state: its tag, its hold, its deadline, and what happens next."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.utils import timezone
from django.utils.timezone import localtime

from common.storage import errors
from compliance.deadlines import DUE_SOON_WITHIN, OPEN
from compliance.models import ComplianceRequest
from compliance.requests.decisions import approved_with, awaits_approval
from compliance.requests.results import waits_for
from compliance.work.claims import MAX_ATTEMPTS
from console.requests.history import REQUEUE_REASONS

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status
HoldReason = ComplianceRequest.HoldReason
WaitingFor = ComplianceRequest.WaitingFor


class State(NamedTuple):
    tone: str
    icon: str


_STATES = {
    Status.ACCEPTED: State("info", "clock"),
    Status.ON_HOLD: State("warn", "pause"),
    Status.PROCESSING: State("info", "spin"),
    Status.COMPLETED: State("ok", "check"),
    Status.FAILED: State("bad", "warning"),
    Status.CANCELLED: State("mute", "cross"),
    Status.REJECTED: State("mute", "cross"),
}

# States in which nothing changes by itself.
AT_REST = {Status.ON_HOLD, Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.REJECTED}

# Short enough for a list.
SHORT_HOLDS: Mapping[str, str] = {
    HoldReason.TOO_MANY_CONVERSATIONS: "Over the guard",
    HoldReason.AWAITING_APPROVAL: "Needs approval",
    HoldReason.EXPORT_PENDING: "Waiting for an export",
    HoldReason.RESTORED: "After a restore",
    HoldReason.LEGAL_HOLD: "Under a legal hold",
}

# With "four eyes", after the sentence about the start of a deletion or redaction.
APPROVED_FIRST = " In this chatbot, a second person approves it first."


def state_of(request: ComplianceRequest) -> State:
    return _STATES[Status(request.status)]


def short_hold(request: ComplianceRequest) -> str:
    if request.hold_reason:
        return SHORT_HOLDS.get(request.hold_reason, "For another reason")
    if awaits_approval(request):
        return "Can be approved"
    return "Approved" if request.status == Status.ACCEPTED and request.approved_holds else ""


def due_mark(request: ComplianceRequest) -> str:
    """Return `overdue`, `soon`, or an empty string."""
    if request.status not in OPEN or request.answered_at:
        return ""
    left = request.due_at - timezone.now()
    if left <= timedelta(0):
        return "overdue"
    had_longer = request.due_at - (request.requested_at or request.received_at) > DUE_SOON_WITHIN
    return "soon" if left <= DUE_SOON_WITHIN and had_longer else ""


_DECISIONS = {
    HoldReason.TOO_MANY_CONVERSATIONS: "Waits for an officer: over the guard",
    HoldReason.AWAITING_APPROVAL: "Waits for the approval of a second person",
    HoldReason.EXPORT_PENDING: "Waits for an earlier export",
    HoldReason.RESTORED: "Waits for an officer, after a restore",
    HoldReason.LEGAL_HOLD: "Waits for the release of a legal hold",
}
_CONTINUES = {
    WaitingFor.EXTRACTS: "Waits for daily extracts to be rebuilt",
    WaitingFor.TURN: "Continues in turns: it takes long",
    WaitingFor.ROWS: "Continues in a few seconds",
}


def short_step(request: ComplianceRequest) -> str:
    """Return what an open request waits for, short enough for a list."""
    if request.status == Status.FAILED:
        return f"Waits for a retry: {request.error_code}"
    if request.hold_reason:
        return _DECISIONS[HoldReason(request.hold_reason)]
    if request.status == Status.PROCESSING:
        return "A worker carries it out"
    if waiting_for := waits_for(request):
        return _CONTINUES[WaitingFor(waiting_for)]
    if request.not_before and request.not_before > timezone.now():
        starts = localtime(request.not_before, ZoneInfo(request.chatbot.timezone))
        return f"{'Is tried again' if request.error_code else 'Starts'} on {starts:%Y-%m-%d at %H:%M}"
    return "Waits for a worker"


def next_step(request: ComplianceRequest) -> str:
    """Return a sentence on the next step of the request, and what it waits for."""
    status = Status(request.status)
    if status == Status.ACCEPTED:
        return _accepted(request)
    if status == Status.ON_HOLD:
        return _held(request)
    if status == Status.COMPLETED:
        return _completed(request)
    if status == Status.CANCELLED and request.failed_at:
        return "It was cancelled after it had failed. Nothing was delivered, and the value it named was erased."
    if status == Status.PROCESSING:
        return _UNDER_WAY.get(Kind(request.kind), "A worker is erasing the data.")
    return _ENDED_WITHOUT_VALUE.get(Kind(request.kind), _ENDED)[status]


_UNDER_WAY = {
    Kind.EXPORT: "A worker is writing the file.",
    Kind.REDACTION: "A worker is removing the texts and files.",
}
_ENDED = {
    Status.FAILED: "It does not continue by itself. See below what to do.",
    Status.CANCELLED: "It was cancelled before it started. Nothing was changed, and the value it named was erased.",
    Status.REJECTED: "It was not carried out. Nothing was changed, and the value it named was erased.",
}
_ENDED_WITHOUT_VALUE = {
    kind: {
        Status.FAILED: _ENDED[Status.FAILED],
        Status.CANCELLED: f"It was cancelled before it started. {left}",
        Status.REJECTED: f"It was not carried out. {left}",
    }
    for kind, left in (
        (Kind.RETENTION, "No conversation was erased."),
        (Kind.REDACTION, "Nothing was redacted."),
    )
}


_WAITING = {
    WaitingFor.EXTRACTS: "Its conversations are erased. It completes when the daily extracts that contained them are "
    "rebuilt: {clean} of {total} are.",
    WaitingFor.TURN: "It takes long. Workers continue with it, and serve other requests in between.",
    WaitingFor.ROWS: "Another worker is using the same conversations. It continues in a few seconds.",
}


_REDACTED_WAITS = (
    "Its texts are redacted. It completes when the daily extracts that contained them are rebuilt: {clean} of "
    "{total} are."
)


def _accepted(request: ComplianceRequest) -> str:
    waits = request.not_before is not None and request.not_before > timezone.now()
    waiting_for = waits_for(request)
    if waiting_for and not request.error_code:
        is_redaction = waiting_for == WaitingFor.EXTRACTS and request.kind == Kind.REDACTION
        text = _REDACTED_WAITS if is_redaction else _WAITING[WaitingFor(waiting_for)]
        return text.format(clean=request.extracts, total=request.extracts + request.extracts_left)
    if request.error_code:
        again = f"It is tried again at {_clock(request)}." if waits else "It is tried again now."
        requeued = REQUEUE_REASONS.get(request.error_code)
        if requeued:
            return f"{requeued} {again}"
        most = errors.REFUSED_ATTEMPTS if request.error_code in errors.REFUSALS else MAX_ATTEMPTS
        return f"An attempt failed ({request.attempts} of {most}): {request.error_detail} {again}"
    if waits:
        is_first = request.kind == Kind.RETENTION and request.retention_run.announced is not None
        sets_back = " Cancelling it sets the retention period back." if is_first else ""
        starts = _starts(request)
        if is_first and request.chatbot.retention_set_at is None:
            starts = f"It is put on hold at {_clock(request)}, until an officer confirms the period."
        return f"{starts}{sets_back}"
    then = f", and then for the approval of a second person. {_BEFOREHAND}" if awaits_approval(request) else "."
    return f"It waits in the queue for a worker{then}"


_BEFOREHAND = "An officer who did not file it can approve it already."


def _starts(request: ComplianceRequest) -> str:
    """Return when a request with a start time starts, and what can hold it then."""
    clock, is_approved = _clock(request), HoldReason.AWAITING_APPROVAL in request.approved_holds
    if awaits_approval(request):
        text = (
            f"At {clock} it is put on hold until a second person approves it. {_BEFOREHAND} Then it starts at that "
            "time. It can be cancelled meanwhile."
        )
    elif is_approved:
        text = f"It is approved, and starts at {clock}. It can be cancelled until then."
    else:
        return f"It starts at {clock}. It can be cancelled until then."
    if request.kind == Kind.DELETION:
        most = request.chatbot.max_conversations_per_deletion
        text += (
            f" Whether it names more conversations than the chatbot's guard allows ({most:,}) is known only when it "
            "starts. That needs an approval of its own."
        )
    return text


# A later version can have other reasons.
_ANOTHER_REASON = "It is on hold for a reason that this page does not know."

_WHY_HELD: Mapping[str, str] = {
    HoldReason.TOO_MANY_CONVERSATIONS: "It names more conversations than the chatbot's guard allows ({guard:,}). "
    "Often the value is a placeholder or is shared by many people: find out whose it is.",
    HoldReason.AWAITING_APPROVAL: "In this chatbot, each {kind} needs the approval of a second person.",
    HoldReason.EXPORT_PENDING: "An earlier export of the same chatter or the same conversations has not been "
    "delivered, and its data would be lost. Fix and retry that export, and the deletion continues by itself. "
    "If you approve the deletion instead, the export can no longer be delivered.",
    HoldReason.RESTORED: "It was filed again after the database was restored from a backup. In this chatbot a second "
    "person approves, or it names more conversations than the guard allows ({guard:,}). One approval is for both.",
}


_WHY_RUN_HELD: Mapping[str, str] = {
    HoldReason.TOO_MANY_CONVERSATIONS: "It would erase over a tenth more conversations than were confirmed when the "
    "period was set ({announced:,}), or they are too many to count in time. Find out why before it starts.",
    HoldReason.AWAITING_APPROVAL: "In this chatbot, the first run of a period needs the approval of a second person.",
    HoldReason.RESTORED: "The database was restored from a backup, and with it the retention period of that time. If "
    "that was lengthened or turned off since, set it again in the settings of the chatbot: this cancels the run. If "
    "the period is right, approve the run: later ones begin by themselves. After a rejection the next one is held.",
}


_UNDER_LEGAL_HOLD = (
    "A legal hold covers some of its data, so nothing has been erased. It continues by itself when the hold is "
    "released, and its deadline goes on meanwhile."
)


def _held(request: ComplianceRequest) -> str:
    if request.hold_reason == HoldReason.LEGAL_HOLD:
        is_deletion = request.kind == Kind.DELETION
        return f"{_UNDER_LEGAL_HOLD}{' An officer can let it erase what is not held.' if is_deletion else ''}"
    if request.kind == Kind.RETENTION:
        run = request.retention_run
        reason = _WHY_RUN_HELD.get(str(request.hold_reason), _ANOTHER_REASON).format(announced=run.announced or 0)
        sets_back = "" if run.announced is None else "; rejecting it sets the retention period back"
        return f"{reason} Nothing has been erased. {_decider(request)} must approve or reject it{sets_back}."
    reason = _WHY_HELD.get(str(request.hold_reason), _ANOTHER_REASON).format(
        guard=request.chatbot.max_conversations_per_deletion, kind=request.get_kind_display().lower()
    )
    return f"{reason} Nothing has been erased. {_decider(request)} must approve or reject it."


_REMAINING_HOLDS = {
    HoldReason.EXPORT_PENDING: "an earlier export of the same data has not been delivered",
    HoldReason.TOO_MANY_CONVERSATIONS: "it names more conversations now than the chatbot's guard allows ({guard:,})",
    HoldReason.AWAITING_APPROVAL: "each deletion needs the approval of a second person",
    HoldReason.LEGAL_HOLD: "a legal hold covers some of its data",
}


def remaining_holds(request: ComplianceRequest, held_by: Sequence[HoldReason]) -> list[str]:
    """Return the reasons to hold a deletion after this approval. `held_by` are those for a new one like it now."""
    approved = {*request.approved_holds, *approved_with(request)}
    guard = request.chatbot.max_conversations_per_deletion
    return [_REMAINING_HOLDS[reason].format(guard=guard) for reason in held_by if reason not in approved]


def _decider(request: ComplianceRequest) -> str:
    return "An officer who did not file it" if request.chatbot.four_eyes else "An officer"


_FORMATS = {"csv": "CSV", "json": "JSON Lines", "html": "pages"}


def formats_of(words: str) -> str:
    """Return the names of an export's formats, such as "CSV, pages"."""
    return ", ".join(_FORMATS[word] for word in words.split())


_DONE = {
    Kind.DELETION: "All data in scope is erased, verification found nothing left, and the value was erased from the "
    "request.",
    Kind.EXPORT: "The export is complete.",
    Kind.REDACTION: "The texts and files are deleted, and verification found nothing left.",
    Kind.RETENTION: "Everything that was due is erased, and verification found nothing left.",
}


def _completed(request: ComplianceRequest) -> str:
    if request.kind == Kind.RETENTION and request.retention_run.examined_number < (request.cutoff_number or 0):
        return "It ended early, since the retention period was set anew or the database was restored."
    if request.result == ComplianceRequest.Result.NOTHING_FOUND:
        return _nothing_found(request)
    if request.result == ComplianceRequest.Result.PARTIAL:
        return "What no legal hold covered is erased, and verification found nothing left of it. The rest is kept."
    return _DONE[Kind(request.kind)]


def _nothing_found(request: ComplianceRequest) -> str:
    if request.unverified_left_out:
        return "The file is empty: no identity is reliable enough."
    return "There was no data to export." if request.kind == Kind.EXPORT else "There was no data to erase."


def _clock(request: ComplianceRequest) -> str:
    zone = request.chatbot.timezone
    return f"{localtime(request.not_before, ZoneInfo(zone)):%H:%M:%S on %Y-%m-%d} ({zone})"
