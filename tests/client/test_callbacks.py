"""Signatures: those of calls, and those of callbacks, with Standard Webhooks' own library on the other side."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

import data_compliance_client as package
from chatbots.models import Chatbot
from chatbots.operations.keys import create_callback_secret
from compliance.callbacks.queue import deliver
from compliance.requests import decisions
from tests.factories import deletion_of
from tests.receivers import Received, receiving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = json.dumps(
    {
        "callback_id": "c-1",
        "event": "request.completed",
        "request_id": "r-1",
        "status": "completed",
        "reference": None,
        "occurred_at": "2026-11-24T16:06:40Z",
    }
).encode()


def secret_of(chatbot: Chatbot) -> str:
    return create_callback_secret(chatbot=chatbot, actor="command", overlap_hours=1).secret


@pytest.fixture
def received(chatbot: Chatbot) -> Iterator[tuple[Received, str, str]]:
    """A callback of the service, and the two secrets that sign it while one replaces the other."""
    old, new = secret_of(chatbot), secret_of(chatbot)
    with receiving() as receiver:
        request = deletion_of(chatbot, "alice-77", callback_url=receiver.url(), reference="T-7")
        decisions.cancel(request_id=request.pk, actor="command")
        deliver()
        yield receiver.received[-1], old, new


def test_our_callbacks_are_accepted_by_the_client_and_by_standard_webhooks(received) -> None:
    callback, old, new = received
    for secret in (old, new):
        told = package.verify_callback(callback.body, callback.headers, "whsec_AAAA", secret)
        assert (told.event, told.status, told.reference) == ("request.cancelled", "cancelled", "T-7")
        assert told.id == callback.payload["callback_id"]
        assert abs(told.occurred_at - datetime.now(UTC)).total_seconds() < 60
        assert Webhook(secret).verify(callback.body, {k.lower(): v for k, v in callback.headers.items()})
    with pytest.raises(package.InvalidCallback):
        package.verify_callback(callback.body + b" ", callback.headers, old, new)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(callback.body, {k.lower(): v for k, v in callback.headers.items()})


def theirs(body: bytes = BODY, *, age: float = 0) -> dict[str, str]:
    """Return the headers that Standard Webhooks' library gives a message of this age in seconds."""
    sent = datetime.fromtimestamp(int(time.time() - age), UTC)
    signature = Webhook(SECRET).sign("msg_1", sent, body.decode())
    return {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(sent.timestamp())),
        "Webhook-Signature": signature,
    }


def test_theirs_are_accepted_by_the_client() -> None:
    assert package.verify_callback(BODY, theirs(age=290), SECRET).id == "c-1"


@pytest.mark.parametrize(
    ("body", "make_headers"),
    [
        (BODY, lambda: theirs(age=310)),
        (BODY, lambda: theirs(age=-310)),
        (BODY, lambda: theirs() | {"Webhook-Id": "msg_2"}),
        (BODY, lambda: theirs() | {"Webhook-Signature": "v1,AAAA v2,AAAA"}),
        (BODY, lambda: theirs() | {"Webhook-Timestamp": "noon"}),
        (BODY, lambda: theirs() | {"Webhook-Timestamp": "9" * 400}),
        (BODY, dict),
        (b"[]", lambda: theirs(b"[]")),
        (b"{}", lambda: theirs(b"{}")),
    ],
    ids=[
        "old",
        "of the future",
        "another id",
        "another signature",
        "no timestamp",
        "a huge one",
        "no headers",
        "a list",
        "empty",
    ],
)
def test_anything_else_is_refused(body: bytes, make_headers: Callable[[], dict[str, str]]) -> None:
    with pytest.raises(package.InvalidCallback):
        package.verify_callback(body, make_headers(), SECRET)


@pytest.mark.parametrize("secret", ["my secret", "", "whsec_"])
def test_a_secret_that_is_none_is_told(secret: str) -> None:
    """Whoever knows that a setting is empty could sign with it."""
    with pytest.raises(ValueError, match="whsec_"):
        package.verify_callback(BODY, theirs(), secret)


def test_a_call_is_signed_as_documented() -> None:
    body = b'{"end_user_token": "df6a0edc-b31d-461x-ydcx-f7d5f02cd3d0"}'
    signature = "66f3778d4b2850a1a64fbb190a552ede968527cefc440c1d2f9d5c5fede77b93"
    assert package.sign("a_secure_secret", "1575215418", body) == signature
