"""Bodies and responses of the calls about conversations, their files and daily extracts.

A TypedDict describes what the function below it returns, so mypy compares the two. All fields are always present. The
other models only describe.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.conf import settings
from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, JsonValue, RootModel, with_config
from typing_extensions import TypedDict

from chatbots.models import Bucket
from common.problems import CODES, FieldError
from common.problems import Problem as Refusal
from common.times import rfc3339
from config.openapi.operations import Problem, ResponseModel, ResponsePage
from conversations.documents import Document, DocumentError, Id
from conversations.identification import MAX_IDENTITIES, IdentifyResult, IdentityOutcome
from conversations.intake import MAX_DOCUMENTS, DocumentOutcome, StoreResult
from conversations.log import MAX_IDS, Identifier, LogEntry
from conversations.messages import MessageWithFiles
from conversations.models import Conversation, DailyExtract, Message, UploadedFile
from conversations.usage import MonthUsage

JSON_LINES = "application/x-ndjson"


class LookUpBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_IDS)]


# A UCI value in a body, for the API's document; operations check it.
UCI_VALUE: dict[str, JsonValue] = {
    "minLength": 1,
    "pattern": r"^[^\x00]*$",
    "not": {"enum": [*sorted(settings.UCI_PLACEHOLDERS)]},
}


class IdentityItem(BaseModel):
    """Who chatted in a conversation."""

    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)

    id: Id
    """The platform's id of the conversation."""
    # The limits are also what makes pydantic look for unpaired surrogates.
    unique_chatter_identifier_key: str = Field(min_length=1, max_length=128)
    """The UCI that the chatbot had when the conversation began."""
    unique_chatter_identifier_value: str = Field(max_length=512, json_schema_extra=UCI_VALUE)
    """The chatter: an exact string. Placeholders that broken integrations send are refused."""


_IDENTITIES = Field(min_length=1, max_length=MAX_IDENTITIES)


class IdentitiesBody(BaseModel):
    """Identities as they are read: each is validated by itself."""

    model_config = ConfigDict(strict=True, extra="forbid")

    identities: list[Any] = _IDENTITIES


class Identities(BaseModel):
    """Up to 1,000 identities."""

    model_config = ConfigDict(extra="forbid")

    identities: list[IdentityItem] = _IDENTITIES


class Conversations(RootModel[Document | Annotated[list[Document], Field(max_length=MAX_DOCUMENTS)]]):
    """One document, or a list of up to 1,000."""


def _documented_as(documented: Any) -> GetPydanticSchema:
    """Return the annotation of a value whose schema is that of another type."""
    return GetPydanticSchema(lambda _source, handler: handler.generate_schema(documented))


_Time = Annotated[str, _documented_as(datetime)]
_Channel = Annotated[str, _documented_as(Conversation.Channel)]

_response = with_config(ConfigDict(use_attribute_docstrings=True))


@_response
class DocumentResult(TypedDict):
    """The result of one document."""

    id: str | None
    """As sent; null if it could not be read."""
    number: int | None
    """Ours; null if there is no such conversation, and where what was sent is not valid."""
    outcome: DocumentOutcome
    error: Annotated[dict[str, Any], _documented_as(Problem)] | None
    """Only of a refused document."""


def document_result(result: StoreResult) -> DocumentResult:
    error = _problem(result.errors).as_dict() if result.errors else None
    return {"id": result.id, "number": result.number, "outcome": result.outcome, "error": error}


class DocumentResults(ResponseModel):
    """The result of each document, in order."""

    results: list[DocumentResult]


@_response
class IdentityResult(TypedDict):
    """The result of one identity."""

    id: str | None
    """As sent; null if it could not be read."""
    number: int | None
    """Ours; null if there is no such conversation, and where what was sent is not valid."""
    outcome: IdentityOutcome
    """`created`: it is stored. `confirmed`: the conversation had this value already."""
    error: Annotated[dict[str, Any], _documented_as(Problem)] | None
    """Only of a refused identity."""


def identity_result(result: IdentifyResult, *, place: int, most_errors: int) -> IdentityResult:
    """Return the result of the identity at this place of the body."""
    error = None
    if result.errors:
        problem = _problem([replace(one, pointer=f"/identities/{place}{one.pointer}") for one in result.errors])
        error = problem.as_dict(most_errors=most_errors)
    return {"id": result.id, "number": result.number, "outcome": result.outcome, "error": error}


def _problem(errors: Sequence[DocumentError]) -> Refusal:
    first = errors[0]
    # Errors of the item as a whole have a code of their own.
    code = first.code if first.code in CODES else "invalid"
    return Refusal(code, first.detail, errors=field_errors(errors))


def field_errors(errors: Iterable[DocumentError]) -> list[FieldError]:
    """Return errors of documents as those of a problem."""
    return [FieldError(pointer=one.pointer, code=one.code, detail=one.detail) for one in errors]


