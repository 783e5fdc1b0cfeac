"""What the calls about callbacks answer with, and what a callback says."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from compliance.models import Callback
from config.openapi.schemas import ResponseModel

Event = Literal["request.completed", "request.failed", "request.on_hold", "request.rejected", "request.cancelled"]


class CallbackObject(ResponseModel):
    """That a request reached a state, and how far telling you is."""

    callback_id: UUID
    """The same in each attempt: drop repeats by it."""
    event: Event
    occurred_at: datetime
    """When the request reached the state."""
    state: Callback.State
    """`waiting` is tried until it is delivered, for a day; `given_up` was not delivered, and can be sent again."""
    receiver: str | None
    """Scheme and host of the address. Null once delivered: the address is forgotten."""
    attempts: int
    next_attempt_at: datetime | None
    last_status: int | None
    """The HTTP status of your receiver's last answer."""
    last_error: Callback.Failure | None
    """Why the last attempt failed."""
    delivered_at: datetime | None


class CallbacksOfRequest(ResponseModel):
    """A request's callbacks that are on record, in the order of events."""

    callbacks: list[CallbackObject]


class Told(ResponseModel):
    """The body of a callback. Nothing of the chatter."""

    callback_id: str
    """The same in each attempt: drop repeats by it."""
    event: Event
    chatbot: str
    """The chatbot's slug."""
    request_id: str
    kind: Literal["deletion", "export"]
    reference: str
    """Your own, empty if you gave none."""
    status: Literal["completed", "failed", "on_hold", "rejected", "cancelled"]
    hold_reason: str | None
    """While on hold."""
    result: Literal["done", "nothing_found"] | None
    """Once completed."""
    error_code: str | None
    """Once failed."""
    occurred_at: datetime
    """When the request reached the state. Callbacks can arrive in another order."""
