"""Repeated calls: a captured signature, a repeated Idempotency-Key, and twenty concurrent callers."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import product
from threading import Barrier, Event
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F

from chatbots.models import ChangeLogEntry, Chatbot
from compliance.models import ComplianceRequest, Replay
from compliance.requests import idempotency, insert
from compliance.requests.idempotency import IDEMPOTENCY_KEY_KEPT, SIGNATURE_KEPT, Answer, replay_key
from tests import factories
from tests.calls import ALICE, Caller, SigningCaller, TokenCaller, problem
from tests.functional.elsewhere import Elsewhere, wait_until_blocked

DELETION, EXPORT = "data-deletion", "data-export"
KEY = {"Idempotency_Key": "order 66/retry"}
BOB = ALICE | {"unique_chatter_identifier_value": "bob-12"}


@pytest.fixture
def signer(chatbot: Chatbot) -> SigningCaller:
    """Signs at a fixed second, so that equal bodies have equal signatures."""
    caller = SigningCaller(chatbot)
    caller.timestamp = str(int(time.time()))
    return caller


def request_ids(*responses: Any) -> list[str]:
    assert {response.status_code for response in responses} == {200}
    return [response.json()["request_id"] for response in responses]


def filed() -> int:
    return ComplianceRequest.objects.count()


def test_the_same_signature_on_the_same_path_has_the_same_answer(signer):
    first, second = request_ids(signer.post(DELETION, ALICE), signer.post(DELETION, ALICE))
    assert first == second
    assert filed() == 1
    assert ChangeLogEntry.objects.filter(event="request.accepted").count() == 1
    # Another path, another body and another second are other calls.
    others = request_ids(signer.post(EXPORT, ALICE), signer.post(DELETION, BOB))
    signer.timestamp = str(int(signer.timestamp) - 1)
    assert len({first, *others, *request_ids(signer.post(DELETION, ALICE))}) == 4


def test_a_signature_is_remembered_for_longer_than_it_is_accepted(signer):
    signer.post(DELETION, ALICE)
    # A timestamp may lie five minutes ahead, and is accepted until five minutes behind.
    assert timedelta(minutes=10) <= SIGNATURE_KEPT
    [replay] = Replay.objects.all()
    assert replay.expires_at - replay.request.received_at >= SIGNATURE_KEPT


@pytest.mark.parametrize("first_type", [TokenCaller, SigningCaller])
def test_the_same_idempotency_key_has_the_same_answer_for_every_caller_or_is_a_conflict(chatbot, first_type):
    signer = SigningCaller(chatbot)
    callers: list[Caller] = [TokenCaller(chatbot), signer]
    answers = [one.post(DELETION, ALICE, **KEY) for one in (callers if first_type is TokenCaller else callers[::-1])]
    signer.timestamp = str(int(time.time()) - 10)
    answers += [one.post(DELETION, ALICE, **KEY) for one in callers]
    assert len(set(request_ids(*answers))) == 1
    before = Replay.objects.count()
    # A body that only looks alike is another one.
    for caller, body in product(callers, [json.dumps(BOB), json.dumps(ALICE, indent=1)]):
        problem(caller.post(DELETION, body.encode(), **KEY), 409, "idempotency_conflict")
    assert (filed(), Replay.objects.count()) == (1, before)


def test_an_idempotency_key_belongs_to_one_chatbot_and_one_path(chatbot, neighbour):
    mine, other = TokenCaller(chatbot), TokenCaller(neighbour)
    responses = [
        mine.post(DELETION, ALICE, **KEY),
        mine.post(EXPORT, ALICE, **KEY),
        other.post(DELETION, ALICE, **KEY),
    ]
    assert len(set(request_ids(*responses))) == 3


def test_calls_without_either_are_never_the_same(chatbot):
    caller = TokenCaller(chatbot)
    assert len(set(request_ids(caller.post(DELETION, ALICE), caller.post(DELETION, ALICE)))) == 2
    assert not Replay.objects.exists()


def test_a_captured_call_cannot_be_filed_again_under_another_idempotency_key(signer):
    captured = signer.post(DELETION, ALICE, **KEY)
    again = [
        signer.post(DELETION, ALICE),
        signer.post(DELETION, ALICE, Idempotency_Key="another"),
        signer.post(DELETION, ALICE, Idempotency_Key="a third"),
    ]
    assert len(set(request_ids(captured, *again))) == 1
    assert filed() == 1


def test_a_key_that_was_answered_by_its_signature_is_from_then_on_known_too(signer):
    first = signer.post(DELETION, ALICE)
    second = signer.post(DELETION, ALICE, **KEY)
    signer.timestamp = str(int(signer.timestamp) - 60)
    third = signer.post(DELETION, ALICE, **KEY)
    assert len(set(request_ids(first, second, third))) == 1


def test_a_signature_that_was_answered_by_its_key_is_from_then_on_known_too(signer):
    first = signer.post(DELETION, ALICE, **KEY)
    signer.timestamp = str(int(signer.timestamp) - 60)
    second = signer.post(DELETION, ALICE, **KEY)
    captured = signer.post(DELETION, ALICE)
    assert len(set(request_ids(first, second, captured))) == 1


def test_the_answer_shows_the_request_as_it_is_now(chatbot):
    caller = TokenCaller(chatbot)
    caller.post(DELETION, ALICE, **KEY)
    ComplianceRequest.objects.update(status="processing", started_at=F("received_at"))
    assert caller.post(DELETION, ALICE, **KEY).json()["status"] == "processing"


def test_an_expired_replay_row_is_not_used_and_is_overwritten(chatbot):
    caller = TokenCaller(chatbot)
    first = caller.post(DELETION, ALICE, **KEY)
    expire_all()
    second = caller.post(DELETION, BOB, **KEY)
    third = caller.post(DELETION, BOB, **KEY)
    one, two, three = request_ids(first, second, third)
    assert one != two == three
    [replay] = Replay.objects.all()
    assert str(replay.request_id) == two
    assert replay.expires_at - replay.request.received_at > IDEMPOTENCY_KEY_KEPT - timedelta(minutes=1)


def expire_all() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE compliance_replay SET expires_at = now() - interval '1 second'")


def test_a_refused_call_is_not_remembered(chatbot):
    caller = TokenCaller(chatbot)
    problem(caller.post(DELETION, ALICE | {"reference": "alice-77"}, **KEY), 400, "invalid")
    assert not Replay.objects.exists()
    assert caller.post(DELETION, ALICE, **KEY).status_code == 200


def test_any_printable_idempotency_key_is_taken_and_no_other(chatbot):
    caller = TokenCaller(chatbot)
    for key in ("", "x" * 201, "tab\there", "é", "\x7f", "line\nend"):
        problem(caller.post(DELETION, ALICE, Idempotency_Key=key), 400, "invalid")
    assert filed() == 0
    for key in ("x", "x" * 200, "a b~!", "0" * 36):
        assert caller.post(DELETION, ALICE, Idempotency_Key=key).status_code == 200


def test_neither_key_nor_signature_nor_body_is_stored_or_logged(signer, caplog):
    caplog.set_level("DEBUG")
    signer.post(DELETION, ALICE, **KEY)
    stored = str([list(row.values()) for row in Replay.objects.values()])
    signature = signer.credentials(json.dumps(ALICE).encode())["X-Mindsay-Signature"]
    for text in (KEY["Idempotency_Key"], signature, "alice-77"):
        assert text not in stored
        assert text not in caplog.text


def test_a_key_answered_during_the_lookup_counts(chatbot, signer, monkeypatch):
    """The call is known by its signature; during its lookup the same key arrives with another body."""
    signer.post(DELETION, ALICE)
    TokenCaller(chatbot).post(DELETION, BOB, **KEY)
    original, misses = idempotency.recall, iter([True])

    def recall(key, places):
        if not next(misses, False):
            return original(key, places)
        [_, by_signature] = key.digests
        return original(replace(key, digests={by_signature: SIGNATURE_KEPT}), places)

    monkeypatch.setattr(idempotency, "recall", recall)
    problem(signer.post(DELETION, ALICE, **KEY), 409, "idempotency_conflict")


# --- At once ---------------------------------------------------------------------------------------------


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls in as many threads, started together, and return their results in order."""
    barrier = Barrier(len(calls))

    def one(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    return [begun.end() for begun in [Elsewhere(partial(one, call)) for call in calls]]


def sender(caller: Caller, body: Any, **headers: str) -> Callable[[], Any]:
    raw = json.dumps(body).encode()
    return lambda: type(caller).post(caller, DELETION, raw, **headers)


def test_twenty_calls_at_once_with_one_idempotency_key_file_one_request(bot):
    """Also over the expired row of an earlier one."""
    caller = TokenCaller(bot)
    for number in (1, 2):
        responses = at_once(*[sender(caller, ALICE, **KEY)] * 20)
        assert len(set(request_ids(*responses))) == 1
        assert (filed(), Replay.objects.count()) == (number, 1)
        assert ChangeLogEntry.objects.filter(event="request.accepted").count() == number
        expire_all()


def test_one_signature_at_once_under_twenty_keys_files_one_request(bot):
    caller = SigningCaller(bot)
    caller.timestamp = str(int(time.time()))
    calls = [sender(caller, ALICE, Idempotency_Key=f"key {n}") for n in range(10)]
    responses = at_once(*calls, *[sender(caller, ALICE)] * 10)
    assert len(set(request_ids(*responses))) == 1
    assert (filed(), Replay.objects.count()) == (1, 11)


def test_two_bodies_at_once_under_one_key_file_one_and_refuse_the_other(bot):
    caller = TokenCaller(bot)
    responses = at_once(*[sender(caller, body, **KEY) for body in (ALICE, BOB)] * 10)
    statuses = {(response.status_code, index % 2) for index, response in enumerate(responses)}
    assert statuses in ({(200, 0), (409, 1)}, {(409, 0), (200, 1)})
    assert filed() == 1


@pytest.mark.parametrize("commits", [True, False])
def test_a_call_waits_for_the_one_with_the_same_key(bot, commits):
    """The result of the first call counts only if it committed."""
    caller = TokenCaller(bot)
    first = factories.deletion_of(bot, "alice-77")
    key = replay_key(
        chatbot=bot,
        path=caller.url(DELETION),
        body=json.dumps(ALICE).encode(),
        idempotency_key=KEY["Idempotency_Key"],
    )
    assert key is not None
    is_open = Event()

    def unfinished_call() -> None:
        with transaction.atomic():
            keys = [(each, Answer(first)) for each in key.all([0])]
            assert insert.store([], grace=None, replay=key, keys=keys)
            is_open.set()
            wait_until_blocked()
            transaction.set_rollback(not commits)

    def later_call() -> Any:
        is_open.wait(10)
        return sender(caller, ALICE, **KEY)()

    _, response = at_once(unfinished_call, later_call)
    assert response.status_code == 200
    assert (response.json()["request_id"] == str(first.pk)) is commits
    assert (filed(), Replay.objects.count()) == (1 if commits else 2, 1)
