"""Bodies and responses of the calls about conversations, their files and daily extracts."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self, TypeVar
from uuid import UUID

from django.conf import settings
from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel, ValidationError

from chatbots.models import Bucket
from common.bodies import parse_json
from common.problems import CODES, FieldError
from common.problems import Problem as Refusal
from common.times import UtcInstant
from config.openapi.operations import Problem, ResponseModel, ResponsePage, Stored
from conversations.documents import Document, Id, errors_of
from conversations.identification import MAX_IDENTITIES, IdentifyResult, IdentityOutcome
from conversations.intake import MAX_DOCUMENTS, DocumentOutcome, StoreResult
from conversations.log import MAX_IDS, Identifier, LogEntry
from conversations.messages import MessageWithFiles
from conversations.models import Conversation, DailyExtract, Message, UploadedFile
from conversations.usage import MonthUsage

JSON_LINES = "application/x-ndjson"


_Body = TypeVar("_Body", bound=BaseModel)


def read_body(model: type[_Body], raw: bytes) -> _Body:
    """Return a valid body. Raises Problem(`invalid`)."""
    body = validated(model, parse_json(raw))
    if isinstance(body, list):
        raise Refusal("invalid", "The body is not one that this call takes: see errors.", errors=body)
    return body


def validated(model: type[_Body], value: Any) -> _Body | list[FieldError]:
    # Returned, not raised: the context of an error would contain the body.
    try:
        return model.model_validate(value)
    except ValidationError as error:
        return errors_of(error)


class LookUpBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_IDS)]


# A UCI value in a body, for the OpenAPI document. Operations check it.
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


class DocumentResult(ResponseModel):
    """The result of one document."""

    id: str | None
    """As sent; null if it could not be read."""
    number: int | None
    """Ours; null if there is no such conversation, or if the item is not valid."""
    outcome: DocumentOutcome
    error: Problem | None
    """Only of a refused document."""

    @classmethod
    def of(cls, result: StoreResult) -> Self:
        error = Problem.model_validate(_problem(result.errors).as_dict()) if result.errors else None
        return cls(id=result.id, number=result.number, outcome=result.outcome, error=error)


class DocumentResults(ResponseModel):
    """The result of each document, in order."""

    results: list[DocumentResult]


class IdentityResult(ResponseModel):
    """The result of one identity."""

    id: str | None
    """As sent; null if it could not be read."""
    number: int | None
    """Ours; null if there is no such conversation, or if the item is not valid."""
    outcome: IdentityOutcome
    """`created`: it is stored. `confirmed`: the conversation had this value already."""
    error: Problem | None
    """Only of a refused identity."""

    @classmethod
    def of(cls, result: IdentifyResult, *, place: int, most_errors: int) -> Self:
        """Return the result of the identity at this place of the body."""
        error = None
        if result.errors:
            problem = _problem([one._replace(pointer=f"/identities/{place}{one.pointer}") for one in result.errors])
            error = Problem.model_validate(problem.as_dict(most_errors=most_errors))
        return cls(id=result.id, number=result.number, outcome=result.outcome, error=error)


def _problem(errors: Sequence[FieldError]) -> Refusal:
    first = errors[0]
    # Errors of the item as a whole have a code of their own.
    code = first.code if first.code in CODES else "invalid"
    return Refusal(code, first.detail, errors=errors)


class IdentityResults(ResponseModel):
    """The result of each identity, in order."""

    results: list[IdentityResult]


class File(ResponseModel):
    """A stored file."""

    file_id: int
    name: str
    content_type: str
    bytes: int
    sha256: str
    """The SHA-256 of its content, in lower-case hex."""

    @classmethod
    def of(cls, file: UploadedFile, **more: str | int | None) -> Self:
        """Return a stored file, with the fields that a subclass adds."""
        return cls.model_validate(
            {
                "file_id": file.pk,
                "name": file.name,
                "content_type": file.content_type,
                "bytes": file.size or 0,  # a stored file has both
                "sha256": file.sha256 or "",
                **more,
            }
        )


class FileOfConversation(File):
    """A stored file, and the message that it came with."""

    message_id: str | None
    """The platform's id."""


class StoredFile(FileOfConversation):
    """A file that was stored, whole."""

    number: int
    """Of the conversation."""


class Files(ResponsePage):
    """A page of a conversation's files."""

    results: list[FileOfConversation]


class Satisfaction(ResponseModel):
    """The chatter's rating."""

    score: int | None
    vote: Stored[Conversation.CsatVote] | None
    comment: str | None
    """Null for a deleted or a restricted conversation, and once it is redacted."""
    comment_redacted: bool
    """Whether a redaction removed the comment. Then no other is stored."""


