"""Concurrent batches: each item is filed once."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from chatbots.api import long_calls
from chatbots.models import ChangeLogEntry
from compliance.models import Replay
from compliance.requests import idempotency
from tests.calls import SigningCaller, TokenCaller
from tests.compliance.api.test_batch import IDEMPOTENCY, PATH, filed, ids, items
from tests.functional.elsewhere import Elsewhere, Gate


def begun_together(monkeypatch: pytest.MonkeyPatch, *calls: Callable[[], Any]) -> list[Any]:
    """Run the calls so that each checks for a stored response before any of them stores one."""
    gate, recall = Gate(), idempotency.recall
    looked: list[int] = []
    monkeypatch.setattr(long_calls, "MOST", len(calls))

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


def test_one_signature_at_once_under_many_keys_files_each_item_once(bot, monkeypatch):
    caller, raw = SigningCaller(bot), json.dumps(items(*map(str, range(20)))).encode()
    caller.timestamp = str(int(time.time()))
    calls = [lambda n=n: caller.post(PATH, raw, Idempotency_Key=f"key {n}") for n in range(5)]
    answers = begun_together(monkeypatch, *calls, lambda: caller.post(PATH, raw))
    assert len({tuple(ids(answer)) for answer in answers}) == 1
    assert (filed(), Replay.objects.count()) == (20, 6 * 21)


def test_two_bodies_at_once_under_one_key_file_one_and_refuse_the_other(bot, monkeypatch):
    caller = TokenCaller(bot)
    bodies = [items("alice", "bob"), items("carol", "dave")]
    answers = begun_together(
        monkeypatch, *[lambda body=body: caller.post(PATH, body, **IDEMPOTENCY) for body in bodies]
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    [won] = [answer for answer in answers if answer.status_code == 200]
    assert filed() == len(ids(won)) == Replay.objects.count() - 1
