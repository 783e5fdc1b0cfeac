"""A request's state in words: what it is, what it waits for, what happens next."""

from datetime import timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.utils import timezone
from django.utils.timezone import localtime

from common.storage import errors
from compliance.deadlines import DUE_SOON_WITHIN, OPEN
from compliance.models import ComplianceRequest
from compliance.requests.counts import waits_for
from compliance.work.claims import MAX_ATTEMPTS
from console.requests.history import GIVEN_BACK

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status
HoldReason = ComplianceRequest.HoldReason
WaitingFor = ComplianceRequest.WaitingFor


class State(NamedTuple):
    """How a state is drawn: the tag's colour only repeats its word."""

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

# States in which nothing changes by itself any more.
AT_REST = {Status.ON_HOLD, Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.REJECTED}

# As a list has room for it.
HELD_IN_SHORT = {
    HoldReason.TOO_MANY_CONVERSATIONS: "Over the guard",
    HoldReason.AWAITING_APPROVAL: "Needs approval",
    HoldReason.EXPORT_PENDING: "An export is owed first",
}


def state_of(request: ComplianceRequest) -> State:
    return _STATES[Status(request.status)]


def held_in_short(request: ComplianceRequest) -> str:
    return HELD_IN_SHORT[HoldReason(request.hold_reason)] if request.hold_reason else ""


def due_mark(request: ComplianceRequest) -> str:
    """Return `overdue`, `soon`, or nothing for what has time or is over."""
    if request.status not in OPEN:
        return ""
    left = request.due_at - timezone.now()
    if left <= timedelta(0):
        return "overdue"
    had_longer = request.due_at - request.received_at > DUE_SOON_WITHIN
    return "soon" if left <= DUE_SOON_WITHIN and had_longer else ""


def what_next(request: ComplianceRequest) -> str:
    """Return what the request waits for, and what happens then."""
    status = Status(request.status)
    if status == Status.ACCEPTED:
        return _accepted(request)
    if status == Status.ON_HOLD:
        return _held(request)
    if status == Status.COMPLETED:
        return _completed(request)
    if status == Status.PROCESSING:
        return "A worker is erasing." if request.kind == Kind.DELETION else "A worker is writing the file."
    return _ENDED[status]


_ENDED = {
    Status.FAILED: "Nothing more happens by itself. What to do stands below.",
    Status.CANCELLED: "It was withdrawn before it began. Nothing was touched, and it has forgotten whom it named.",
    Status.REJECTED: "It was not carried out. Nothing was touched, and it has forgotten whom it named.",
}


_WAITING = {
    WaitingFor.EXTRACTS: "Its conversations are erased. Before it is done, daily extracts that held them are made "
    "again: {clean} of {total} are.",
    WaitingFor.TURN: "It takes long. A worker goes on with it in its turn, and others are served in between.",
    WaitingFor.ROWS: "Another worker is at work on the same conversations. It goes on in a few seconds.",
}


def _accepted(request: ComplianceRequest) -> str:
    waits = request.not_before is not None and request.not_before > timezone.now()
    waiting_for = waits_for(request)
    if waiting_for and not request.error_code:
        return _WAITING[WaitingFor(waiting_for)].format(
            clean=request.extracts, total=request.extracts + request.extracts_left
        )
    if request.error_code:
        again = f"It is tried again at {_clock(request)}." if waits else "It is tried again at once."
        unharmed = GIVEN_BACK.get(request.error_code)
        if unharmed:
            return f"{unharmed} {again}"
        most = errors.REFUSED_ATTEMPTS if request.error_code in errors.REFUSALS else MAX_ATTEMPTS
        return f"An attempt failed ({request.attempts} of {most}): {request.error_detail} {again}"
    if waits:
        return f"A worker takes it up at {_clock(request)}. Until then there is time to cancel it."
    return "It waits for a worker, which takes it up in its turn."


_WHY_HELD = {
    HoldReason.TOO_MANY_CONVERSATIONS: "it names more conversations than the chatbot's guard allows ({guard:,}). "
    "Often the value is a placeholder, or is shared by many people: find out whose it is.",
    HoldReason.AWAITING_APPROVAL: "in this chatbot a second person looks at each deletion.",
    HoldReason.EXPORT_PENDING: "an earlier export of the same chatter, or of the same conversations, is not "
    "delivered yet, and what it owes would be lost. Mend and retry that export: the deletion then goes on by itself. "
    "Or approve the deletion: the export can then not be made any more.",
}


def _held(request: ComplianceRequest) -> str:
    reason = _WHY_HELD[HoldReason(str(request.hold_reason))].format(
        guard=request.chatbot.max_conversations_per_deletion
    )
    officer = "An officer other than who filed it" if request.chatbot.four_eyes else "An officer"
    return f"Held: {reason} Nothing was touched. {officer} approves or rejects it."


def _completed(request: ComplianceRequest) -> str:
    if request.result == ComplianceRequest.Result.NOTHING_FOUND:
        return "There was nothing to erase." if request.kind == Kind.DELETION else "There was nothing to export."
    if request.kind == Kind.EXPORT:
        return "The file is whole."
    return "Everything in scope is erased, a second look found nothing left, and the request has forgotten whom."


def _clock(request: ComplianceRequest) -> str:
    zone = request.chatbot.timezone
    return f"{localtime(request.not_before, ZoneInfo(zone)):%H:%M:%S on %Y-%m-%d} ({zone})"
