"""The faults that clients detect: each with a service that answers wrongly."""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from tests.oracle import caller, filing, holding, sending
from tests.oracle.caller import Answer, Caller, Client, NoAnswer, Silent, Traffic
from tests.oracle.client_state import ClientState
from tests.oracle.following import follow, is_whole
from tests.oracle.model import Model, Request, now
from tests.oracle.violations import Violations
from tests.oracle.words import Words

Say = Callable[[str, Any], Answer]


class Wrong(Client):
    """A service with the answers of a test."""

    def __init__(self, say: Say) -> None:
        super().__init__("http://127.0.0.1:1", "acme", secret="", token="")
        self.say = say

    def call(
        self, method: str, path: str, raw: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        return self.say(path, json.loads(raw) if raw else None)


def _state(say: Say) -> ClientState:
    violations = Violations()
    client = Caller(Wrong(say), violations, Traffic())
    return ClientState(Model(Words()), client, violations, Random(1))


def _answer(body: Any, status: int = 200) -> Answer:
    return Answer(status, body, b"", {})


def _stored(path: str, body: Any) -> Answer:
    """Store any document."""
    documents = body if isinstance(body, list) else body.get("identities", [body])
    return _answer(
        {"results": [{"id": one["id"], "number": 1, "outcome": "created", "error": None} for one in documents]}
    )


def _erase(state: ClientState) -> None:
    """Record that a chatter was erased."""
    person = state.new_person()
    deletion = state.model.file(Request("acme", "deletion", "k", value=person.value, id="d", status="completed"))
    state.filed[deletion.id] = deletion
    state.erased_at[person.value] = now()


@pytest.mark.parametrize("come", [sending.send_for_erased_chatter, sending.assert_erased_chatter])
def test_an_erased_chatter_must_not_come_back(come: Callable[[ClientState], None]) -> None:
    state = _state(_stored)
    _erase(state)
    come(state)
    assert state.violations.kinds == {"late data"}


def test_more_of_what_retention_erased_must_not_come_back() -> None:
    state = _state(_stored)
    conversation = state.new_conversation(now() - timedelta(days=120))
    sending.send(state, [sending.prepared(state, conversation, state.new_person().value)])
    sending.send_late(state, conversation, min(conversation.people), "conversation_deleted")
    assert state.violations.kinds == {"late data"}


def test_a_neighbour_must_be_shown_as_it_was_sent() -> None:
    state = _state(_stored)
    conversation = state.new_conversation()
    sending.send(state, [sending.prepared(state, conversation, state.new_person().value, messages=2)])
    facts = conversation.facts
    shown = {name: facts[name] for name in ("user_name", "language", "channel", "push", "agent_handover", "score")}
    shown["csat"] = {name: facts[f"csat_{name}"] for name in ("score", "vote", "comment")}
    shown |= {"id": conversation.id, "started_at": conversation.began.isoformat()}
    lines = [{"id": message, "kind": "text", "text": text} for message, text in conversation.texts.items()]

    def told(lines: list[dict[str, str]], **changes: Any) -> list[str]:
        state = _state(lambda path, _: _answer({"results": lines} if "messages" in path else shown | changes))
        is_whole(state, conversation)
        return [violation.told.removeprefix(f"acme: {conversation.id} ") for violation in state.violations.kept]

    assert told(lines) == []
    assert told(lines, user_name="somebody") == ["is shown with another user_name"]
    assert told(lines, started_at="2026-01-01T00:00:00Z") == ["is shown with another beginning"]
    assert told(lines[::-1]) == [f"acme: the messages of {conversation.id} are shown in another order"]
    assert len(told([])) == len(lines)
    assert told([], id=None) == [f"acme: {conversation.id}, which must stay, is shown as None"]


@pytest.mark.parametrize("status", [503, 0])
def test_no_call_is_unanswered_without_a_fault(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "_PATIENCE", 0.0)

    def say(path: str, _: Any) -> Answer:
        if not status:
            raise NoAnswer("timed out")
        return _answer({"code": "unavailable"}, status)

    state = _state(say)
    with pytest.raises(Silent):
        state.caller.get("usage", "usage")
    assert state.violations.counts["no answer"] == 2  # it had no answer, and was given up


def test_a_fault_explains_that_a_call_is_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "_PATIENCE", 0.0)
    answers = [_answer({"code": "unavailable"}, 503), _answer({})]
    state = _state(lambda *_: answers.pop(0))
    state.violations.outages.begin("a fault")
    state.caller.get("usage", "usage")
    assert state.violations.kinds == set()


def test_whose_deletion_waits_may_lose_a_shared_conversation_to_another() -> None:
    """Her export waits before it. His deletion is filed later, may erase it as well, and may come first."""

    def say(path: str, body: Any) -> Answer:
        if path.endswith("cancel"):
            return _answer({"code": "not_cancellable"}, 409)
        if "deletion" in path:
            return _answer({"request_id": "his", "status": "accepted", "finished_at": None, "counts": {}})
        return _stored(path, body)

    state = _state(say)
    she, he = state.new_person(), state.new_person()
    shared, own = state.new_conversation(), state.new_conversation()
    for conversation, people in ((shared, {she.value, he.value}), (own, {he.value})):
        conversation.number, conversation.people, conversation.tried, conversation.documents = (
            conversation.index,
            people,
            people,
            [{}],
        )
    state.alive[own] = None
    hers = [
        state.model.file(Request("acme", kind, kind, value=she.value, id=kind, surely={shared}))
        for kind in ("export", "deletion")
    ]
    state.open |= dict.fromkeys(hers)
    state.filed |= {one.id: one for one in hers}

    filing.file(state, filing.deletion_of(state, he.value))
    assert "his" in state.filed
    assert hers[0].surely == set()
    assert hers[0].possibly == {shared}


def test_a_deletion_does_not_begin_under_a_legal_hold() -> None:
    held, status = 0, "on_hold"

    def say(path: str, body: Any) -> Answer:
        if path == "legal-holds":
            return _answer({"hold_id": "h", "held": held, "already_marked": 0}, 201)
        if "deletion" in path or path.startswith("requests/"):
            return _answer({"request_id": "r", "status": status, "finished_at": None})
        return _stored(path, body)

    state = _state(say)
    value, conversation = state.new_person().value, state.new_conversation()
    sending.send(state, [sending.prepared(state, conversation, value)])
    request = holding.delete_under_hold(state, value)
    assert request
    assert state.violations.counts == {"hold": 1}  # it covers nothing
    follow(state, most=1)
    assert state.violations.counts == {"hold": 1}
    status = "processing"
    follow(state, most=1)
    assert state.violations.counts == {"hold": 2}
    request.is_released, status = True, "completed"
    filing.see(state, request, say("requests/r", None).body)
    assert state.violations.counts == {"hold": 2}
