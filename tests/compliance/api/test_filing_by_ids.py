"""Filing over HTTP by the platform's conversation ids: accepted calls, refusals and stored digests."""

import pytest
from django.db import IntegrityError, transaction

from chatbots.models import Bucket, Chatbot, Variable
from common.crypto import digest
from compliance.models import ComplianceRequest
from tests import factories
from tests.calls import ALICE, SigningCaller, TokenCaller

PATHS = pytest.mark.parametrize("path", ["data-deletion", "data-export"])
IDS = "conversation_ids"


def pointers(response) -> dict[str, str]:
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    assert not ComplianceRequest.objects.exists()
    return {error["pointer"]: error["code"] for error in response.json()["errors"]}


@PATHS
def test_a_call_is_accepted_and_keeps_digests_of_the_ids_alone(caller, chatbot, neighbour, path):
    names = ["c-1001", " spaced ", "é" * 200]
    answer = caller.post(path, {IDS: names, "reference": "T-7"})
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["selector"]) == ("accepted", "conversations")
    request = ComplianceRequest.objects.get()
    kept = request.conversation_digests
    assert kept == [digest("conversation", chatbot.public_id, name) for name in names]
    assert kept != [digest("conversation", neighbour.public_id, name) for name in names]
    assert (request.variable, request.uci_value, request.uci_digest) == (None, None, None)
    assert not any(name in answer.content.decode() for name in names)
    assert SigningCaller(chatbot).post(path, {IDS: names}).status_code == 200
    assert caller.post(path, ALICE | {IDS: None}).json()["selector"] == "uci"


def test_errors_are_returned_by_pointer_and_never_quoted(caller) -> None:
    for body, errors in [
        ({}, dict.fromkeys((f"/{name}" for name in ALICE), "missing")),
        ({IDS: None}, dict.fromkeys((f"/{name}" for name in ALICE), "missing")),
        (ALICE | {IDS: ["chat-1"]}, {f"/{IDS}": "conflict"}),
        ({"unique_chatter_identifier_key": "member_id", IDS: ["chat-1"]}, {f"/{IDS}": "conflict"}),
        ({IDS: []}, {f"/{IDS}": "too_short"}),
        ({IDS: [str(n) for n in range(101)]}, {f"/{IDS}": "too_long"}),
        ({IDS: "chat-1"}, {f"/{IDS}": "wrong_type"}),
        ({IDS: {"0": "chat-1"}}, {f"/{IDS}": "wrong_type"}),
        ({IDS: ["chat-1", 2, None]}, {f"/{IDS}/1": "wrong_type", f"/{IDS}/2": "wrong_type"}),
        (
            {IDS: ["", "x" * 201, "a\0b", "\ud800", "chat-1"]},
            {
                f"/{IDS}/0": "too_short",
                f"/{IDS}/1": "too_long",
                f"/{IDS}/2": "wrong_pattern",
                f"/{IDS}/3": "unpaired_surrogate",
            },
        ),
        ({IDS: ["chat-1", "c-2", "chat-1", "chat-1"]}, {f"/{IDS}/2": "repeated_id", f"/{IDS}/3": "repeated_id"}),
        ({IDS: ["chat-1"], "reference": "about:chat-1"}, {"/reference": "invalid"}),
        ({IDS: ["chat-1"], "more": 1, "reference": "a b"}, {"/more": "unknown_field", "/reference": "wrong_pattern"}),
    ]:
        response = caller.post("data-export", body)
        assert pointers(response) == errors
        assert "chat-1" not in response.content.decode()


def test_no_uci_is_needed_but_the_feature_is_and_for_an_export_a_bucket(caller, chatbot):
    Variable.objects.update(is_uci=False)
    Bucket.objects.all().delete()
    body = {IDS: ["c-1"]}
    assert caller.post("data-deletion", body).status_code == 200
    assert caller.post("data-export", body).json()["code"] == "export_destination_missing"
    Chatbot.objects.update(compliance_enabled=False)
    assert caller.post("data-deletion", body).json()["code"] == "compliance_disabled"
    assert ComplianceRequest.objects.count() == 1


def test_requests_about_a_conversation_are_found(caller, neighbour):
    answers = [caller.post("data-export", {IDS: ids}).json() for ids in (["c-1", "c-2"], ["c-2"], ["c-3"])]
    TokenCaller(neighbour).post("data-export", {IDS: ["c-2"]})
    found = caller.post("requests/lookup", {IDS: ["c-2", "c-unknown"]}).json()
    assert [one["request_id"] for one in found["results"]] == [answers[1]["request_id"], answers[0]["request_id"]]
    assert caller.post("requests/lookup", {}).json()["code"] == "invalid"


def test_the_database_takes_no_open_request_without_exactly_one_selector(chatbot):
    request = factories.RequestFactory.create(chatbot=chatbot)
    no_subject = {"variable": None, "uci_value": None, "uci_digest": None}
    for columns in (
        *({"named_conversations": 1}, {"variable": None}, {"uci_value": None, "uci_digest": None}),
        *(no_subject, no_subject | {"named_conversations": 0}, no_subject | {"named_conversations": 101}),
    ):
        with pytest.raises(IntegrityError, match="request_"), transaction.atomic():
            ComplianceRequest.objects.filter(pk=request.pk).update(**columns)
