"""What the clients of the soak hold to be wrong when they see it: each with a service that answers wrongly."""

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from tests.faults.client import Answer, Client, NoAnswer
from tests.faults.soak import caller, sending
from tests.faults.soak.caller import Caller, Silent, Traffic
from tests.faults.soak.circle import Circle
from tests.faults.soak.filing import delete
from tests.faults.soak.following import is_whole
from tests.faults.soak.model import Filed, Model, now
from tests.faults.soak.receivers import Receivers
from tests.faults.soak.violations import Violations
from tests.faults.soak.words import Words

Say = Callable[[str, Any], Answer]


class Wrong(Client):
    """A service that answers as a test says."""

    def __init__(self, say: Say) -> None:
        super().__init__("http://127.0.0.1:1", "acme", secret="", token="")
        self.say = say

    def get(self, path: str) -> Answer:
        return self.say(path, None)

    def post(self, path: str, body: Any, *, key: str = "") -> Answer:
        return self.say(path, body)

    def file(self, path: str, body: Any, *, key: str = "") -> Answer:
        return self.say(path, body)


def _circle(say: Say) -> Circle:
    violations = Violations()
    client = Caller(Wrong(say), violations, Traffic(), lambda: ())
    return Circle(Model(Words()), client, Receivers(violations, seed=1), violations, Random(1))


def _answer(body: Any, status: int = 200) -> Answer:
    return Answer(status, body, b"", {})


def _stored(path: str, body: Any) -> Answer:
    """Store whatever comes."""
    documents = body if isinstance(body, list) else body.get("identities", [body])
    return _answer(
        {"results": [{"id": one["id"], "number": 1, "outcome": "created", "error": None} for one in documents]}
    )


def _erased(circle: Circle) -> Filed:
    """Note that somebody was erased."""
    person = circle.new_person()
    one = circle.model.file(Filed("acme", "deletion", "k", value=person.value, id="d", status="completed"))
    circle.filed[one.id] = one
    circle.erased_at[person.value] = now()
    return one


@pytest.mark.parametrize("come", [sending.come_back, sending.come_back_unnamed])
def test_an_erased_chatter_must_not_come_back(come: Callable[[Circle], None]) -> None:
    circle = _circle(_stored)
    _erased(circle)
    come(circle)
    assert circle.violations.kinds == {"late data"}


def test_more_of_what_retention_erased_must_not_come_back() -> None:
    circle = _circle(_stored)
    talk = circle.new_talk(now() - timedelta(days=120))
    sending.send(circle, [sending.prepared(circle, talk, circle.new_person().value)])
    sending.send_late(circle, talk, min(talk.people), "conversation_deleted")
    assert circle.violations.kinds == {"late data"}


def test_a_neighbour_must_be_shown_as_it_was_sent() -> None:
    circle = _circle(_stored)
    talk = circle.new_talk()
    sending.send(circle, [sending.prepared(circle, talk, circle.new_person().value)])
    facts = talk.facts
    shown = {name: facts[name] for name in ("language", "channel", "push", "agent_handover", "score")}
    csat = {name: facts[f"csat_{name}"] for name in ("score", "vote", "comment")}
    lines = [{"id": message, "kind": "text", "text": text} for message, text in talk.texts.items()]

    def say(path: str, _: Any) -> Answer:
        if "messages" in path:
            return _answer({"results": lines})
        return _answer(shown | {"id": talk.id, "user_name": "somebody", "csat": csat})

    circle = _circle(say)
    is_whole(circle, talk)
    assert [one.told for one in circle.violations.kept] == [f"acme: {talk.id} is shown with another user_name"]
    lines.clear()
    is_whole(circle, talk)
    assert circle.violations.counts["neighbour"] == 1 + len(talk.texts)


@pytest.mark.parametrize("status", [503, 0])
def test_no_call_is_unanswered_without_a_fault(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "_PATIENCE", 0.0)

    def say(path: str, _: Any) -> Answer:
        if not status:
            raise NoAnswer("timed out")
        return _answer({"code": "unavailable"}, status)

    circle = _circle(say)
    with pytest.raises(Silent):
        circle.caller.get("usage", "usage")
    assert circle.violations.counts["no answer"] == 2  # it had no answer, and was given up


def test_a_fault_explains_that_a_call_is_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "_PATIENCE", 0.0)
    answers = [_answer({"code": "unavailable"}, 503), _answer({})]
    circle = _circle(lambda *_: answers.pop(0))
    circle.violations.outages.begin("a fault")
    circle.caller.get("usage", "usage")
    assert circle.violations.kinds == set()


def test_whose_deletion_waits_may_lose_a_shared_conversation_to_another() -> None:
    """Her export waits before it. His deletion is filed later, may erase it as well, and may come first."""

    def say(path: str, body: Any) -> Answer:
        if path.endswith("cancel"):
            return _answer({"code": "not_cancellable"}, 409)
        if "deletion" in path:
            return _answer({"request_id": "his", "status": "accepted", "finished_at": None, "counts": {}})
        return _stored(path, body)

    circle = _circle(say)
    she, he = circle.new_person(), circle.new_person()
    shared, own = circle.new_talk(), circle.new_talk()
    for talk, people in ((shared, {she.value, he.value}), (own, {he.value})):
        talk.number, talk.people, talk.tried, talk.documents = talk.index, people, people, [{}]
    circle.alive[own] = None
    hers = [
        circle.model.file(Filed("acme", kind, kind, value=she.value, id=kind, surely={shared}))
        for kind in ("export", "deletion")
    ]
    circle.open |= dict.fromkeys(hers)
    circle.filed |= {one.id: one for one in hers}

    delete(circle)
    assert "his" in circle.filed
    assert hers[0].surely == set()
    assert hers[0].possibly == {shared}
