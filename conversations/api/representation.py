"""Conversations, messages and files in the words of the contract. All fields are always present."""

from datetime import UTC, datetime
from typing import Any

from common.problems import CODES, Problem
from common.times import rfc3339
from conversations.api.bodies import field_errors
from conversations.intake import Outcome
from conversations.log import Entry
from conversations.messages import Said
from conversations.models import UploadedFile
from conversations.usage import MonthUsage

DELETED = "Deleted conversation"


def conversation(entry: Entry) -> dict[str, Any]:
    """Return a conversation of the log. A closed one, erased or about to be, shows what is kept of it alone."""
    one = entry.conversation
    is_open = not one.is_closed
    return {
        "number": one.pk,
        "id": one.external_id if is_open else None,
        "deleted": not is_open,
        "label": None if is_open else DELETED,
        "deletion_request_id": None if is_open else str(one.deletion_request_id),
        "channel": one.channel,
        "language": one.language if is_open else None,
        "user_name": one.user_name if is_open else None,
        "started_at": rfc3339(one.started_at if is_open else _day(one.started_at)),
        "last_message_at": rfc3339(one.last_message_at) if is_open else None,
        "message_count": one.message_count if is_open else None,
        "file_upload": one.has_file_upload,
        "agent_handover": one.has_agent_handover,
        "push": one.has_push,
        "score": None if one.score is None else float(one.score),
        "csat": {
            "score": one.csat_score,
            "vote": one.csat_vote,
            "comment": one.csat_comment if is_open else None,
        },
        "unique_chatter_identifiers": entry.identifiers if is_open else [],
    }


def message(said: Said) -> dict[str, Any]:
    """Return a message, in the names of the document that it came with."""
    return {
        "id": said.message.external_id,
        "sender": said.message.sender,
        "kind": said.message.kind,
        "text": said.message.text,
        "sent_at": rfc3339(said.message.sent_at),
        "files": [file(one) for one in said.files],
    }


def file(one: UploadedFile) -> dict[str, Any]:
    """Return a stored file."""
    return {
        "file_id": one.pk,
        "name": one.name,
        "content_type": one.content_type,
        "bytes": one.size,
        "sha256": one.sha256,
    }


def usage(month: MonthUsage) -> dict[str, Any]:
    return {
        "month": f"{month.month:%Y-%m}",
        "channels": [channel._asdict() for channel in month.channels],
        "conversations": sum(channel.conversations for channel in month.channels),
        "deleted": sum(channel.deleted for channel in month.channels),
    }


def result(outcome: Outcome) -> dict[str, Any]:
    """Return what became of a document that was sent."""
    return {
        "id": outcome.id,
        "number": outcome.number,
        "outcome": outcome.outcome,
        "error": _problem(outcome),
    }


def _problem(outcome: Outcome) -> dict[str, Any] | None:
    """Return the problem of a refused document. What no field is at fault for has a code of its own."""
    if not outcome.errors:
        return None
    first = outcome.errors[0]
    code = first.code if first.code in CODES else "invalid"
    return Problem(code, first.detail, errors=field_errors(outcome.errors)).as_dict()


def _day(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
