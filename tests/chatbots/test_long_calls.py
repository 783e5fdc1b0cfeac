"""How many long calls of a chatbot a process runs at a time."""

import pytest

from chatbots.api import views
from chatbots.api.views import LongCalls
from chatbots.models import Chatbot
from common.problems import Problem
from tests.calls import ALICE, TokenCaller, problem


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> LongCalls:
    monkeypatch.setattr(views, "MOST_LONG_CALLS", 1)
    monkeypatch.setattr(views, "LONG_CALLS", calls := LongCalls())
    return calls


def test_each_chatbot_has_calls_of_its_own(calls: LongCalls) -> None:
    with calls.limit(1), calls.limit(2), pytest.raises(Problem), calls.limit(1):
        raise AssertionError
    with calls.limit(1), calls.limit(2):
        pass


@pytest.mark.django_db
def test_a_refused_call_counts_no_longer(chatbot: Chatbot, calls: LongCalls) -> None:
    caller = TokenCaller(chatbot)
    with calls.limit(chatbot.pk):
        refused = caller.post("preview", ALICE)
        assert problem(refused, 429, "rate_limited")
        assert refused.headers["Retry-After"] == "1"
    assert [caller.post("preview", body).status_code for body in ({}, b"{", ALICE)] == [400, 400, 200]
