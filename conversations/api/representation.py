"""Conversations, messages, files and extracts as the API returns them. All fields are always present."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from django.conf import settings

from chatbots.models import Bucket
from common.problems import CODES, FieldError, Problem
from common.times import rfc3339
from conversations import usage as usage_counts
from conversations.api.schemas import (
    DocumentResult,
    Extract,
    File,
    IdentityResult,
    LoggedConversation,
    MonthUsage,
    SaidMessage,
)
from conversations.documents import DocumentError
from conversations.identification import IdentifyResult
from conversations.intake import StoreResult
from conversations.log import LogEntry
from conversations.messages import MessageWithFiles
from conversations.models import DailyExtract, UploadedFile

DELETED: Final = "Deleted conversation"


def conversation(entry: LogEntry) -> LoggedConversation:
    """Return a conversation of the log. A closed one has only the fields that are kept after deletion."""
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


def _day(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def message(entry: MessageWithFiles) -> SaidMessage:
    return {
        "id": entry.message.external_id,
        "sender": entry.message.sender,
        "kind": entry.message.kind,
        "text": entry.message.text,
        "sent_at": rfc3339(entry.message.sent_at),
        "files": [file(one) for one in entry.files],
    }


def file(one: UploadedFile) -> File:
    return {
        "file_id": one.pk,
        "name": one.name,
        "content_type": one.content_type,
        "bytes": one.size or 0,  # a stored file has both
        "sha256": one.sha256 or "",
    }


def usage(month: usage_counts.MonthUsage) -> MonthUsage:
    return {
        "month": f"{month.month:%Y-%m}",
        "channels": [
            {"channel": one.channel, "conversations": one.conversations, "deleted": one.deleted}
            for one in month.channels
        ],
        "conversations": sum(channel.conversations for channel in month.channels),
        "deleted": sum(channel.deleted for channel in month.channels),
    }


def extract(one: DailyExtract) -> Extract:
    is_hosted = one.hosting == Bucket.Hosting.HOSTED
    return {
        "day": one.day.isoformat(),
        "state": one.state,
        "starts_at": rfc3339(one.starts_at),
        "ends_at": rfc3339(one.ends_at),
        "rows": one.rows,
        "bytes": one.bytes,
        "sha256": one.sha256,
        "hosting": one.hosting,
        "bucket": settings.S3_BUCKET if is_hosted else one.bucket,
        "key": one.key,
        "finished_at": rfc3339(one.finished_at),
        "expires_at": rfc3339(one.expires_at),
        "error": {"code": one.error_code, "detail": one.error_detail} if one.error_code else None,
    }


def document_result(result: StoreResult) -> DocumentResult:
    error = _problem(result.errors).as_dict() if result.errors else None
    return {"id": result.id, "number": result.number, "outcome": result.outcome, "error": error}


def identity_result(result: IdentifyResult, *, place: int, most_errors: int) -> IdentityResult:
    """Return the result of the identity at this place of the body."""
    error = None
    if result.errors:
        problem = _problem([replace(one, pointer=f"/identities/{place}{one.pointer}") for one in result.errors])
        error = problem.as_dict(most_errors=most_errors)
    return {"id": result.id, "number": result.number, "outcome": result.outcome, "error": error}


def _problem(errors: Sequence[DocumentError]) -> Problem:
    first = errors[0]
    # Errors of the item as a whole have a code of their own.
    code = first.code if first.code in CODES else "invalid"
    return Problem(code, first.detail, errors=field_errors(errors))


def field_errors(errors: Iterable[DocumentError]) -> list[FieldError]:
    """Return errors of documents as those of a problem."""
    return [FieldError(pointer=one.pointer, code=one.code, detail=one.detail) for one in errors]
