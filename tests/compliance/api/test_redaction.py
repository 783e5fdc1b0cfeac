"""`POST conversations/{number}/messages/redact`: what it takes, what it refuses, and who may call it."""

from typing import Any

import pytest

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest, Redaction, RepeatedExport
from compliance.requests import results
from tests import factories
from tests.calls import SigningCaller, TokenCaller, pointers, problem
from tests.compliance.conftest import Drain
from tests.factories import conversation_of

BODY = {"ids": ["m-1"], "reason": "payment_data"}


@pytest.fixture
def number(chatbot: Chatbot) -> int:
    conversation = conversation_of(chatbot, "42", messages=0, external_id="c-1")
    for one in ("m-1", "m-2"):
        factories.MessageFactory.create(conversation=conversation, external_id=one)
    return conversation.pk


def redact(caller: TokenCaller, number: int, body: Any = BODY) -> Any:
    return caller.post(f"conversations/{number}/messages/redact", body)


def test_it_files_a_redaction(chatbot: Chatbot, number: int) -> None:
    body = {"ids": ["m-2", "m-1"], "reason": "credentials", "reference": "TICKET-7", "callback_url": None}
    Chatbot.objects.filter(pk=chatbot.pk).update(grace_minutes=60)
    answer = redact(TokenCaller(chatbot, ["messages:redact"]), number, body)

    shown = answer.json()
    assert answer.status_code == 200
    assert (shown["kind"], shown["status"], shown["selector"]) == ("redaction", "accepted", "messages")
    assert (shown["reference"], shown["not_before"]) == ("TICKET-7", None)
    about = {"number": number, "messages": 2, "csat_comment": False, "reason": "credentials"}
    assert shown["redaction"] == {**about, "removed_exports": [], "removed_exports_total": 0}
    redaction = Redaction.objects.get(request=shown["request_id"])
    assert len(redaction.message_numbers) == 2
    request = ComplianceRequest.objects.get(pk=redaction.request_id)
    assert (request.origin, request.variable_id, request.conversation_digests) == ("api", None, None)


def test_callbacks_go_to_its_own_address(chatbot: Chatbot, number: int, drain: Drain) -> None:
    SigningCaller(chatbot)
    caller = TokenCaller(chatbot)
    body = BODY | {"callback_url": "https://hooks.example.com/privacy"}
    request_id = redact(caller, number, body).json()["request_id"]
    drain()

    [callback] = caller.get(f"requests/{request_id}/callbacks").json()["callbacks"]
    assert (callback["event"], callback["receiver"]) == ("request.completed", "https://hooks.example.com")


def test_it_names_what_is_wrong(chatbot: Chatbot, number: int) -> None:
    other = conversation_of(chatbot, "42", messages=0)
    factories.MessageFactory.create(conversation=other, external_id="of another")
    SigningCaller(chatbot)
    caller = TokenCaller(chatbot)
    wrong: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"ids": []}, {"/ids": "too_short"}),
        ({"ids": [], "csat_comment": False}, {"/ids": "too_short"}),
        ({"csat_comment": 1}, {"/csat_comment": "wrong_type"}),
        ({"csat_comment": True}, {"/csat_comment": "invalid"}),
        ({"ids": [f"m{n}" for n in range(101)]}, {"/ids": "too_long"}),
        ({"ids": ["m-1", ""]}, {"/ids/1": "too_short"}),
        ({"ids": [7]}, {"/ids/0": "wrong_type"}),
        ({"ids": ["m-1", "m-1"]}, {"/ids/1": "invalid"}),
        ({"ids": ["m-1", "m-9"]}, {"/ids/1": "invalid"}),
        ({"ids": ["of another"]}, {"/ids/0": "invalid"}),
        ({"reason": "because"}, {"/reason": "unknown_value"}),
        ({"reason": None}, {"/reason": "unknown_value"}),
        ({"reference": "about-m-1"}, {"/reference": "invalid"}),
        ({"callback_url": "https://hooks.example.com/m-1"}, {"/callback_url": "invalid"}),
        ({"text": "x"}, {"/text": "unknown_field"}),
    ]
    details = {}
    for body, expected in wrong:
        answer = redact(caller, number, BODY | body)
        assert pointers(answer) == expected
        details["+".join(body)] = answer.json()["detail"]
    assert details["reference"] == "The reference must not contain a message's id, in any form: it is kept longer."
    assert details["callback_url"] == "The address must not contain a message's id."
    assert not ComplianceRequest.objects.exists()


def test_it_refuses_what_is_not_there(chatbot: Chatbot, neighbour: Chatbot, number: int, drain: Drain) -> None:
    caller = TokenCaller(chatbot)
    problem(redact(TokenCaller(neighbour), number), 404, "not_found")
    problem(redact(caller, number + 1), 404, "not_found")
    factories.deletion_of(chatbot, "42")
    drain()
    problem(redact(caller, number), 410, "conversation_deleted")
    Chatbot.objects.filter(pk=chatbot.pk).update(compliance_enabled=False)
    problem(redact(caller, number), 409, "compliance_disabled")


def test_it_can_be_withdrawn_while_it_waits_with_its_own_scope(chatbot: Chatbot, number: int) -> None:
    caller = TokenCaller(chatbot, ["messages:redact"])
    request_id = redact(caller, number).json()["request_id"]

    problem(TokenCaller(chatbot, ["deletions:write"]).post(f"requests/{request_id}/cancel", {}), 403, "scope_missing")
    assert caller.post(f"requests/{request_id}/cancel", {}).json()["status"] == "cancelled"


def test_it_shows_the_first_of_many_removed_exports(chatbot, number, monkeypatch) -> None:
    monkeypatch.setattr(results, "MOST_REMOVED", 2)
    caller = TokenCaller(chatbot)
    redactions = [redact(caller, number).json()["request_id"] for _ in range(2)]
    exports = [factories.export_of(chatbot, "42") for _ in range(4)]
    for redaction_id, removed in zip([redactions[0]] * 3 + [redactions[1]], exports, strict=True):
        RepeatedExport.objects.create(chatbot=chatbot, redaction_id=redaction_id, removed=removed)

    listed = caller.get("requests?kind=redaction").json()["results"]

    shown = {one["request_id"]: one["redaction"] for one in listed}
    ids = [[export["request_id"] for export in shown[one]["removed_exports"]] for one in redactions]
    assert ids == [[str(one.pk) for one in exports[:2]], [str(exports[3].pk)]]
    assert [shown[one]["removed_exports_total"] for one in redactions] == [3, 1]
