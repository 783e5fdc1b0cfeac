"""A test callback, sent by a call of the API: signed and guarded as any other, and its outcome is the answer."""

import time
from typing import Any

import pytest

from chatbots.models import ChangeLogEntry, Chatbot
from chatbots.operations.keys import create_callback_secret
from compliance.api.callbacks import CallbackBody
from compliance.callbacks.trial import MOST_A_MINUTE
from compliance.models import Callback, ComplianceRequest
from tests import hostile
from tests.calls import SigningCaller, TokenCaller, pointers, problem
from tests.common.test_network_guard import resolve_to
from tests.hostile import behaving
from tests.receivers import Receiver, receiving

PATH = "callbacks/test"


@pytest.fixture
def caller(chatbot: Chatbot, receiver: Receiver) -> TokenCaller:
    """A key of a chatbot with an address of its own."""
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=receiver.url("/path-5813"))
    return TokenCaller(chatbot, ["exports:write"])


@pytest.fixture
def secret(chatbot: Chatbot) -> str:
    return create_callback_secret(chatbot=chatbot, actor="command").secret


def sent(caller: TokenCaller, body: Any = b"") -> dict[str, Any]:
    answer = caller.post(PATH, body)
    assert answer.status_code == 200
    return dict(answer.json())


def outcomes() -> list[tuple[str, str, Any]]:
    """The entries of the change log about test callbacks: event, actor and outcome."""
    entries = ChangeLogEntry.objects.filter(event__startswith="callback.").order_by("pk")
    return [(entry.event, entry.actor, entry.data.get("outcome")) for entry in entries]


def test_it_is_delivered_and_signed_as_every_callback_and_about_no_request(chatbot, secret, caller, receiver, caplog):
    receiver.answers = [204]

    answer = sent(caller)

    [received] = receiver.received
    assert (answer["status"], answer["error"]) == (204, None)
    assert answer["callback_id"] == received.payload["callback_id"] == received.headers["webhook-id"]
    assert answer["receiver"] == receiver.url("")
    assert 0 <= answer["milliseconds"] < 5_000
    assert received.path == "/path-5813"
    assert received.is_webhook_of(secret)
    assert received.payload.keys() == CallbackBody.model_fields.keys()
    assert {name: value for name, value in received.payload.items() if value} == {
        "callback_id": answer["callback_id"],
        "event": "callback.test",
        "chatbot": chatbot.slug,
        "occurred_at": received.payload["occurred_at"],
    }
    assert received.payload["request_id"] is None
    assert received.payload["reference"] == ""
    actor = f"api:{caller.api_key.prefix}"
    assert outcomes() == [("callback.tested", actor, None), ("callback.test_ended", actor, "delivered")]
    assert not Callback.objects.exists()
    assert not ComplianceRequest.objects.exists()
    assert "5813" not in f"{answer}{list(ChangeLogEntry.objects.values_list('data'))}{caplog.text}"


def test_without_a_callback_secret_a_signing_key_signs(chatbot, caller, receiver) -> None:
    problem(caller.post(PATH, b""), 409, "signing_key_missing")
    assert not outcomes()
    signing = SigningCaller(chatbot)
    sent(caller, {"callback_url": None})
    assert receiver.received[0].is_signed_with(signing.secret)


def test_it_goes_to_an_address_in_the_body(chatbot, secret, receiver) -> None:
    caller = TokenCaller(chatbot, ["messages:redact"])
    problem(caller.post(PATH, {}), 409, "callback_url_missing")
    with receiving() as other:
        assert sent(caller, {"callback_url": other.url("/own").replace("http", "HTTP")})["error"] is None
        assert [one.path for one in other.received] == ["/own"]
    assert receiver.received == []
    chatbot.refresh_from_db()
    assert chatbot.callback_url == ""
    assert pointers(caller.post(PATH, {"callback_url": "https://hooks.example.com/x?y=1"})) == {
        "/callback_url": "invalid"
    }
    assert pointers(caller.post(PATH, {"url": "x"})) == {"/url": "unknown_field"}


@pytest.mark.parametrize("status", [301, 410, 500])
def test_a_receiver_that_refuses_is_called_once(secret, caller, receiver, status) -> None:
    receiver.answers = [status]
    receiver.headers = {"Location": receiver.url("/elsewhere")}
    answer = sent(caller)
    assert (answer["status"], answer["error"]) == (status, "bad_status")
    assert len(receiver.received) == 1
    assert outcomes()[-1][2] == "bad_status"


def test_a_silent_receiver_ends_in_time(chatbot, secret, caller, monkeypatch) -> None:
    monkeypatch.setattr("common.outbound.TEST_CALLBACK_SECONDS", 0.3)
    with behaving(hostile.says_nothing) as server:
        began = time.monotonic()
        answer = sent(caller, {"callback_url": f"{server.url()}/hook"})
        assert time.monotonic() - began < 5
    assert (answer["status"], answer["error"]) == (None, "no_answer")
    assert answer["milliseconds"] >= 300


@pytest.mark.usefixtures("nothing_listed")
def test_a_private_address_is_not_called(secret, caller, receiver, monkeypatch) -> None:
    own = {"callback_url": receiver.url().replace("http:", "https:")}
    assert pointers(caller.post(PATH, own)) == {"/callback_url": "invalid"}
    resolve_to(monkeypatch, "127.0.0.1")
    own = {"callback_url": f"https://hooks.example.com:{receiver.port}/hook"}
    assert sent(caller, own)["error"] == "address_refused"
    assert receiver.received == []


def test_a_secret_that_cannot_be_decrypted_signs_nothing(secret, caller, receiver, settings) -> None:
    settings.ENCRYPTION_KEYS = {"other": bytes(32)}
    assert sent(caller)["error"] == "signing_key_unreadable"
    assert receiver.received == []


def test_a_chatbot_sends_only_so_many_a_minute(chatbot, neighbour, secret, caller, receiver) -> None:
    for owner in (chatbot, neighbour):
        ChangeLogEntry.objects.bulk_create(
            ChangeLogEntry(chatbot=owner, event="callback.tested", actor="test", data={})
            for _ in range(MOST_A_MINUTE - 1)
        )
    sent(caller)
    answer = caller.post(PATH, b"")
    problem(answer, 429, "rate_limited")
    assert answer.headers["Retry-After"] == "60"
    assert len(receiver.received) == 1