class IdentityResults(ResponseModel):
    """The result of each identity, in order."""

    results: list[IdentityResult]


@_response
class File(TypedDict):
    """A stored file."""

    file_id: int
    name: str
    content_type: str
    bytes: int
    sha256: Annotated[str, Field(description="Of its content, in lower-case hex.")]


def file(one: UploadedFile) -> File:
    return {
        "file_id": one.pk,
        "name": one.name,
        "content_type": one.content_type,
        "bytes": one.size or 0,  # a stored file has both
        "sha256": one.sha256 or "",
    }


@_response
class FileOfConversation(File):
    """A stored file, and the message that it came with."""

    message_id: Annotated[str | None, Field(description="The platform's id.")]


@_response
class StoredFile(FileOfConversation):
    """A file that was stored, whole."""

    number: int
    """Of the conversation."""


class Files(ResponsePage):
    """A page of a conversation's files."""

    results: list[FileOfConversation]


@_response
class Satisfaction(TypedDict):
    """The chatter's rating."""

    score: int | None
    vote: Annotated[str, _documented_as(Conversation.CsatVote)] | None
    comment: str | None
    """Null for a deleted conversation."""


@_response
class LoggedConversation(TypedDict):
    """A conversation of the log. A deleted one keeps number, the day it began, channel, flags, scores and vote."""

    number: int
    """Ours; it never changes."""
    id: str | None
    """The platform's; null for a deleted conversation."""
    deleted: bool
    """Whether it is deleted, or marked for deletion: from then on it cannot be opened."""
    label: Literal["Deleted conversation"] | None
    deletion_request_id: Annotated[str, _documented_as(UUID)] | None
    """The request that deletes it."""
    channel: _Channel
    language: str | None
    user_name: str | None
    started_at: _Time
    """For a deleted conversation the UTC day, at midnight."""
    last_message_at: _Time | None
    message_count: int | None
    file_upload: bool
    agent_handover: bool
    push: bool
    score: float | None
    csat: Satisfaction
    unique_chatter_identifiers: list[Identifier]
    """Empty if the conversation names no chatter: then no request finds it. The first 100; two if two people used one
    window."""


def conversation(entry: LogEntry) -> LoggedConversation:
    """Return a conversation of the log. A closed one has only the fields that are kept after deletion."""
    one = entry.conversation
    is_open = not one.is_closed
    return {
        "number": one.pk,
        "id": one.external_id if is_open else None,
        "deleted": not is_open,
        "label": None if is_open else "Deleted conversation",
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


class ConversationLog(ResponsePage):
    """A page of the log, newest first."""

    results: list[LoggedConversation]


@_response
class FoundConversation(TypedDict):
    """The conversation of an id, or null."""

    id: str
    """As it was sent."""
    conversation: LoggedConversation | None


class FoundConversations(ResponseModel):
    """The conversation of each id, in order."""

    results: list[FoundConversation]


@_response
class SaidMessage(TypedDict):
    """A message, with the field names of the document."""

    id: str
    sender: Annotated[str, _documented_as(Message.Sender)]
    kind: Annotated[str, _documented_as(Message.Kind)]
    text: str
    sent_at: _Time
    files: list[File]
    """The files that came with it."""


def message(entry: MessageWithFiles) -> SaidMessage:
    return {
        "id": entry.message.external_id,
        "sender": entry.message.sender,
        "kind": entry.message.kind,
        "text": entry.message.text,
        "sent_at": rfc3339(entry.message.sent_at),
        "files": [file(one) for one in entry.files],
    }


class Transcript(ResponsePage):
    """A page of messages, in order."""

    results: list[SaidMessage]


class Usage(ResponseModel):
    """How many conversations began, by month and channel. Every month of the range is there."""

    first: str = Field(alias="from")
    last: str = Field(alias="to")
    months: list[MonthUsage]


@_response
class ExtractFailure(TypedDict):
    """Why a day's file could not be built."""

    code: str
    detail: str


@_response
class Extract(TypedDict):
    """A daily extract."""

    day: Annotated[str, _documented_as(date)]
    state: Annotated[str, _documented_as(DailyExtract.State)]
    """`pending`: to be built. `done`: the file is in the bucket. `stale`: a deletion or a late message has changed
    the day, and the file is rebuilt under the same key. `failed`: an operator can order it again. `expired`: a hosted
    file that was removed after its time."""
    starts_at: _Time
    ends_at: _Time
    """The first instant after the day."""
    rows: int | None
    bytes: int | None
    sha256: str | None
    hosting: Annotated[str, _documented_as(Bucket.Hosting)]
    bucket: str
    key: str | None
    """Null while there is no file."""
    finished_at: _Time | None
    expires_at: _Time | None
    """Null in your own bucket: there the file is yours."""
    error: ExtractFailure | None


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


class Extracts(ResponseModel):
    """Daily extracts, newest first."""

    extracts: list[Extract]
