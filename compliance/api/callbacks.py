"""The callbacks of a request, and our own call to the client's receiver."""

from typing import Annotated, Any, Literal
from uuid import UUID

from drf_spectacular.utils import OpenApiCallback
from pydantic import BeforeValidator, Field
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import json_body
from chatbots.authentication import body_of, caller_of
from chatbots.models import ApiKey
from common.times import UtcInstant
from compliance.api.base import ChangingView, ComplianceView, find_request, find_writable
from compliance.api.bodies import AddressBody, NoBody, parse, require_no_body
from compliance.callbacks import resend, trial
from compliance.errors import Refused
from compliance.models import Callback, ComplianceRequest
from config.openapi.document import REQUESTS
from config.openapi.operations import JSON, ResponseModel, Stored, answer, describe, takes

Event = Literal[
    "request.completed",
    "request.failed",
    "request.on_hold",
    "request.rejected",
    "request.cancelled",
    "request.due_soon",
    "request.overdue",
    "request.extended",
]


class CallbackObject(ResponseModel):
    """The event that a request reached a state, or an event of its deadline, and its delivery."""

    callback_id: UUID = Field(validation_alias="pk")
    """The same in each attempt: drop repeats by it."""
    event: Stored[Event]
    occurred_at: UtcInstant
    """When the request reached the state; when its deadline was extended, came within 3 days, or passed."""
    state: Stored[Callback.State]
    """`waiting` is tried for a day; `given_up` was not delivered, and can be sent again."""
    receiver: str | None
    """Scheme and host of the address. Null once delivered or given up: the address is forgotten."""
    attempts: int
    next_attempt_at: UtcInstant | None
    last_status: int | None
    """The HTTP status of your receiver's last answer."""
    last_error: Annotated[Stored[Callback.Failure] | None, BeforeValidator(lambda code: code or None)]
    """Why the last attempt failed."""
    delivered_at: UtcInstant | None


class RequestCallbacks(ResponseModel):
    """The callbacks of a request on record, in the order of events."""

    callbacks: list[CallbackObject]


class CallbackBody(ResponseModel):
    """The body of a callback. It contains nothing of the chatter."""

    callback_id: str
    """The same in each attempt: drop repeats by it."""
    event: Event
    chatbot: str
    """The chatbot's slug."""
    request_id: str
    kind: Literal["deletion", "export", "retention", "redaction"]
    reference: str
    """Your own. Empty if you gave none, or if it is no longer kept."""
    status: Literal["accepted", "processing", "completed", "failed", "on_hold", "rejected", "cancelled"]
    """The state of the event; of an event of the deadline, the state at that time."""
    hold_reason: str | None
    """While on hold."""
    result: Literal["done", "partial", "nothing_found"] | None
    """Once completed."""
    error_code: str | None
    """Once failed."""
    occurred_at: UtcInstant
    """When the request reached the state; when its deadline was extended, came within 3 days, or passed. Callbacks
    can arrive in another order."""


class CallbackTestResult(ResponseModel):
    """A test callback and its outcome."""

    callback_id: UUID
    """That of the body, and the header `webhook-id`."""
    receiver: str
    """Scheme and host of the address."""
    status: int | None
    """The HTTP status of your receiver's answer."""
    error: Stored[Callback.Failure] | None
    """Why it was not delivered. Null if your receiver took it."""
    milliseconds: int
    """How long the call took."""


_ID = "01a20e4f-9a41-7c0e-8d2f-3c1f5e0b7a66"
_DELIVERED = {
    **dict.fromkeys(CallbackObject.model_fields),
    "callback_id": _ID,
    "event": "request.completed",
    "occurred_at": "2026-11-24T16:06:40.005480Z",
    "state": "delivered",
    "attempts": 1,
    "last_status": 200,
    "delivered_at": "2026-11-24T16:06:40.310022Z",
}
_WAITING = _DELIVERED | {
    "state": "waiting",
    "receiver": "https://hooks.example.com",
    "attempts": 0,
    "next_attempt_at": "2026-11-24T18:20:01.204431Z",
    "last_status": None,
    "delivered_at": None,
}
_BODY = {
    "callback_id": _ID,
    "event": "request.completed",
    "chatbot": "acme",
    "request_id": "01a20e4f-2ccd-727b-ad28-e544e31ea60e",
    "kind": "deletion",
    "reference": "TICKET-7",
    "status": "completed",
    "hold_reason": None,
    "result": "done",
    "error_code": None,
    "occurred_at": "2026-11-24T16:06:40.005480Z",
}
_TAKEN = {
    "callback_id": _ID,
    "receiver": "https://hooks.example.com",
    "status": 204,
    "error": None,
    "milliseconds": 87,
}


