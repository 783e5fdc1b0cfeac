"""What the calls about conversations, their files and daily extracts take and answer with."""

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from chatbots.models import Bucket
from config.openapi.schemas import Problem, ResponseModel, ResponsePage
from conversations.documents import Document, Id
from conversations.intake import MAX_DOCUMENTS
from conversations.log import MAX_IDS
from conversations.models import Conversation, DailyExtract, Message

JSON_LINES = "application/x-ndjson"


class LookUpBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_IDS)]


class Conversations(RootModel[Document | Annotated[list[Document], Field(max_length=MAX_DOCUMENTS)]]):
    """One document, or a list of up to 1,000."""


class DocumentResult(ResponseModel):
    """What became of one document."""

    id: str | None
    """As sent; null where it could not be read."""
    number: int | None
    """Ours; null where there is no such conversation."""
    outcome: Literal["created", "updated", "unchanged", "refused"]
    error: Problem | None
    """Of a refused one."""


class DocumentResults(ResponseModel):
    """What became of each document, in order."""

    results: list[DocumentResult]


class File(ResponseModel):
    """A stored file."""

    file_id: int
    name: str
    content_type: str
    bytes: int
    sha256: str
    """Of its content, in lower-case hex."""


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
    """What the chatter thought of it."""

    score: int | None
    vote: Conversation.CsatVote | None
    comment: str | None
    """Null of a deleted conversation."""


class Identifier(ResponseModel):
    """Who a chatter is: a Unique Chatter Identifier and its value."""

    key: str
    value: str


class LoggedConversation(ResponseModel):
    """A conversation of the log. A deleted one keeps number, the day it began, channel, flags, scores and vote."""

    number: int
    """Ours; it never changes."""
    id: str | None
    """The platform's; null of a deleted conversation."""
    deleted: bool
    """Whether it is deleted, or marked to be: from the mark on nobody opens it any more."""
    label: Literal["Deleted conversation"] | None
    deletion_request_id: UUID | None
    """The request that deletes it."""
    channel: Conversation.Channel
    language: str | None
    user_name: str | None
    started_at: datetime
    """Of a deleted conversation the UTC day, at midnight."""
    last_message_at: datetime | None
    message_count: int | None
    file_upload: bool
    agent_handover: bool
    push: bool
    score: float | None
    csat: Satisfaction
    unique_chatter_identifiers: list[Identifier]
    """Empty where the conversation names no chatter: no request finds it then. The first 100; two where two people
    used one window."""


class ConversationLog(ResponsePage):
    """A page of the log, newest first."""

    results: list[LoggedConversation]


class FoundConversation(ResponseModel):
    """What was found under an id."""

    id: str
    """As it was sent."""
    conversation: LoggedConversation | None


class FoundConversations(ResponseModel):
    """What was found under each id, in order."""

    results: list[FoundConversation]


class SaidMessage(ResponseModel):
    """A message, in the names of the document that it came with."""

    id: str
    sender: Message.Sender
    kind: Message.Kind
    text: str
    sent_at: datetime
    files: list[File]
    """The files that came with it."""


class Transcript(ResponsePage):
    """A page of what was said, in order."""

    results: list[SaidMessage]


class ChannelUsage(ResponseModel):
    """How many conversations began on a channel."""

    channel: Conversation.Channel
    conversations: int
    """All, deleted ones included."""
    deleted: int
    """How many of them are deleted by now."""


class MonthUsage(ResponseModel):
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


class ExtractFailure(ResponseModel):
    """Why a day's file could not be made."""

    code: str
    detail: str


class Extract(ResponseModel):
    """A daily extract."""

    day: date
    state: DailyExtract.State
    """`pending`: to be made. `done`: the file lies there. `stale`: a deletion or a late message has changed the day,
    and the file is made again under the same key. `failed`: an operator can have it made again. `expired`: a hosted
    file whose days are over."""
    starts_at: datetime
    ends_at: datetime
    """The first instant that is no longer of the day."""
    rows: int | None
    bytes: int | None
    sha256: str | None
    hosting: Bucket.Hosting
    bucket: str
    key: str | None
    """Null while there is no file."""
    finished_at: datetime | None
    expires_at: datetime | None
    """Null in your own bucket: there the file is yours."""
    error: ExtractFailure | None


class Extracts(ResponseModel):
    """Daily extracts, newest first."""

    extracts: list[Extract]