class LoggedConversation(ResponseModel):
    """A conversation of the log. A deleted one keeps number, the day it began, channel, flags, scores and vote."""

    number: int
    """Ours; it never changes."""
    id: str | None
    """The platform's; null for a deleted conversation."""
    deleted: bool
    """Whether it is deleted or marked for deletion, and so cannot be opened."""
    label: Literal["Deleted conversation"] | None
    deletion_request_id: UUID | None
    """The request that deletes it."""
    restricted: bool
    """Whether a legal hold keeps it from a deletion or redaction that waits (Article 18 GDPR). Only officers read it:
    here it has neither `user_name` nor a comment nor chatters, and it has no transcript and no files."""
    channel: Stored[Conversation.Channel]
    language: str | None
    user_name: str | None
    started_at: UtcInstant
    """For a deleted conversation the UTC day, at midnight."""
    last_message_at: UtcInstant | None
    message_count: int | None
    file_upload: bool
    agent_handover: bool
    push: bool
    score: float | None
    csat: Satisfaction
    unique_chatter_identifiers: list[Identifier]
    """Empty if the conversation names no chatter: then no request finds it. Also empty while it is restricted. The
    first 100; two if two people used one window."""

    @classmethod
    def of(cls, entry: LogEntry) -> Self:
        """Return a conversation of the log. A closed one has only the fields that are kept after deletion."""
        one = entry.conversation
        is_open = not one.is_closed
        is_shown = is_open and not entry.is_restricted
        return cls.model_validate(
            {
                "number": one.pk,
                "id": one.external_id if is_open else None,
                "deleted": not is_open,
                "label": None if is_open else "Deleted conversation",
                "deletion_request_id": None if is_open else one.deletion_request_id,
                "restricted": entry.is_restricted,
                "channel": one.channel,
                "language": one.language if is_open else None,
                "user_name": one.user_name if is_shown else None,
                "started_at": one.started_at if is_open else _day(one.started_at),
                "last_message_at": one.last_message_at if is_open else None,
                "message_count": one.message_count if is_open else None,
                "file_upload": one.has_file_upload,
                "agent_handover": one.has_agent_handover,
                "push": one.has_push,
                "score": one.score,
                "csat": {
                    "score": one.csat_score,
                    "vote": one.csat_vote,
                    "comment": one.csat_comment if is_shown else None,
                    "comment_redacted": is_open and one.csat_comment_redacted,
                },
                "unique_chatter_identifiers": entry.identifiers if is_shown else [],
            }
        )


def _day(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


class ConversationLog(ResponsePage):
    """A page of the log, newest first."""

    results: list[LoggedConversation]


class FoundConversation(ResponseModel):
    """The conversation of an id, or null."""

    id: str
    """As it was sent."""
    conversation: LoggedConversation | None


class FoundConversations(ResponseModel):
    """The conversation of each id, in order."""

    results: list[FoundConversation]


class SaidMessage(ResponseModel):
    """A message, with the field names of the document."""

    id: str
    sender: Stored[Message.Sender]
    kind: Stored[Message.Kind]
    text: str
    sent_at: UtcInstant
    files: list[File]
    """The files that came with it."""

    @classmethod
    def of(cls, entry: MessageWithFiles) -> Self:
        said = entry.message
        files = [File.of(one) for one in entry.files]
        return cls.model_validate(vars(said) | {"id": said.external_id, "files": files})


class Transcript(ResponsePage):
    """A page of messages, in order."""

    results: list[SaidMessage]


class Usage(ResponseModel):
    """How many conversations began, by month and channel. Every month of the range is there."""

    first: str = Field(alias="from")
    last: str = Field(alias="to")
    months: list[MonthUsage]


class ExtractFailure(ResponseModel):
    """Why a day's file could not be built."""

    code: str
    detail: str


class Extract(ResponseModel):
    """A daily extract."""

    day: date
    state: Stored[DailyExtract.State]
    """`pending`: to be built. `done`: the file is in the bucket. `stale`: a deletion or a late message has changed
    the day, and the file is rebuilt under the same key. `failed`: an operator can order it again. `expired`: a hosted
    file that was removed after its time."""
    starts_at: UtcInstant
    ends_at: UtcInstant
    """The first instant after the day."""
    rows: int | None
    bytes: int | None
    sha256: str | None
    hosting: Stored[Bucket.Hosting]
    bucket: str
    key: str | None
    """Null while there is no file."""
    finished_at: UtcInstant | None
    expires_at: UtcInstant | None
    """Null in your own bucket: there the file is yours."""
    error: ExtractFailure | None

    @classmethod
    def of(cls, one: DailyExtract) -> Self:
        bucket = settings.S3_BUCKET if one.hosting == Bucket.Hosting.HOSTED else one.bucket
        error = {"code": one.error_code, "detail": one.error_detail} if one.error_code else None
        return cls.model_validate(vars(one) | {"bucket": bucket, "error": error})


class Extracts(ResponseModel):
    """Daily extracts, newest first."""

    extracts: list[Extract]
