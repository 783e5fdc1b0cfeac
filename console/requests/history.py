"""The timeline of a request: its entries of the change log in words, with the notes on decisions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chatbots.models import ChangeLogEntry
from compliance.failure_docs import FAILURES
from compliance.models import ComplianceRequest, RequestNote
from compliance.requests.reasons import WORDS
from console.common.actors import names_of

# A request that is given back again and again has many.
MOST_ENTRIES = 200

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    """`tone` as the timeline's look has it; `why` is the reason of a decision in words."""

    text: str
    at: datetime
    who: str
    tone: str
    detail: str
    why: str
    has_note: bool
    note: str | None


# Codes by which requests are given back unharmed.
GIVEN_BACK = {
    "turn_over": "The worker's turn was over; it made room for others.",
    "large": "It is large, and waits for a lane of its own.",
    "client_bucket": "It has to work in the client's bucket, and waits for a lane of its own.",
    "bucket_changed": "The chatbot's bucket was changed meanwhile.",
    "extracts_pending": "Its rows are erased; it waits for daily extracts to be made again.",
    "rows_in_use": "Another worker had locked rows that it needs.",
    "export_overtaken": "A deletion met its conversations; the file is made again from what is left.",
    "isolated": "One of many taken together caused an error; each is tried by itself.",
    "storage_resting": "The storage did not answer and is left alone for a while.",
}


def _nothing(_data: Data) -> str:
    return ""


def _given_back(data: Data) -> str:
    return GIVEN_BACK.get(str(data.get("code"))) or _failure(data)


def _failure(data: Data) -> str:
    help_ = FAILURES.get(str(data.get("code")))
    meaning = f" {help_.meaning}" if help_ else ""
    return f"{data.get('code', '')}.{meaning} Attempt {data.get('attempts', '')}."


def _hold(data: Data) -> str:
    reasons = dict(ComplianceRequest.HoldReason.choices)
    return f"{reasons.get(str(data.get('reason')), '')}."


def _origin(data: Data) -> str:
    return {"api": "Through the API.", "console": "In the console."}.get(str(data.get("origin")), "")


def _erased(data: Data) -> str:
    counts = ((data.get(name), name) for name in ("conversations", "messages", "files", "exports"))
    return ", ".join(f"{count:,} {name}" for count, name in counts if isinstance(count, int)) + "."


def _file(data: Data) -> str:
    return "" if data.get("file") is None else f"The copy of file {data['file']}."


def _callback(data: Data) -> str:
    return f"{data.get('event', '')}."


Telling = Callable[[Data], str]

# Event -> in words, how it looks, and what its data adds.
EVENTS: Mapping[str, tuple[str, str, Telling]] = {
    "request.accepted": ("Filed", "", _origin),
    "request.asked_again": ("Asked for again", "", _origin),
    "request.held": ("Put on hold", "warn", _hold),
    "request.released": ("Let go on by itself", "", _nothing),
    "request.approved": ("Approved", "ok", _nothing),
    "request.rejected": ("Rejected", "bad", _nothing),
    "request.cancelled": ("Cancelled", "bad", _nothing),
    "request.started": ("Begun", "", _nothing),
    "request.requeued": ("Put back into the line", "", _given_back),
    "request.failed": ("Failed", "bad", _failure),
    "request.retried": ("Retried", "", _nothing),
    "request.completed": ("Completed", "ok", _erased),
    "request.late_data_erased": ("Late data erased", "ok", _erased),
    "export.downloaded": ("Downloaded", "", _file),
    "callback.given_up": ("A callback was given up", "warn", _callback),
    "callback.resent": ("A callback is sent again", "", _callback),
}


def timeline(request_id: UUID) -> list[Event]:
    """Return what happened to a request, the newest first."""
    entries = list(ChangeLogEntry.objects.filter(request_id=request_id).order_by("-pk")[:MOST_ENTRIES])
    notes = dict(RequestNote.objects.filter(request=request_id).values_list("entry_id", "text"))
    names = names_of(entry.actor for entry in entries)
    return [_event(entry, names[entry.actor], notes) for entry in entries]


def _event(entry: ChangeLogEntry, who: str, notes: Mapping[int, str | None]) -> Event:
    text, tone, tell = EVENTS.get(entry.event, (entry.event, "", _nothing))
    is_decision = tell is _nothing
    return Event(
        text=text,
        at=entry.at,
        who=who,
        tone=tone,
        detail=tell(entry.data),
        why=WORDS.get(str(entry.data.get("reason")), "") if is_decision else "",
        has_note=entry.pk in notes,
        note=notes.get(entry.pk),
    )
