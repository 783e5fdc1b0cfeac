"""Many requests by one call: each item is checked separately, and valid items are stored together and once."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django_q.models import OrmQ

from chatbots.api import views
from chatbots.models import Bucket, ChangeLogEntry, Chatbot, Variable
from compliance.api import submissions
from compliance.cluster import notify
from compliance.models import ComplianceRequest, Replay
from compliance.requests import idempotency, insert
from tests import factories
from tests.calls import Caller, SigningCaller, TokenCaller, pointers, problem
from tests.compliance.api.test_requests import FIELDS
from tests.functional.elsewhere import Elsewhere, Gate
from tests.patches import failing

PATH = "requests/batch"
KEY, VALUE = "unique_chatter_identifier_key", "unique_chatter_identifier_value"
IDEMPOTENCY = {"Idempotency_Key": "nightly/2026-11-25"}


def item(value: str, action: str = "delete", **fields: Any) -> dict[str, Any]:
    return {"action": action, KEY: "member_id", VALUE: value, **fields}


def items(*values: str) -> dict[str, Any]:
    return {"requests": [item(value) for value in values]}


def results(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.content
    answer = response.json()
    assert answer.keys() == {"results"}
    for result in answer["results"]:
        assert result.keys() in (FIELDS | {"existing"}, {"error"})
    return list(answer["results"])


def ids(response: Any) -> list[str]:
    return [result["request_id"] for result in results(response)]


def codes(response: Any) -> list[str | None]:
    """Return the code of each item's refusal, None for one that was filed."""
    return [result["error"]["code"] if "request_id" not in result else None for result in results(response)]


def filed() -> int:
    return ComplianceRequest.objects.count()


def test_each_item_is_filed_in_order_and_answered_as_its_own_call_would(caller, chatbot):
    response = caller.post(
        PATH,
        {
            "requests": [
                item("alice", "export", include_shared=True, include_files=True),
                item("alice", reference="T-1", erase_exports=True),
                {"action": "delete", "conversation_ids": ["c-1", "c-2"]},
                item("é😀\u202e'\\\\x\"", action="export"),
            ]
        },
    )
    shown = results(response)
    assert shown == [caller.get(f"requests/{one['request_id']}").json() | {"existing": False} for one in shown]
    requests = [ComplianceRequest.objects.get(pk=one["request_id"]) for one in shown]
    assert [request.seq for request in requests] == sorted(request.seq for request in requests)
    assert [one["request_id"] for one in caller.get("requests").json()["results"]] == [
        one["request_id"] for one in reversed(shown)
    ]
    export, deletion, by_ids, odd = requests
    assert (export.kind, export.include_shared, export.include_files) == ("export", True, True)
    assert (deletion.kind, deletion.reference, deletion.erase_exports) == ("deletion", "T-1", True)
    assert len(by_ids.conversation_digests or []) == 2
    assert odd.uci_value == "é😀\u202e'\\\\x\""
    assert {request.origin for request in requests} == {"api"}
    entries = ChangeLogEntry.objects.filter(event="request.accepted", actor=f"api:{caller.api_key.prefix}")
    assert {entry.request_id: entry.data["kind"] for entry in entries} == {one.pk: one.kind for one in requests}
    assert "alice" not in response.content.decode()


def test_a_request_of_a_batch_is_stored_as_one_of_its_own_call(caller):
    """Compared field by field, including fields added later."""
    SigningCaller(caller.chatbot)
    Chatbot.objects.update(grace_minutes=30)
    body = item("alice", reference="T-1", erase_exports=True, callback_url="https://client.example.com/told")
    by_ids = {"action": "export", "conversation_ids": ["c-1"], "again": True}
    pairs = zip(
        ids(caller.post(PATH, {"requests": [body, by_ids]})),
        [
            caller.post("data-deletion", body).json()["request_id"],
            caller.post("data-export", by_ids).json()["request_id"],
        ],
        strict=True,
    )
    for pair in pairs:
        first, second = (comparable(request_id) for request_id in pair)
        differs = {name for name in first if first[name] != second[name]}
        assert differs <= {"id", "seq", "received_at", "queued_at", "not_before"}
        assert first["not_before"] - first["received_at"] == second["not_before"] - second["received_at"]


def comparable(request_id: str) -> dict[str, Any]:
    row: dict[str, Any] = dict(ComplianceRequest.objects.values().get(pk=request_id))
    for name, value in row.items():
        if isinstance(value, memoryview):
            row[name] = bytes(value)
        elif isinstance(value, list):
            row[name] = [bytes(one) for one in value]
    return row


