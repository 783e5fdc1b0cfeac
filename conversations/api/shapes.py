"""What the calls about conversations, their files and daily extracts take and answer with."""

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import Field, RootModel

from chatbots.models import Bucket
from config.openapi.shapes import Problem, Shape
from conversations.documents import Document
from conversations.intake import MAX_DOCUMENTS
from conversations.models import DailyExtract


class Conversations(RootModel[Document | Annotated[list[Document], Field(max_length=MAX_DOCUMENTS)]]):
    """One document, or a list of up to 1,000."""


class DocumentResult(Shape):
    """What became of one document."""

    id: str | None
    """As sent; null where it could not be read."""
    number: int | None
    """Ours; null where there is no such conversation."""
    outcome: Literal["created", "updated", "unchanged", "refused"]
    error: Problem | None
    """Of a refused one."""


class DocumentResults(Shape):
    """What became of each document, in order."""

    results: list[DocumentResult]


class StoredFile(Shape):
    """A file that was stored, whole."""

    file_id: int
    number: int
    """Of the conversation."""
    name: str
    content_type: str
    bytes: int
    sha256: str
    message_id: str | None


class ExtractFailure(Shape):
    """Why a day's file could not be made."""

    code: str
    detail: str


class Extract(Shape):
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


class Extracts(Shape):
    """Daily extracts, newest first."""

    extracts: list[Extract]
