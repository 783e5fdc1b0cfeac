"""Misuse of a signed call: sent to another path, again or late.

A signature covers timestamp and body, but neither path nor headers: that is the product's format. So some calls
here are accepted, as docs/clients/sign-a-call.md says; the tests show what prevents them.
"""

import json
from functools import partial
from typing import Any

import pytest

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from tests.calls import ALICE, Caller, SigningCaller, TokenCaller, problem
from tests.every_call import every_call

DELETION, EXPORT = "data-deletion", "data-export"
SIGNED_CALLS = {DELETION, EXPORT, "requests/batch"}


class Captured:
    """A captured call: body and headers, to be sent to any path."""

    def __init__(self, caller: SigningCaller, body: Any) -> None:
        self.chatbot = caller.chatbot
        self.raw = json.dumps(body).encode()
        self.headers = caller.credentials(self.raw)

    def send(self, path: str, *, chatbot: Chatbot | None = None, **headers: str) -> Any:
        return Caller(chatbot or self.chatbot).post(path, self.raw, **{**self.headers, **headers})


def kinds() -> list[str]:
    return list(ComplianceRequest.objects.order_by("seq").values_list("kind", flat=True))


# --- Sent to another path --------------------------------------------------------------------------------


def test_an_export_of_a_key_for_exports_alone_cannot_become_a_deletion(chatbot):
    captured = Captured(SigningCaller(chatbot, scopes=["exports:write"]), ALICE)
    assert captured.send(EXPORT).status_code == 200
    problem(captured.send(DELETION), 403, "scope_missing")
    assert kinds() == ["export"]


def test_an_export_with_none_of_these_guards_becomes_a_deletion(chatbot):
    """Documented in docs/clients/sign-a-call.md: the signature itself does not distinguish the two."""
    captured = Captured(SigningCaller(chatbot), ALICE)
    assert [captured.send(path).status_code for path in (EXPORT, DELETION)] == [200, 200]
    assert kinds() == ["export", "deletion"]


@pytest.mark.parametrize("secrets_differ", [True, False])
def test_a_call_can_be_sent_to_another_chatbot_only_if_both_have_one_secret(chatbot, neighbour, secrets_differ):
    """Documented in docs/clients/sign-a-call.md: each chatbot needs its own secret, imported ones too."""
    captured = Captured(SigningCaller(chatbot, secret="first secret"), ALICE | {"action": "delete"})
    SigningCaller(neighbour, secret="second secret" if secrets_differ else "first secret")
    answer = captured.send(DELETION, chatbot=neighbour)
    if secrets_differ:
        problem(answer, 401, "invalid_signature")
    else:
        assert answer.status_code == 200
    assert ComplianceRequest.objects.filter(chatbot=neighbour).count() == (0 if secrets_differ else 1)


def test_a_signature_serves_the_filings_alone_and_no_call_beside_a_token_there(chatbot):
    caller, token = SigningCaller(chatbot), TokenCaller(chatbot)
    for call in every_call():
        path, body = call.below_slug(), json.dumps(ALICE | {"action": "export"})
        raw = body.encode() if call.method == "POST" else b""
        send = partial(Caller(chatbot).post, path, raw) if raw else partial(Caller(chatbot).get, path)
        credentials = caller.credentials(raw)
        alone, beside_a_token = send(**credentials), send(**credentials, **token.credentials(raw))

        if call.path in SIGNED_CALLS:
            assert alone.status_code != 401, call
            problem(beside_a_token, 401, "not_authenticated")
        else:
            assert "token" in problem(alone, 401, "not_authenticated")["detail"], call
            # It is the token's call.
            assert beside_a_token.status_code != 401, call


def test_another_spelling_of_the_path_is_the_same_call(chatbot):
    captured = Captured(SigningCaller(chatbot), ALICE)
    answers = [captured.send(path) for path in (DELETION, f"{DELETION}?again=1", "data%2Ddeletion")]
    assert {answer.json()["request_id"] for answer in answers} == {str(ComplianceRequest.objects.get().pk)}


# --- Sent late or early -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [-300, 300])
def test_a_clock_may_be_five_minutes_off_to_either_side_and_not_a_moment_more(chatbot, monkeypatch, ahead):
    caller, now = SigningCaller(chatbot), 1_800_000_000
    caller.timestamp = str(now + ahead)
    captured = Captured(caller, ALICE)

    def send_at(moment: float) -> Any:
        monkeypatch.setattr("chatbots.authentication.time.time", lambda: moment)
        return captured.send(DELETION)

    beyond = -0.001 if ahead > 0 else 0.001
    problem(send_at(now + beyond), 401, "stale_timestamp")
    assert kinds() == []
    assert send_at(now).status_code == 200