@pytest.mark.long(reason="a thousand requests are filed")
@pytest.mark.one_postgresql(reason="the number of statements of a test that does not commit")
def test_a_thousand_items_of_which_ten_are_bad_are_stored_but_for_the_ten(
    caller, chatbot, django_assert_max_num_queries, django_capture_on_commit_callbacks
):
    batch_of: list[Any] = [item(f"member {number}", ("delete", "export")[number % 2]) for number in range(1000)]
    bad: list[Any] = [
        *({"action": action, KEY: "member_id", VALUE: "x"} for action in (None, "erase", 1)),
        *("alice", None, []),
        {KEY: "member_id", VALUE: "x"},
        item("x") | {KEY: "plan"},
        item("null"),
        item("x", include_files=True),
    ]
    for place, one in zip(range(50, 1000, 95), bad, strict=True):
        batch_of[place] = one
    with django_assert_max_num_queries(13), django_capture_on_commit_callbacks() as after:
        response = caller.post(PATH, {"requests": batch_of}, **IDEMPOTENCY)
    assert [place for place, code in enumerate(codes(response)) if code] == list(range(50, 1000, 95))
    assert filed() == ChangeLogEntry.objects.filter(event="request.accepted").count() == 990
    assert Replay.objects.count() == 991
    assert [each.__name__ for each in after] == ["notify_workers"]
    found = [result["error"] for result in results(response) if "request_id" not in result]
    assert [[(error["pointer"], error["code"]) for error in one["errors"]] for one in found] == [
        [("/action", "missing")],
        [("/action", "unknown_value")],
        [("/action", "unknown_value")],
        [("", "wrong_type")],
        [("", "wrong_type")],
        [("", "wrong_type")],
        [("/action", "missing")],
        [(f"/{KEY}", "invalid")],
        [(f"/{VALUE}", "invalid")],
        [("/include_files", "unknown_field")],
    ]
    assert {one["request_id"] for one in found} == {response.headers["X-Request-ID"]}
    assert ids_of(caller.post(PATH, {"requests": batch_of}, **IDEMPOTENCY)) == ids_of(response)
    assert filed() == 990


def ids_of(response: Any) -> list[str | None]:
    return [result.get("request_id") for result in results(response)]


def test_two_equal_deletions_are_two_requests(caller):
    assert len(set(ids(caller.post(PATH, items("alice", "alice"), **IDEMPOTENCY)))) == filed() == 2


def test_the_workers_are_notified_once(transactional_db):
    caller = TokenCaller(factories.ready_chatbot(slug="acme"))
    results(caller.post(PATH, items(*map(str, range(20)))))
    assert OrmQ.objects.count() == 1


# --- Whose call it is --------------------------------------------------------------------------------------


def test_each_item_needs_the_write_scope_of_its_kind(chatbot):
    both = {"requests": [item("alice"), item("bob", "export")]}
    assert codes(TokenCaller(chatbot, scopes=["deletions:write"]).post(PATH, both)) == [None, "scope_missing"]
    assert codes(SigningCaller(chatbot, scopes=["exports:write"]).post(PATH, both)) == ["scope_missing", None]
    problem(TokenCaller(chatbot, scopes=["requests:read"]).post(PATH, both), 403, "scope_missing")
    problem(Caller(chatbot).post(PATH, both), 401, "not_authenticated")
    assert filed() == 2


# --- Refusals ----------------------------------------------------------------------------------------------


def test_a_body_that_is_no_batch_is_refused_as_a_whole(caller) -> None:
    for body, at_fault in [
        ([], {"": "wrong_type"}),
        ({}, {"/requests": "missing"}),
        ({"requests": None}, {"/requests": "wrong_type"}),
        ({"requests": {}}, {"/requests": "wrong_type"}),
        ({"requests": []}, {"/requests": "too_short"}),
        ({"requests": [1] * 1001}, {"/requests": "too_long"}),
        ({"requests": [1], "more": 1}, {"/more": "unknown_field"}),
    ]:
        assert pointers(caller.post(PATH, body, **IDEMPOTENCY)) == at_fault
        assert (filed(), Replay.objects.count()) == (0, 0)


def test_missing_settings_of_the_chatbot_are_reported_for_each_affected_item(caller):
    both = {"requests": [item("alice"), item("bob", "export")]}
    found = {"requests": [item("alice", callback_url="https://client.example.com/told")]}
    assert codes(caller.post(PATH, found)) == ["signing_key_missing"]
    Bucket.objects.all().delete()
    assert codes(caller.post(PATH, both)) == [None, "export_destination_missing"]
    Variable.objects.update(is_uci=False)
    assert codes(caller.post(PATH, both)) == ["uci_not_designated"] * 2
    Chatbot.objects.update(compliance_enabled=False)
    problem(caller.post(PATH, both), 409, "compliance_disabled")
    assert filed() == 1


def test_nothing_of_a_chatter_is_logged(caller, caplog):
    caplog.set_level("DEBUG")
    caller.post(PATH, {"requests": [item("alice-77"), item("alice-77", reference="alice-77"), ["alice-77"]]})
    assert "alice-77" not in caplog.text


# --- Sent again --------------------------------------------------------------------------------------------


