"""The timeline of a request: its entries of the change log, with the notes on decisions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chatbots.models import ChangeLogEntry
from common.texts import counted
from compliance.errors import FAILURES
from compliance.models import ComplianceRequest, RequestNote
from compliance.requests.reasons import WORDS, Letter
from console.changelog import names_of

# A request that is requeued again and again has many.
MOST_ENTRIES = 200

Data = Mapping[str, Any]


@dataclass(frozen=True)
class TimelineEvent:
    """`tone` is a class of the stylesheet; `reason` is the label of a decision's reason."""

    text: str
    at: datetime
    actor: str
    tone: str
    detail: str
    reason: str
    has_note: bool
    note: str | None


# Codes with which requests are requeued without a failure.
REQUEUE_REASONS = {
    "turn_over": "The worker paused it to serve other requests.",
    "large": "It is large, and waits for a worker that takes large requests.",
    "client_bucket": "It uses the client's bucket, and waits for a worker that takes such requests.",
    "bucket_changed": "The chatbot's bucket was changed.",
    "extracts_pending": "Its data is erased. It waits for daily extracts to be rebuilt.",
    "rows_in_use": "Another worker is using data that it needs.",
    "export_overtaken": "A deletion or redaction erased some of what it holds. The file is rebuilt without that.",
    "claim_lost": "The worker of its batch was lost. It continues without losing an attempt.",
    "cluster_ended": "A process beside its worker was lost. It continues without losing an attempt.",
    "split": "A request in its batch caused an error. They are tried in smaller batches.",
    "isolated": "A request in its batch caused an error. Each is tried on its own.",
    "machine_silent": "A machine of the database did not respond. It continues when the machine is back.",
    "database_refused": "The database had no room, or took no connection. It continues by itself.",
    "storage_resting": "The storage did not respond and is not used for a while.",
}


def _nothing(_data: Data) -> str:
    return ""


def _requeued(data: Data) -> str:
    return REQUEUE_REASONS.get(str(data.get("code"))) or _failure(data)


def _failure(data: Data) -> str:
    help_ = FAILURES.get(str(data.get("code")))
    meaning = f" {help_.meaning}" if help_ else ""
    return f"{data.get('code', '')}.{meaning} Attempt {data.get('attempts', '')}."


def _hold(data: Data) -> str:
    reasons = dict(ComplianceRequest.HoldReason.choices)
    reason = reasons.get(str(data.get("reason")))
    return f"{reason}." if reason else ""


def _origin(data: Data) -> str:
    return {
        "api": "Filed via the API.",
        "console": "Filed in the console.",
        "replay": "Filed again after the database was restored from a backup.",
    }.get(str(data.get("origin")), "")


def _erased(data: Data) -> str:
    counts = [(data.get(f"{noun}s"), noun) for noun in ("conversation", "message", "file", "export")]
    # An export exports none, and few people have uploaded files.
    shown = [*counts[:2], *((count, noun) for count, noun in counts[2:] if count)]
    text = ", ".join(counted(count, noun) for count, noun in shown if isinstance(count, int)) + "."
    left_out = data.get("unverified_left_out")
    return f"{text} {counted(left_out, 'conversation')} left out for a weak identity." if left_out else text


def _file(data: Data) -> str:
    return "" if data.get("file") is None else f"File {data['file']}."


def _letter(data: Data) -> str:
    return f"{dict(Letter.choices).get(str(data.get('letter')), '')}."


def _callback(data: Data) -> str:
    return f"{data.get('event', '')}."


Detail = Callable[[Data], str]

# Event -> label, tone, and how its data is shown.
EVENTS: Mapping[str, tuple[str, str, Detail]] = {
    "request.accepted": ("Filed", "", _origin),
    "request.reused": ("Requested again", "", _origin),
    "request.held": ("Put on hold", "warn", _hold),
    "request.released": ("Released automatically", "", _nothing),
    "request.shown": ("The subject was shown", "", _nothing),
    "request.approved": ("Approved", "ok", _nothing),
    "request.limited": ("Erases what is not held", "ok", _nothing),
    "request.rejected": ("Rejected", "bad", _nothing),
    "request.cancelled": ("Cancelled", "bad", _nothing),
    "request.started_early": ("Waiting time ended", "", _nothing),
    "request.extended": ("Deadline extended", "", _nothing),
    "request.answered": ("Person answered", "ok", _letter),
    "request.started": ("Started", "", _nothing),
    "request.requeued": ("Back in the queue", "", _requeued),
    "request.failed": ("Failed", "bad", _failure),
    "request.retried": ("Retried", "", _nothing),
    "request.completed": ("Completed", "ok", _erased),
    "request.replayed": ("Carried out again after a restore", "", _erased),
    "request.left": ("Left as it is after a restore", "warn", _nothing),
    "request.late_data_erased": ("Late data erased", "ok", _erased),
    "export.downloaded": ("Downloaded", "", _file),
    "callback.given_up": ("Callback given up", "warn", _callback),
    "callback.resent": ("Callback sent again", "", _callback),
}


def timeline(request_id: UUID) -> list[TimelineEvent]:
    entries = list(ChangeLogEntry.objects.filter(request_id=request_id).order_by("-pk")[:MOST_ENTRIES])
    notes = dict(RequestNote.objects.filter(request=request_id).values_list("entry_id", "text"))
    names = names_of(entry.actor for entry in entries)
    return [_event(entry, names[entry.actor], notes) for entry in entries]


def _event(entry: ChangeLogEntry, actor: str, notes: Mapping[int, str | None]) -> TimelineEvent:
    text, tone, detail = EVENTS.get(entry.event, (entry.event, "", _nothing))
    return TimelineEvent(
        text=text,
        at=entry.at,
        actor=actor,
        tone=tone,
        detail=detail(entry.data),
        reason=WORDS.get(str(entry.data.get("reason")), ""),
        has_note=entry.pk in notes,
        note=notes.get(entry.pk),
    )
