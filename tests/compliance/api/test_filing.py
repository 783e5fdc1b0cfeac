"""Filing deletions and exports over HTTP: accepted calls, and refusals, which store nothing."""

import json
from typing import Any

import pytest

from chatbots.models import Bucket, ChangeLogEntry, Chatbot, Variable
from chatbots.operations.chatbots import designate_uci
from common.crypto import digest
from compliance.models import ComplianceRequest, Replay
from tests.calls import ALICE, Caller, SigningCaller, TokenCaller, pointers, problem
from tests.factories import VariableFactory

KEY, VALUE = "unique_chatter_identifier_key", "unique_chatter_identifier_value"
PATHS = pytest.mark.parametrize("path", ["data-deletion", "data-export"])


@pytest.fixture(autouse=True)
def _refusals_store_nothing(db: None) -> Any:
    """For every test: a call without a 200 response has stored nothing."""
    accepted: list[int] = []
    original = Caller.post

    def counting(self: Caller, *args: Any, **headers: str) -> Any:
        before = stored()
        response = original(self, *args, **headers)
        accepted.append(response.status_code)
        assert response.status_code < 500
        assert response.status_code == 200 or stored() == before
        return response

    Caller.post = counting  # type: ignore[method-assign]
    yield
    Caller.post = original  # type: ignore[method-assign]
    assert accepted


def stored() -> tuple[int, int, int]:
    return (
        ComplianceRequest.objects.count(),
        Replay.objects.count(),
        ChangeLogEntry.objects.filter(event__startswith="request.").count(),
    )


def test_a_deletion_is_accepted_with_the_request_object(caller):
    response = caller.post("data-deletion", ALICE | {"reference": "ticket-1", "erase_exports": True})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    answer = response.json()
    request = ComplianceRequest.objects.get()
    assert (answer["request_id"], answer["kind"], answer["status"]) == (str(request.pk), "deletion", "accepted")
    assert answer["reference"] == request.reference == "ticket-1"
    assert answer["status_url"] == f"http://testserver/api/v1/chatbots/acme/requests/{request.pk}"
    assert (request.uci_value, request.variable.name, request.origin) == ("alice-77", "member_id", "api")
    assert request.erase_exports is True
    assert (request.filed_by, request.deadline) == (f"api:{caller.api_key.prefix}", "gdpr")
    assert ALICE[VALUE] not in response.content.decode()
    entry = ChangeLogEntry.objects.get(event="request.accepted")
    assert (entry.request_id, entry.actor) == (request.pk, f"api:{caller.api_key.prefix}")


def test_an_export_is_accepted(caller):
    answer = caller.post("data-export", ALICE | {"include_shared": True, "include_files": True}).json()
    assert (answer["kind"], answer["status"], answer["export"]) == ("export", "accepted", None)
    request = ComplianceRequest.objects.get()
    assert (request.include_shared, request.include_files) == (True, True)


@PATHS
def test_null_is_as_absent_where_a_field_is_optional(chatbot, path):
    option = "erase_exports" if path == "data-deletion" else "include_shared"
    nulls = {"reference": None, "action": None, option: None, VALUE: "bob"}
    for caller, given in ((SigningCaller(chatbot), {}), (TokenCaller(chatbot), nulls)):
        assert caller.post(path, ALICE | given).status_code == 200
        request = ComplianceRequest.objects.latest("seq")
        assert (request.reference, request.erase_exports, request.include_shared) == ("", False, False)


def test_a_value_is_taken_exactly_as_it_is(caller):
    values = ["1", "x" * 512, "😀" * 512, " ", " 42", "../..", "=1+1", "'; --", "\u202eabc", "\n", "NULL"]
    for value in values:
        assert caller.post("data-deletion", ALICE | {VALUE: value}).status_code == 200
    assert list(ComplianceRequest.objects.order_by("seq").values_list("uci_value", flat=True)) == values


def test_a_text_that_is_none_is_refused(caller) -> None:
    wrong: list[tuple[str, str | None, list[Any]]] = [
        (VALUE, "invalid", ["", "null", "undefined", "None", "anonymous", "a\x00b"]),
        (VALUE, "wrong_type", [42, True, None, ["alice-77"], {}]),
        (VALUE, "too_long", ["x" * 513]),
        (VALUE, "unpaired_surrogate", ["\ud800", "a\udc00\ud800b"]),
        (KEY, None, ["", "x" * 129, "a\x00", "\udfff", 1, None]),
        ("reference", None, ["", "x" * 65, "with space", "é", "a/b", "a\n", 5, "a\x00", "\ud800"]),
    ]
    for field, code, values in wrong:
        for value in values:
            found = pointers(caller.post("data-export", ALICE | {field: value}))
            assert found == {f"/{field}": code or found.get(f"/{field}")}, value


def test_the_rule_of_a_reference_is_said_in_words(caller):
    filed = problem(caller.post("data-deletion", ALICE | {"reference": "a b"}), 400, "invalid")
    sought = problem(caller.get("requests?reference=a%20b"), 400, "invalid")
    rule = "Must be 1 to 64 characters: letters A to Z and a to z, digits, and . _ : -"
    assert [one["errors"][0]["detail"] for one in (filed, sought)] == [rule, rule]


def test_a_reference_that_holds_the_value_is_refused(caller):
    for reference in ("alice-77", "ticket.alice-77.1", "T-ALICE-77"):
        response = caller.post("data-deletion", ALICE | {"reference": reference})
        assert list(pointers(response)) == ["/reference"]
        assert "alice-77" not in response.content.decode()


