"""Legal holds over HTTP: placing, finding, reviewing and releasing them, permissions and refusals."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from compliance.models import LegalHold
from conversations.locks import wait_for_intake
from tests.calls import TokenCaller, pointers, problem, results_of
from tests.factories import ChatbotFactory, conversation_of, deletion_of
from tests.functional.elsewhere import Elsewhere, uncommitted, wait_until_blocked
from tests.holding import place

VALUE = "jane.doe@example.org"
JANE = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": VALUE}
DAY = timedelta(days=1)
COUNTS = ("held", "already_marked", "already_erased")


def in_days(days: float) -> str:
    return (timezone.now() + days * DAY).isoformat()


def body(**fields: Any) -> dict[str, Any]:
    return {"matter": "CASE-1", "basis": "legal_claims", "review_at": in_days(90), **fields}


def counts(answer: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(answer[name] for name in COUNTS)


def listed(caller: TokenCaller, query: str = "") -> list[str]:
    return [one["hold_id"] for page in results_of(caller, f"legal-holds{query}") for one in page]


def held(chatbot: Chatbot, value: str = VALUE, **fields: Any) -> Any:
    """Return a deletion that a legal hold keeps."""
    of_hold = {"status": "on_hold", "hold_reason": "legal_hold", "held_at": timezone.now()}
    return deletion_of(chatbot, value, **of_hold | fields)


def test_a_hold_is_placed_once_and_never_shows_the_value(caller, chatbot, caplog) -> None:
    for _ in range(2):
        conversation_of(chatbot, VALUE)
    with caplog.at_level(logging.DEBUG):
        placed = caller.post("legal-holds", body(**JANE))
        again = caller.post("legal-holds", body(**JANE))
        shown = caller.get(f"legal-holds/{placed.json()['hold_id']}")
        others = caller.post("legal-holds", body(**JANE, basis="authority_order"))

    assert (placed.status_code, again.status_code, others.status_code) == (201, 200, 201)
    assert placed.json() == again.json()
    assert shown.json() == placed.json() | {"waiting_requests": []}
    assert counts(placed.json()) == (2, 0, 0)
    assert placed.json()["unique_chatter_identifier_key"] == "member_id"
    assert (placed.json()["scope"], placed.json()["placed_by"]) == ("uci", f"api:{caller.api_key.prefix}")
    assert listed(caller) == [others.json()["hold_id"], placed.json()["hold_id"]]
    answers = [one.content.decode() for one in (placed, again, shown, others, caller.get("legal-holds"))]
    entries = ChangeLogEntry.objects.filter(event="hold.placed").values_list("data", flat=True)
    assert [entry["basis"] for entry in entries.order_by("id")] == ["legal_claims", "authority_order"]
    assert not any(VALUE in text for text in (*answers, caplog.text, str(list(entries))))


@pytest.mark.parametrize(
    ("subject", "covered"),
    [
        (JANE, 2),
        ({"conversation_ids": ["c-1", "unknown"]}, 1),
        ({"whole_chatbot": True}, 3),
        (JANE | {"whole_chatbot": False, "began_from": "2026-11-02"}, 1),
        ({"whole_chatbot": True, "began_before": "2026-11-02"}, 2),
    ],
)
def test_a_preview_counts_the_same_and_places_nothing(caller, chatbot, subject, covered) -> None:
    conversation_of(chatbot, VALUE, external_id="c-1")
    conversation_of(chatbot, VALUE, started_at=datetime.fromisoformat("2026-11-03T00:00:00Z"))
    conversation_of(chatbot, "someone else")
    preview = caller.post("legal-holds/preview", body(**subject))
    assert (preview.status_code, preview.json().keys()) == (200, set(COUNTS))
    assert not LegalHold.objects.exists()
    placed = caller.post("legal-holds", body(**subject)).json()
    assert counts(preview.json()) == counts(placed)
    assert placed["held"] == covered


def test_an_invalid_hold_is_refused(caller) -> None:
    for fields, errors in [
        ({}, {"/unique_chatter_identifier_key": "missing", "/unique_chatter_identifier_value": "missing"}),
        ({"whole_chatbot": True, "conversation_ids": ["c-1"]}, {"/conversation_ids": "conflict"}),
        (JANE | {"conversation_ids": ["c-1"]}, {"/conversation_ids": "conflict"}),
        (JANE | {"whole_chatbot": "yes"}, {"/whole_chatbot": "wrong_type"}),
        (JANE | {"unique_chatter_identifier_value": "null"}, {"/unique_chatter_identifier_value": "invalid"}),
        (JANE | {"matter": f"about:{VALUE}"}, {"/matter": "wrong_pattern"}),
        ({"conversation_ids": ["c-1"], "matter": "about-C-1"}, {"/matter": "invalid"}),
        (JANE | {"basis": "curiosity"}, {"/basis": "unknown_value"}),
        (JANE | {"review_at": None}, {"/review_at": "wrong_type"}),
        (JANE | {"review_at": "2026-02-30"}, {"/review_at": "invalid"}),
        (JANE | {"review_at": in_days(-1)}, {"/review_at": "invalid"}),
        (JANE | {"review_at": in_days(400)}, {"/review_at": "invalid"}),
        (JANE | {"began_from": "0001-01-01"}, {"/began_from": "invalid"}),
        (JANE | {"began_from": "2026-11-02", "began_before": "2026-11-02"}, {"/began_before": "invalid"}),
        (JANE | {"disclosure": "silent"}, {"/disclosure": "unknown_field"}),
    ]:
        for path in ("legal-holds", "legal-holds/preview"):
            answer = caller.post(path, body(**fields))
            assert pointers(answer) == errors
            assert VALUE not in answer.content.decode()
        assert not LegalHold.objects.exists()


def test_the_key_must_be_a_uci(caller, chatbot) -> None:
    problem(
        caller.post("legal-holds", body(**JANE | {"unique_chatter_identifier_key": "plan"})), 400, "unknown_uci_key"
    )
    without = TokenCaller(ChatbotFactory.create())
    problem(without.post("legal-holds", body(**JANE)), 409, "uci_not_designated")


def test_a_hold_needs_no_data_compliance_but_an_open_chatbot(caller, chatbot) -> None:
    Chatbot.objects.update(compliance_enabled=False)
    assert caller.post("legal-holds", body(**JANE)).status_code == 201
    Chatbot.objects.update(closed_at=timezone.now())
    problem(caller.post("legal-holds", body(whole_chatbot=True)), 503, "restored_database")


def test_holds_are_listed_by_state_and_only_those_of_the_chatbot(caller, chatbot, neighbour) -> None:
    one, due, over = (str(place(chatbot, "42", matter=f"M-{number}")[0].pk) for number in range(3))
    place(neighbour, "42")
    LegalHold.objects.filter(pk=due).update(review_at=timezone.now() - DAY)
    caller.post(f"legal-holds/{over}/release", {"reason": "matter_closed"})

    assert listed(caller, "?limit=1") == [over, due, one]
    assert listed(caller, "?state=in_force") == [due, one]
    assert listed(caller, "?state=due_for_review") == [due]
    assert listed(caller, "?state=released") == [over]
    assert pointers(caller.get("legal-holds?state=silent")) == {"/state": "unknown_value"}
    shown = {
        one["hold_id"]: (one["state"], one["due_for_review"]) for one in caller.get("legal-holds").json()["results"]
    }
    assert shown == {over: ("released", False), due: ("in_force", True), one: ("in_force", False)}


def test_a_review_sets_the_next_one(caller, chatbot) -> None:
    hold, _ = place(chatbot, "42")
    answer = caller.post(f"legal-holds/{hold.pk}/review", {"review_at": in_days(200)})
    assert answer.status_code == 200
    assert answer.json()["review_at"] == caller.get(f"legal-holds/{hold.pk}").json()["review_at"]
    assert answer.json()["reviewed_at"] is not None
    for given, code in (({"review_at": in_days(400)}, "invalid"), ({}, "missing")):
        assert pointers(caller.post(f"legal-holds/{hold.pk}/review", given)) == {"/review_at": code}
    assert ChangeLogEntry.objects.get(event="hold.reviewed").actor == f"api:{caller.api_key.prefix}"


def test_a_release_lets_requests_continue_and_comes_once(caller, chatbot) -> None:
    conversation_of(chatbot, VALUE)
    conversation_of(chatbot, "42", external_id="c-2")
    hold, _ = place(chatbot, VALUE)
    other, _ = place(chatbot, ["c-2"])
    free, kept = held(chatbot), held(chatbot, "42")
    path = f"legal-holds/{hold.pk}"
    assert caller.get(path).json()["waiting_requests"] == [str(free.pk)]
    assert caller.get(f"legal-holds/{other.pk}").json()["waiting_requests"] == [str(kept.pk)]
    problem(caller.post(f"requests/{free.pk}/approve", {}), 409, "legal_hold")

    assert pointers(caller.post(f"{path}/release", {})) == {"/reason": "missing"}
    assert pointers(caller.post(f"{path}/release", {"reason": "bored"})) == {"/reason": "unknown_value"}
    released = caller.post(f"{path}/release", {"reason": "matter_closed"})
    assert (released.status_code, released.json()["continued"]) == (200, [str(free.pk)])
    assert (released.json()["state"], released.json()["release_reason"]) == ("released", "matter_closed")
    assert counts(caller.get(path).json()) == (0, 0, 0)
    statuses = [caller.get(f"requests/{one.pk}").json()["status"] for one in (free, kept)]
    assert statuses == ["accepted", "on_hold"]
    problem(caller.post(f"{path}/release", {"reason": "matter_closed"}), 409, "released")
    problem(caller.post(f"{path}/review", {"review_at": in_days(9)}), 409, "released")


def test_all_keys_of_a_chatbot_count_as_one(caller, chatbot) -> None:
    hold = TokenCaller(chatbot).post("legal-holds", body(**JANE)).json()
    answer = problem(
        caller.post(f"legal-holds/{hold['hold_id']}/release", {"reason": "matter_closed"}), 409, "own_hold"
    )
    assert "in the console" in answer["detail"]
    assert listed(caller, "?state=in_force") == [hold["hold_id"]]


def test_a_preview_of_a_deletion_counts_held_conversations_for_readers_of_holds(caller, chatbot) -> None:
    conversation_of(chatbot, VALUE, external_id="c-1")
    conversation_of(chatbot, VALUE)
    preview = JANE | {"action": "delete"}
    before = caller.post("preview", preview).json()["deletion"]
    assert (before["held_by"], before["under_legal_hold"]) == ([], 0)
    place(chatbot, ["c-1"])
    for scopes, number in ((["deletions:write"], None), (["deletions:write", "holds:read"], 1)):
        found = TokenCaller(chatbot, scopes).post("preview", preview).json()["deletion"]
        assert (found["held_by"], found["under_legal_hold"]) == (["legal_hold"], number)


def test_a_deletion_names_the_one_that_erases_the_rest(caller, chatbot) -> None:
    done = {"status": "completed", "completed_at": timezone.now(), "result": "partial", "withholds": True}
    first = deletion_of(chatbot, None, **done, withheld=2)
    rest = held(chatbot, continues=first)
    shown, following = (caller.get(f"requests/{one.pk}").json() for one in (first, rest))
    assert (shown["result"], shown["withheld"]) == ("partial", 2)
    assert (shown["continues"], shown["continued_by"]) == (None, str(rest.pk))
    assert (following["hold_reason"], following["continues"]) == ("legal_hold", str(first.pk))
    assert following["continued_by"] is None


@pytest.mark.django_db(transaction=True)
def test_two_callers_at_once_place_one_hold(bot) -> None:
    conversation_of(bot, VALUE)
    given, callers = body(**JANE), [TokenCaller(bot), TokenCaller(bot)]
    with uncommitted(lambda: wait_for_intake(bot.pk)):
        calls = [Elsewhere(partial(caller.post, "legal-holds", given)) for caller in callers]
        wait_until_blocked(2)
    answers = [call.end() for call in calls]
    assert sorted(answer.status_code for answer in answers) == [200, 201]
    assert len({answer.json()["hold_id"] for answer in answers}) == 1
    assert LegalHold.objects.count() == 1
