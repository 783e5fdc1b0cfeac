"""Requests as the caller names them, and as the service answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, TypedDict, Unpack

from data_compliance_client.errors import APIError

_UNFINISHED = ("accepted", "processing")


class Subject(TypedDict, total=False):
    """The chatter by `key` and `value`, or `conversation_ids`: the platform's ids of 1 to 100 conversations."""

    key: str
    value: str
    conversation_ids: Sequence[str]


class Filing(Subject, total=False):
    """What every request can have.

    `reference` is your own ticket, without the value in it. `requested_at` is when the person asked: a date in the
    chatbot's time zone, or an instant with its offset.
    """

    reference: str
    callback_url: str
    requested_at: date | datetime | str


class Deletion(Filing, total=False):
    """A deletion. `erase_exports` removes the chatter's fresh exports too."""

    erase_exports: bool


class Export(Filing, total=False):
    """An export. What is left out is as the chatbot is set."""

    include_shared: bool
    include_files: bool
    csv_dialect: Literal["standard", "excel_comma", "excel_semicolon"]
    formats: Sequence[Literal["csv", "json", "html"]]
    archive: Literal["zip"]
    again: bool


class Filters(TypedDict, total=False):
    """Which requests to list. `received_after` is included, `received_before` is not."""

    status: str
    kind: str
    reference: str
    received_after: datetime
    received_before: datetime


class ConversationFilters(TypedDict, total=False):
    """Which conversations to list. `started_after` is included, `started_before` is not."""

    started_after: datetime
    started_before: datetime
    channel: str
    deleted: bool


def deletion(**options: Unpack[Deletion]) -> dict[str, Any]:
    """Return the body of a deletion, for `file`."""
    return {"action": "delete", **fields(options)}


def export(**options: Unpack[Export]) -> dict[str, Any]:
    """Return the body of an export, for `file`."""
    return {"action": "export", **fields(options)}


def fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as fields of the API: with its long names, and times as text."""
    return {_NAMES.get(name, name): text(value) for name, value in options.items() if value is not None}


def text(value: Any) -> Any:
    """Return a time as RFC 3339, and anything else as it is. Raises ValueError for an instant without time zone."""
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("The time needs a time zone, such as datetime.UTC.")
    return value.isoformat() if isinstance(value, date) else value


_NAMES = {"key": "unique_chatter_identifier_key", "value": "unique_chatter_identifier_value"}


@dataclass(frozen=True)
class Request:
    """A request as it is now. Times are aware, in UTC."""

    id: str
    kind: str
    """`deletion`, `export`, `redaction` or `retention`."""
    status: str
    """`accepted`, `on_hold`, `processing`, `completed`, `failed`, `cancelled` or `rejected`."""
    hold_reason: str | None
    result: str | None
    """Once it is completed: `done`, `partial` or `nothing_found`."""
    reference: str | None
    received_at: datetime
    due_at: datetime
    finished_at: datetime | None
    data: Mapping[str, Any] = field(repr=False, compare=False)
    """The whole request object. `export.key` in it contains the chatter's value: do not log it."""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Request":
        """Return the request of a request object."""
        return cls(
            id=data["request_id"],
            kind=data["kind"],
            status=data["status"],
            hold_reason=data["hold_reason"],
            result=data["result"],
            reference=data["reference"],
            received_at=datetime.fromisoformat(data["received_at"]),
            due_at=datetime.fromisoformat(data["due_at"]),
            finished_at=datetime.fromisoformat(data["finished_at"]) if data["finished_at"] else None,
            data=data,
        )

    @property
    def is_unfinished(self) -> bool:
        """Whether a worker will carry it out without a person's decision."""
        return self.status in _UNFINISHED

    @property
    def progress(self) -> tuple[int, int | None]:
        """How many conversations are done, of how many; None while the number is unknown."""
        progress = self.data["progress"]
        return progress["conversations_done"], progress["conversations_total"]


@dataclass(frozen=True)
class Stored:
    """What became of one document or identity that was sent."""

    position: int
    """Its place among those that were sent, or its line: 1 is the first."""
    id: str | None = field(repr=False)
    """The platform's id of the conversation."""
    number: int | None
    """The service's number of the conversation."""
    outcome: str
    """`created`, `updated`, `unchanged` or `confirmed`; `refused`, with `error`."""
    error: APIError | None = None

    @classmethod
    def of(cls, position: int, data: Mapping[str, Any]) -> "Stored":
        """Return one result of a call."""
        error = APIError.of(data["error"]) if data["error"] else None
        return cls(position, data["id"], data["number"], data["outcome"], error)


@dataclass(frozen=True)
class LogPage:
    """A page of the change log."""

    entries: Sequence[Mapping[str, Any]]
    """The oldest first."""
    next: str
    """The address of the next page. Store it with the entries: `changelog(after=...)` goes on from it."""
