"""Callbacks, as the document of the API tells of them: the calls about them, and the call that is ours."""

from typing import Any

from drf_spectacular.utils import OpenApiCallback, OpenApiExample, OpenApiRequest, OpenApiResponse

from compliance.api.bodies import NoBody
from compliance.api.shapes_callbacks import CallbacksOfRequest, Told
from config.openapi.document import REQUESTS
from config.openapi.operations import JSON, describe

_ID = "01a20e4f-9a41-7c0e-8d2f-3c1f5e0b7a66"
_DELIVERED = {
    "callback_id": _ID,
    "event": "request.completed",
    "occurred_at": "2026-11-24T16:06:40.005480Z",
    "state": "delivered",
    "receiver": None,
    "attempts": 1,
    "next_attempt_at": None,
    "last_status": 200,
    "last_error": None,
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
_TOLD = {
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

list_callbacks = describe(
    operation_id="listCallbacks",
    summary="See what you were told of a request",
    description="""
        The callbacks that are on record, in the order of events; empty where neither the request nor the chatbot
        names an address. They are kept for 30 days, unless the operator says otherwise.
        """,
    tag=REQUESTS,
    responses={
        200: OpenApiResponse(
            CallbacksOfRequest,
            "The callbacks.",
            examples=[OpenApiExample("delivered", {"callbacks": [_DELIVERED]}, summary="Told at the first attempt")],
        )
    },
)

resend_callbacks = describe(
    operation_id="resendCallbacks",
    summary="Be told of a request again",
    description="""
        Sends all callbacks of the request again, those that were delivered too, with the same `callback_id`. Needs
        the write scope of the request's kind. They go to the request's own address; once that is forgotten, to the
        chatbot's.
        """,
    tag=REQUESTS,
    request=OpenApiRequest(
        NoBody, examples=[OpenApiExample("empty", {}, summary="An empty object; no body at all is as good")]
    ),
    body_required=False,
    responses={
        200: OpenApiResponse(
            CallbacksOfRequest,
            "The callbacks, waiting.",
            examples=[OpenApiExample("waiting", {"callbacks": [_WAITING]}, summary="About to be sent")],
        )
    },
    refuses=["callback_url_forgotten"],
)


def _header(name: str, description: str, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


_REQUEST_CHANGED = {
    "summary": "A request reached a state",
    "description": "Our call to your receiver. Any 2xx is a success; anything else is tried again for a day, but "
    "410 ends it. Redirects are not followed. The body of your answer is not read. It is signed as Standard "
    "Webhooks says, with the callback secret of the chatbot. Where that has none, or its overlap is not over, it "
    "is signed in the other way, with a signing key.",
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
                # No definitions beside it: its lists are closed by Literal.
                "schema": Told.model_json_schema(mode="serialization"),
                "examples": {"completed": {"summary": "A deletion that is done", "value": _TOLD}},
            }
        },
    },
    "responses": {"2XX": {"description": "Received."}, "410": {"description": "Do not try again."}},
}
request_changed = OpenApiCallback("requestChanged", "{$request.body#/callback_url}", {"post": _REQUEST_CHANGED})
