"""Bodies and responses of the calls about conversations, their files and daily extracts.

A TypedDict is what `representation` returns, so mypy compares the two. The other models only describe.
"""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.conf import settings
from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, JsonValue, RootModel, with_config
from typing_extensions import TypedDict

from chatbots.models import Bucket
from config.openapi.operations import Problem, ResponseModel, ResponsePage
from conversations.documents import Document, Id
from conversations.identification import MAX_IDENTITIES, IdentityOutcome
from conversations.intake import MAX_DOCUMENTS, DocumentOutcome
from conversations.log import MAX_IDS, Identifier
from conversations.models import Conversation, DailyExtract, Message

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


class Transcript(ResponsePage):
    """A page of messages, in order."""

    results: list[SaidMessage]


@_response
class ChannelUsage(TypedDict):
    """How many conversations began on a channel."""

    channel: _Channel
    conversations: int
    """Including deleted ones."""
    deleted: int
    """How many of them are deleted now."""


@_response
class MonthUsage(TypedDict):
    """How many conversations began in a month, in UTC."""

    month: str
    channels: list[ChannelUsage]
    """Every channel, in a fixed order."""
    conversations: int
    deleted: int


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


class Extracts(ResponseModel):
    """Daily extracts, newest first."""

    extracts: list[Extract]