class CallbacksView(ComplianceView):
    scope = ApiKey.Scope.REQUESTS_READ

    @describe(
        operation_id="listCallbacks",
        summary="List the callbacks of a request",
        description="""
            The callbacks on record, in the order of events; empty if neither the request nor the chatbot has an
            address. They are kept for 30 days, unless the operator has set another period.
            """,
        tag=REQUESTS,
        responses={
            200: answer(
                RequestCallbacks,
                "The callbacks.",
                ("delivered", {"callbacks": [_DELIVERED]}, "Delivered at the first attempt"),
            )
        },
    )
    def get(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        return _respond_with_callbacks(find_request(request, request_id))


class ResendView(ChangingView):
    @describe(
        operation_id="resendCallbacks",
        summary="Send the callbacks of a request again",
        description="""
            Sends all callbacks of the request again, including delivered ones, with the same `callback_id`. Needs the
            write scope of the request's kind, for a retention run that of deletions. They go to the request's own
            address; once that is forgotten, to the chatbot's.
            """,
        tag=REQUESTS,
        request=takes(NoBody, ("empty", {}, "An empty object; the body may be left out, too")),
        body_required=False,
        responses={
            200: answer(
                RequestCallbacks,
                "The callbacks, waiting.",
                ("waiting", {"callbacks": [_WAITING]}, "About to be sent"),
            )
        },
        refuses=["callback_url_forgotten"],
    )
    def post(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        require_no_body(request)
        found = find_writable(request, request_id)
        resend.resend_of_request(request_id=found.pk, actor=caller_of(request).actor)
        return _respond_with_callbacks(found)


class SendTestView(ComplianceView):
    # Every key that can file a request with a `callback_url`.
    either_scope = ChangingView.either_scope
    takes_long = ["POST"]

    @describe(
        operation_id="sendTestCallback",
        summary="Send a test callback",
        description=f"""
            Sends one callback with the event `{trial.EVENT}`, signed as every other, and answers with its outcome. It
            is about no request: `reference` is empty, and `request_id`, `kind`, `status`, `hold_reason`, `result` and
            `error_code` are null. It goes to the chatbot's address, or to `callback_url`. Your receiver has 5
            seconds. It is not sent again, and not listed. A chatbot can send {trial.MOST_A_MINUTE} a minute.
            """,
        tag=REQUESTS,
        request=takes(
            AddressBody,
            ("chatbot", {}, "To the chatbot's address; the body may be left out, too"),
            ("own", {"callback_url": "https://hooks.example.com/privacy"}, "To another address"),
        ),
        body_required=False,
        responses={
            200: answer(
                CallbackTestResult,
                "The outcome, also if your receiver did not take it.",
                ("delivered", _TAKEN, "Delivered"),
            )
        },
        refuses=["callback_url_missing", "signing_key_missing"],
    )
    def post(self, request: Request, **_path: str) -> Response:
        caller = caller_of(request)
        own = parse(AddressBody, json_body(request)).callback_url if body_of(request) else None
        try:
            sent = trial.send(chatbot=caller.chatbot, url=own or "", actor=caller.actor)
        except Refused as refused:
            if refused.code == "rate_limited":
                self.headers["Retry-After"] = "60"
            raise
        return Response(CallbackTestResult.model_validate(sent))


def _respond_with_callbacks(request: ComplianceRequest) -> Response:
    return Response(RequestCallbacks.model_validate({"callbacks": resend.callbacks_of(request.pk)}))


def _header(name: str, description: str, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


_CALL = {
    "summary": "A request reached a state, or has an event of its deadline",
    "description": "Our call to your receiver. Any 2xx is a success. Anything else is tried again for a day, but 410 "
    "ends it. Redirects are not followed, and the body of your response is not read. The call is signed by Standard "
    "Webhooks with the chatbot's callback secret. If there is none, or while its overlap lasts, it is signed with a "
    "signing key, too.",
    "parameters": [
        _header("webhook-id", "The callback's id.", _ID),
        _header("webhook-timestamp", "When it was sent, in Unix seconds.", "1795536400"),
        _header(
            "webhook-signature",
            "`v1,` and the Base64 of an HMAC-SHA256 of id, timestamp and body, a dot between each two, under "
            "the callback secret. While two secrets sign, two of them with a space between.",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        _header("X-Mindsay-Request-Timestamp", "As `webhook-timestamp`.", "1795536400"),
        _header(
            "X-Mindsay-Signature",
            "HMAC-SHA256 of the timestamp directly followed by the body, under the secret of a signing key, as "
            "lower-case hex.",
            "66f3778d4b2850a1a64fbb190a552ede968527cefc440c1d2f9d5c5fede77b93",
        ),
        _header("X-Mindsay-Key", "The prefix of that key.", "3f9a52c1d07e"),
    ],
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                # Without definitions beside it: its enums are Literals.
                "schema": CallbackBody.model_json_schema(mode="serialization"),
                "examples": {"completed": {"summary": "A deletion that is done", "value": _BODY}},
            }
        },
    },
    "responses": {"2XX": {"description": "Received."}, "410": {"description": "Do not try again."}},
}
REQUEST_CHANGED = OpenApiCallback("requestChanged", "{$request.body#/callback_url}", {"post": _CALL})
