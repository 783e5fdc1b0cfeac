"""The commands about legal holds as an operator uses them: output, exit codes, refusals."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from compliance import worker
from compliance.models import ComplianceRequest, LegalHold
from tests.commands import refused, report, run
from tests.factories import conversation_of, deletion_of
from tests.holding import place

VALUE = "jane.doe@example.org"
REVIEW_AT = f"{timezone.now() + timedelta(days=90):%Y-%m-%d}"
WHY = ("--matter", "CASE-1", "--basis", "legal_claims", "--review-at", REVIEW_AT)
JANE = ("acme", "member_id", VALUE)


def held(chatbot: Chatbot, value: str = VALUE, **fields: Any) -> ComplianceRequest:
    of_hold = {"status": "on_hold", "hold_reason": "legal_hold", "held_at": timezone.now()}
    return deletion_of(chatbot, value, **of_hold, **fields)


def test_a_hold_is_placed_once_after_a_look_at_what_it_covers(chatbot, monkeypatch) -> None:
    conversation_of(chatbot, VALUE)
    counts = {"held": 1, "already_marked": 0, "already_erased": 0}
    assert report("place_hold", *JANE, *WHY, "--dry-run") == counts
    looked = run("place_hold", *JANE, *WHY, "--dry-run")
    assert looked.out.splitlines()[-1] == "Nothing was placed."
    assert not LegalHold.objects.exists()

    monkeypatch.setattr("sys.stdin", io.StringIO(f"{VALUE}\n"))
    placed = report("place_hold", "acme", "member_id", "-", *WHY)
    assert placed.items() >= counts.items()
    assert (placed["placed_by"], placed["scope"], placed["matter"]) == ("command", "uci", "CASE-1")
    again = run("place_hold", *JANE, *WHY)
    assert again.err.startswith("Nothing was placed: an equal hold is in force, and its review stays as it is.\n")
    assert again.out.splitlines() == [
        f"{placed['hold_id']} acme: one chatter, by member_id, CASE-1, in force, review {REVIEW_AT}",
        "Holds 1 conversation. Already being erased: 0. Already erased: 0.",
    ]
    assert LegalHold.objects.count() == 1
    entry = ChangeLogEntry.objects.get(event="hold.placed")
    assert VALUE not in f"{placed}{looked}{again}{entry.data}"


def test_holds_are_placed_on_conversations_and_on_the_chatbot(chatbot) -> None:
    conversation_of(chatbot, VALUE, external_id="c-1")
    conversation_of(chatbot, VALUE)
    assert report("place_hold", "acme", "--conversation", "c-1", *WHY)["held"] == 1
    everything = report("place_hold", "acme", "--whole-chatbot", "--began-before", "2026-12-24", *WHY)
    assert (everything["scope"], everything["held"]) == ("chatbot", 2)
    assert everything["began_before"] == "2026-12-24T00:00:00.000000Z"


def test_placing_is_refused_with_the_reason(chatbot) -> None:
    both = "Give a chatter, conversations, or --whole-chatbot."
    assert str(refused("place_hold", *JANE, "--whole-chatbot", *WHY)) == both
    assert "one chatter by key and value" in str(refused("place_hold", "acme", *WHY))
    past = refused("place_hold", *JANE, *WHY[:-1], "2020-01-01")
    assert (past.returncode, str(past)) == (2, "invalid: It must be in the future, within 12 months.")
    assert refused("place_hold", *JANE, *WHY[:-1], "tomorrow").returncode == 2
    assert refused("place_hold", "acme", "plan", "gold", *WHY).returncode == 2
    assert refused("place_hold", "nobody", *JANE[1:], *WHY).returncode == 1
    Chatbot.objects.update(closed_at=timezone.now())
    assert "closed since a restore" in str(refused("place_hold", *JANE, *WHY))
    assert not LegalHold.objects.exists()


def test_a_release_is_looked_at_first_and_lets_requests_continue(chatbot) -> None:
    for value in (VALUE, "42"):
        conversation_of(chatbot, value, external_id=f"c-{value}")
    hold, _ = place(chatbot, [f"c-{VALUE}", "c-42"])
    place(chatbot, "42", matter="another")
    free, kept = held(chatbot), held(chatbot, "42")

    looked = report("release_hold", str(hold.pk), "--reason", "matter_closed", "--dry-run")["waiting_requests"]
    assert looked == [
        {"request_id": str(free.pk), "kind": "deletion", "conversations": 1, "held_by_others": 0},
        {"request_id": str(kept.pk), "kind": "deletion", "conversations": 0, "held_by_others": 1},
    ]
    assert run("release_hold", str(hold.pk), "--reason", "matter_closed", "--dry-run").out.splitlines() == [
        f"deletion {free.pk} would erase 1 conversation.",
        f"deletion {kept.pk} stays on hold: other holds cover 1 conversation.",
        "Nothing was released.",
    ]
    assert LegalHold.objects.filter(released_at=None).count() == 2
    released = report("release_hold", str(hold.pk), "--reason", "matter_closed")
    assert (released["state"], released["continued"]) == ("released", [str(free.pk)])
    again = refused("release_hold", str(hold.pk), "--reason", "matter_closed")
    assert (again.returncode, str(again)) == (2, "released: The legal hold was released already.")
    assert refused("release_hold", str(uuid4()), "--reason", "matter_closed").returncode == 1


def test_a_hold_of_a_command_is_released_by_no_command_but_its_release_is_previewed(chatbot) -> None:
    hold = report("place_hold", *JANE, *WHY)["hold_id"]
    error = refused("release_hold", hold, "--reason", "placed_in_error")
    assert error.returncode == 2
    assert "All commands count as one: an officer releases it in the console" in str(error)
    assert report("release_hold", hold, "--reason", "placed_in_error", "--dry-run") == {"waiting_requests": []}
    assert LegalHold.objects.get().released_at is None


def test_holds_are_listed_and_reviewed(chatbot, neighbour) -> None:
    hold, _ = place(chatbot, VALUE)
    theirs, _ = place(neighbour, None)
    LegalHold.objects.filter(pk=hold.pk).update(review_at=timezone.now() - timedelta(days=1))

    listed = [(one["chatbot"], one["hold_id"]) for one in report("legal_holds")["holds"]]
    assert listed == [(neighbour.slug, str(theirs.pk)), ("acme", str(hold.pk))]
    [due] = report("legal_holds", "acme", "--state", "due_for_review")["holds"]
    assert due["due_for_review"]
    assert run("legal_holds", "--state", "released").out == "There are none.\n"
    assert VALUE not in run("legal_holds").out
    Chatbot.objects.filter(pk=chatbot.pk).update(timezone="Pacific/Auckland")
    LegalHold.objects.filter(pk=hold.pk).update(review_at=datetime(2027, 4, 30, 12, tzinfo=UTC))
    assert "review 2027-05-01" in run("legal_holds", "acme").out
    Chatbot.objects.filter(pk=chatbot.pk).update(timezone="UTC")
    assert refused("legal_holds", "nobody").returncode == 1

    reviewed = report("review_hold", str(hold.pk), "--review-at", REVIEW_AT)
    assert (reviewed["due_for_review"], reviewed["review_at"][:10]) == (False, REVIEW_AT)
    assert refused("review_hold", str(hold.pk), "--review-at", "2020-01-01").returncode == 2
    assert ChangeLogEntry.objects.get(event="hold.reviewed").actor == "command"


def test_a_deletion_erases_what_no_hold_covers(chatbot, storage) -> None:
    for number in (1, 2):
        conversation_of(chatbot, VALUE, external_id=f"c-{number}")
    place(chatbot, ["c-1"])
    request = held(chatbot)
    other = refused("approve_request", str(request.pk))
    assert (other.returncode, str(other).partition(":")[0]) == (2, "legal_hold")

    assert report("erase_unheld", str(request.pk), "--reason", "answer_due")["status"] == "accepted"
    worker.drain(seconds=60)
    request.refresh_from_db()
    assert (request.result, request.withheld, request.conversations) == ("partial", 1, 1)
    assert refused("erase_unheld", str(request.pk)).returncode == 2
