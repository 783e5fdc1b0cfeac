"""The log of each process says that the service is closed, whoever has noticed the restore."""

import logging
import time

import pytest

from chatbots.models import Chatbot
from compliance import worker
from compliance.ledger import service
from tests.calls import ALICE, TokenCaller
from tests.closed import State, close


@pytest.fixture(autouse=True)
def _not_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_logged_at", None)


@pytest.mark.parametrize("state", [State.RESTORED, State.CATCHING_UP])
def test_refused_calls_are_told_once_a_minute(chatbot, caplog, monkeypatch, state) -> None:
    caller = TokenCaller(chatbot)
    close(state)

    with caplog.at_level(logging.INFO):
        for _ in range(3):
            caller.post("data-deletion", ALICE)
            caller.client.get("/admin/")
        assert caplog.messages == [f"service.closed state={state}"]
        monkeypatch.setattr(service, "_logged_at", time.monotonic() - 61)
        for _ in range(3):
            caller.post("data-deletion", ALICE)

    assert caplog.messages == [f"service.closed state={state}"] * 2


def test_an_open_service_says_nothing(chatbot: Chatbot, caplog: pytest.LogCaptureFixture) -> None:
    caller = TokenCaller(chatbot)

    caller.post("data-deletion", ALICE)
    worker.sweep()

    assert not [message for message in caplog.messages if "service.closed" in message]


def test_workers_say_it_in_each_sweep(chatbot: Chatbot, caplog: pytest.LogCaptureFixture) -> None:
    close()

    worker.sweep()

    assert "service.closed state=restored" in caplog.messages
