"""Where a replay meets what the database has: requests that are open there, others' marks, equal digests."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from compliance import worker
from compliance.ledger import lines
from compliance.models import ComplianceRequest
from conversations.models import Conversation, Identity, Message
from tests.compliance.replay.conftest import became_of, gone, replay, work
from tests.functional.company import Company, became, document, settle
from tests.functional.refusing import EXTRACTS, FILES, Refusals
from tests.restoring import restored

NOW = timezone.now()


@pytest.mark.long(reason="a restore for each state and selector", beyond=1)
@pytest.mark.parametrize(
    "state",
    [
        {},
        {"status": "failed", "failed_at": NOW, "error_code": "x", "uci_value": None, "uci_digest": None},
        {"not_before": NOW + timedelta(days=1), "lane": "isolated", "attempts": 3},
    ],
)
@pytest.mark.parametrize("by_ids", [False, True])
def test_a_deletion_that_was_open_when_the_backup_was_taken(
    company: Company, other: Company, state: dict[str, Any], by_ids: bool
) -> None:
    mine, bobs, theirs = company.talk("c-1", "alice"), company.talk("c-2", "bob"), other.talk("c-1", "alice")
    deletion = company.delete(["c-1"] if by_ids else "alice")
    requests = ComplianceRequest.objects.filter(pk=deletion)
    seq = requests.get().seq
    with restored():
        work()
        assert company.status(deletion) == "completed"
    requests.update(**state)

    report = replay()

    assert became_of(report) == {deletion: "erased"}
    assert gone(mine, bobs, theirs) == [True, False, False]
    request = requests.get()
    assert (request.status, request.origin, request.seq) == ("completed", "replay", seq)
    assert (request.conversations, request.uci_value, request.error_code) == (1, None, "")
    call_command("verify_erasure", "--all")


def test_two_people_of_one_conversation_were_erased(company: Company) -> None:
    shared, alices, bobs = (
        company.talk("c-1", "alice", "bob"),
        company.talk("c-2", "alice"),
        company.talk("c-3", "bob"),
    )
    with restored():
        first = company.delete("alice")
        work()
        second = company.delete("bob")
        work()

    report = replay()

    assert became_of(report) == {first: "erased", second: "erased"}
    assert gone(shared, alices, bobs) == [True, True, True]
    assert str(Conversation.objects.get(pk=shared).deletion_request_id) == first
    call_command("verify_erasure", "--all")


def test_what_the_backup_had_erased_already_is_no_error(company: Company) -> None:
    shared, alices = company.talk("c-1", "alice", "bob", has_file=True), company.talk("c-2", "alice")
    company.delete("bob")
    work()
    assert gone(shared, alices) == [True, False]
    with restored():
        deletion = company.delete("alice")
        work()

    report = replay()

    assert became_of(report) == {deletion: "erased"}
    assert report["requests"][0]["numbers"] == [alices]
    assert gone(shared, alices) == [True, True]


def test_a_conversation_that_another_open_deletion_has_closed_is_erased(company: Company) -> None:
    number = company.talk("c-1", "alice", "bob")
    bobs = company.delete("bob")
    ComplianceRequest.objects.filter(pk=bobs).update(
        status="accepted", started_at=NOW, cutoff_at=NOW, cutoff_number=number, not_before=NOW + timedelta(days=1)
    )
    Conversation.objects.filter(pk=number).update(deletion_request_id=bobs)
    with restored():
        alices = company.delete("alice")
        work()
        assert gone(number) == [True]

    report = replay()

    assert became_of(report) == {alices: "erased"}
    assert gone(number) == [True]
    assert str(Conversation.objects.get(pk=number).deletion_request_id) == bobs
    assert company.status(bobs) == "accepted"


@pytest.mark.usefixtures("refused_at_once")
@pytest.mark.django_db(transaction=True)
def test_a_conversation_that_was_erased_under_anothers_mark_goes_again(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It named Alice only after the backup, and Bob's deletion, which had marked it, had not ended.

    Her deletion still found it, by the daily extract that had to be rebuilt.
    """
    refusals = Refusals()
    refusals.set_up(monkeypatch)
    shared, carols = company.talk("c-2", "bob"), company.talk("c-4", "carol")
    company.talk("c-3", "bob", has_file=True)
    company.make_day()
    with restored():
        assert became(company.send(document("c-2", "alice"))) == ["updated"]
        refusals.locked.add(FILES)
        refusals.unwritable.add(EXTRACTS)
        bobs = company.delete("bob")
        work()
        alices = company.delete("alice")
        refusals.unwritable.clear()
        settle()
        assert (company.status(bobs), company.status(alices)) == ("failed", "completed")
        assert str(Conversation.objects.get(pk=shared).deletion_request_id) == bobs
    refusals.end()

    replay()

    assert gone(shared, carols) == [True, False]


def test_another_chatbot_with_the_same_digests_is_untouched(company: Company, other: Company) -> None:
    mine, theirs = company.talk("c-1", "alice"), other.talk("c-1", "alice")
    ours = Identity.objects.get(conversation=mine)
    digest = Conversation.objects.get(pk=mine).external_id_digest
    Identity.objects.filter(conversation=theirs).update(digest=ours.digest)
    Conversation.objects.filter(pk=theirs).update(external_id_digest=digest)
    kept = list(Message.objects.filter(conversation=theirs).values())
    with restored():
        company.delete("alice")
        company.delete(["c-1"])
        work()

    replay()

    assert gone(mine, theirs) == [True, False]
    assert list(Message.objects.values()) == kept


def test_a_deletion_that_fills_several_lines(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CONVERSATIONS_PER_LINE", 2)
    numbers = [company.talk(f"c-{number}") for number in range(5)]
    with restored():
        # They named the chatter only after the backup, so that only their digests lead to them.
        assert set(became(company.send(*(document(f"c-{number}", "alice") for number in range(5))))) == {"updated"}
        deletion = company.delete("alice")
        work()

    report = replay()

    assert became_of(report) == {deletion: "erased"}
    assert gone(*numbers) == [True] * 5


def test_what_is_closed_is_what_was_planned(company: Company) -> None:
    numbers = [company.talk(f"c-{number}", "alice") for number in range(3)]
    with restored():
        company.delete("alice")
        work()
    [planned] = replay("--dry-run")["requests"]

    [done] = replay()["requests"]

    marked = Conversation.objects.filter(deletion_request_id=done["request_id"]).order_by("pk")
    assert planned["numbers"] == done["numbers"] == list(marked.values_list("pk", flat=True)) == numbers
    assert worker.drain(seconds=10) is False