def test_a_field_that_the_call_does_not_have_is_refused(caller) -> None:
    for path, field in [
        ("data-deletion", "include_shared"),
        ("data-export", "erase_exports"),
        ("data-deletion", "callback"),
        ("data-deletion", "include_files"),
        ("data-deletion", "unique_chatter_identifier"),
    ]:
        assert pointers(caller.post(path, ALICE | {field: True})) == {f"/{field}": "unknown_field"}


def test_a_field_name_that_could_be_personal_is_not_repeated(caller):
    for name in ("", "alice@example.com", "a/b", "~", "x" * 10_000, "\x00", "+33 6 12", "\ud800"):
        response = caller.post("data-deletion", ALICE | {name: 1})
        assert pointers(response) == {"": "unpaired_surrogate" if name == "\ud800" else "unknown_field"}
        assert not name or name not in response.content.decode()


def test_all_errors_are_returned_at_once(caller):
    body = {KEY: 1, "reference": "a b", "erase_exports": "yes", "more": 1}
    assert pointers(caller.post("data-deletion", body)) == {
        f"/{KEY}": "wrong_type",
        f"/{VALUE}": "missing",
        "/reference": "wrong_pattern",
        "/erase_exports": "wrong_type",
        "/more": "unknown_field",
    }


def test_a_body_that_is_no_object_is_refused(caller):
    for body in ([ALICE], "x", None):
        assert pointers(caller.post("data-deletion", body)) == {"": "wrong_type"}


@pytest.mark.parametrize(
    ("path", "action", "other"), [("data-deletion", "delete", "export"), ("data-export", "export", "delete")]
)
def test_an_action_must_fit_the_path(caller, path, action, other):
    assert pointers(caller.post(path, ALICE | {"action": other})) == {"/action": "unknown_value"}
    assert pointers(caller.post(path, ALICE | {"action": action.upper()})) == {"/action": "unknown_value"}
    assert caller.post(path, ALICE | {"action": action}).status_code == 200
    Chatbot.objects.update(require_action=True)
    assert pointers(caller.post(path, ALICE)) == {"/action": "missing"}
    assert pointers(caller.post(path, ALICE | {"action": None})) == {"/action": "missing"}
    assert caller.post(path, ALICE | {"action": action}).status_code == 200


@PATHS
def test_a_chatbot_without_a_uci_or_with_compliance_off_files_nothing(path):
    caller = TokenCaller(Chatbot.objects.create(slug="bare", name="Bare", compliance_enabled=True))
    problem(caller.post(path, ALICE), 409, "uci_not_designated")
    Chatbot.objects.update(compliance_enabled=False)
    problem(caller.post(path, ALICE), 409, "compliance_disabled")


def test_a_key_that_never_was_this_chatbots_uci_is_unknown(caller, neighbour):
    VariableFactory.create(chatbot=neighbour, name="email", is_uci=False, was_uci=True)
    for key in ("plan", "nothing", "MEMBER_ID", "member_id ", "email"):
        body = problem(caller.post("data-deletion", ALICE | {KEY: key}), 400, "unknown_uci_key")
        assert [error["pointer"] for error in body["errors"]] == [f"/{KEY}"]


def test_a_former_uci_still_finds(caller, chatbot):
    VariableFactory.create(chatbot=chatbot, name="email", is_uci=False)
    designate_uci(chatbot=chatbot, name="email", actor="command")
    assert caller.post("data-deletion", ALICE).status_code == 200
    assert ComplianceRequest.objects.get().variable == Variable.objects.get(chatbot=chatbot, was_uci=True)


def test_an_export_needs_a_bucket_and_a_deletion_none(caller):
    Bucket.objects.all().delete()
    problem(caller.post("data-export", ALICE), 409, "export_destination_missing")
    assert caller.post("data-deletion", ALICE).status_code == 200


def test_grace_is_shown_as_not_before(caller):
    Chatbot.objects.update(grace_minutes=30)
    answer = caller.post("data-deletion", ALICE).json()
    assert answer["received_at"] < answer["not_before"] < answer["due_at"]


def test_authentication_comes_before_scope_and_scope_before_shape(chatbot):
    problem(Caller(chatbot).post("data-deletion", b"{", Content_Type="text/plain"), 401, "not_authenticated")
    weak = TokenCaller(chatbot, scopes=["requests:read"])
    problem(weak.post("data-deletion", b"{", Content_Type="text/plain"), 403, "scope_missing")
    strong = TokenCaller(chatbot)
    Chatbot.objects.update(compliance_enabled=False)
    problem(strong.post("data-deletion", b"{"), 400, "invalid")
    problem(strong.post("data-deletion", ALICE), 409, "compliance_disabled")


def test_nothing_of_the_chatter_is_logged(caller, caplog):
    caplog.set_level("DEBUG")
    caller.post("data-deletion", ALICE)
    caller.post("data-deletion", ALICE | {"reference": "alice-77"})
    assert "alice-77" not in caplog.text


def test_the_number_of_errors_returned_is_bounded(chatbot: Chatbot) -> None:
    body = json.dumps(ALICE | {f"f{number}": 1 for number in range(900)}).encode()
    answer = SigningCaller(chatbot).post("data-deletion", body)
    errors = problem(answer, 400, "invalid")["errors"]
    assert (len(errors), errors[-1]["code"]) == (100, "too_many_errors")


# --- By the platform's conversation ids ------------------------------------------------------------------


IDS = "conversation_ids"


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