def test_the_same_call_has_the_same_answer_by_either_of_its_keys(chatbot):
    signer = SigningCaller(chatbot)
    signer.timestamp = str(int(time.time()))
    batch_of = items("alice", "bob")
    first = signer.post(PATH, batch_of, **IDEMPOTENCY)
    again = [
        signer.post(PATH, batch_of),
        signer.post(PATH, batch_of, Idempotency_Key="another"),
        TokenCaller(chatbot).post(PATH, batch_of, **IDEMPOTENCY),
        TokenCaller(chatbot).post(PATH, batch_of, Idempotency_Key="another"),
    ]
    assert {tuple(ids(answer)) for answer in (first, *again)} == {tuple(ids(first))}
    assert filed() == ChangeLogEntry.objects.filter(event="request.accepted").count() == 2
    signer.timestamp = str(int(signer.timestamp) - 1)
    assert not set(ids(signer.post(PATH, batch_of))) & set(ids(first))
    ComplianceRequest.objects.filter(pk=ids(first)[1]).update(status="cancelled", uci_value=None)
    assert [one["status"] for one in results(TokenCaller(chatbot).post(PATH, batch_of, **IDEMPOTENCY))] == [
        "accepted",
        "cancelled",
    ]


def test_another_body_under_a_key_is_refused_as_a_whole_whatever_its_items(caller):
    first = caller.post(PATH, {"requests": [item("null"), item("alice")]}, **IDEMPOTENCY)
    assert codes(first) == ["invalid", None]
    before = Replay.objects.count()
    for body in (items("alice"), items("bob", "carol", "dave"), {"requests": [item("null")]}):
        problem(caller.post(PATH, body, **IDEMPOTENCY), 409, "idempotency_conflict")
    assert (filed(), Replay.objects.count()) == (1, before)


def test_refused_items_are_tried_again_and_filed_items_are_not(caller):
    both = {"requests": [item("alice", "export"), item("alice"), item("null")]}
    [bucket] = Bucket.objects.all()
    Bucket.objects.all().delete()
    first = caller.post(PATH, both, **IDEMPOTENCY)
    assert codes(first) == ["export_destination_missing", None, "invalid"]
    bucket.save(force_insert=True)
    second = caller.post(PATH, both, **IDEMPOTENCY)
    assert codes(second) == [None, None, "invalid"]
    assert ids_of(second)[1] == ids_of(first)[1]
    Chatbot.objects.update(compliance_enabled=False)
    assert ids_of(caller.post(PATH, both, **IDEMPOTENCY)) == ids_of(second)
    assert filed() == 2


@pytest.mark.long(reason="a batch for each place", beyond=1)
@pytest.mark.parametrize("place", ["storing", "nudging", "answering"])
def test_an_interrupted_batch_is_filed_once_when_it_is_sent_again(transactional_db, monkeypatch, place):
    """Either nothing or everything was committed: sent again, each item is filed once."""
    caller = TokenCaller(factories.ready_chatbot(slug="acme"))
    batch_of = items(*(f"member {number}" for number in range(300)))
    where = {
        "storing": (insert, "_take_over"),
        "nudging": (notify, "after_commit"),
        "answering": (submissions, "request_objects"),
    }
    with monkeypatch.context() as broken:
        broken.setattr(*where[place], failing(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            caller.post(PATH, batch_of, **IDEMPOTENCY)
    connection.close()
    stored = 300 if place == "answering" else 0
    assert (filed(), Replay.objects.count()) == (stored, stored and 301)
    first, second = (ids(caller.post(PATH, batch_of, **IDEMPOTENCY)) for _ in range(2))
    assert first == second
    assert filed() == len(set(first)) == 300
    assert ChangeLogEntry.objects.filter(event="request.accepted").count() == 300


def test_the_number_of_errors_returned_for_an_item_is_bounded(caller: TokenCaller) -> None:
    fields = 1_400
    wrong = item("42", **{f"field_{number}": 1 for number in range(fields)})
    [result] = results(caller.post(PATH, {"requests": [wrong]}))
    errors = result["error"]["errors"]
    assert len(errors) <= 100
    assert errors[-1]["code"] == "too_many_errors"
    assert f"{fields:,}" in errors[-1]["detail"]


def begun_together(monkeypatch: pytest.MonkeyPatch, *calls: Callable[[], Any]) -> list[Any]:
    """Run the calls so that each checks for a stored response before any of them stores one."""
    gate, recall = Gate(), idempotency.recall
    looked: list[int] = []
    monkeypatch.setattr(views, "MOST_LONG_CALLS", len(calls))

    def recalled(*asked: Any) -> Any:
        found = recall(*asked)
        if len(looked) < len(calls):
            looked.append(1)
            if len(looked) == len(calls):
                gate.open()
            gate.passed()
        return found

    monkeypatch.setattr(idempotency, "recall", recalled)
    return [one.end() for one in [Elsewhere(call) for call in calls]]


def test_equal_batches_at_once_file_each_item_once(bot, monkeypatch):
    caller, raw = TokenCaller(bot), json.dumps(items(*map(str, range(50)))).encode()
    answers = begun_together(monkeypatch, *[lambda: caller.post(PATH, raw, **IDEMPOTENCY)] * 6)
    assert len({tuple(ids(answer)) for answer in answers}) == 1
    assert (filed(), Replay.objects.count()) == (50, 51)
    assert ChangeLogEntry.objects.filter(event="request.accepted").count() == 50
