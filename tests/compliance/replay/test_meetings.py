"""Where a replay meets what the database has: requests that are open there, others' marks, equal digests."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from chatbots.models import Chatbot
from compliance.ledger import lines, objects
from compliance.models import Callback, ComplianceRequest, RequestSubject
from compliance.replay.runner import ReplayRunner
from compliance.requests import decisions
from conversations.models import Conversation, Identity, Message
from tests import factories
from tests.compliance.replay.conftest import became_of, gone, replay, work, write_journal
from tests.functional.company import Company, became, document, settle
from tests.functional.redacting import message_of, redact, talk
from tests.functional.refusing import EXTRACTS, FILES, Refusals
from tests.restoring import Backup, notice, restored

NOW = timezone.now()


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
def test_a_conversation_that_was_erased_under_anothers_mark_goes_again(company, monkeypatch) -> None:
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


STATES: dict[str, dict[str, Any]] = {
    "accepted": {},
    "on_hold": {"hold_reason": "awaiting_approval", "held_at": NOW},
    "processing": {"started_at": NOW},
    "failed": {"failed_at": NOW, "error_code": "x", "attempts": 5, "lane": "isolated", "uci_value": None},
    "cancelled": {"cancelled_at": NOW, "uci_value": None},
    "rejected": {"rejected_at": NOW, "uci_value": None},
}
OPEN, ENDED = ("accepted", "on_hold", "processing", "failed"), ("cancelled", "rejected")
CELLS = [
    *((state, "accepted", "leave") for state in STATES),
    *((state, "intended", "file") for state in OPEN),
    *((state, "intended", "leave") for state in ENDED),
    *((state, "withdrawn", "withdraw") for state in OPEN),
    *((state, "withdrawn", "leave") for state in ENDED),
    *((state, "exact", "erase") for state in OPEN),
    *((state, "exact", "conflict") for state in ENDED),
]


# The others are in the long run.
_IN_SHORT = {("accepted", "accepted"), ("on_hold", "intended"), ("failed", "exact")}


@pytest.mark.parametrize(
    ("state", "kind", "plan"),
    [
        pytest.param(
            *cell,
            id="-".join(cell),
            marks=() if cell[:2] in _IN_SHORT else pytest.mark.long(reason="two restores for each cell"),
        )
        for cell in CELLS
    ],
)
def test_a_deletion_that_is_here(company: Company, other: Company, state: str, kind: str, plan: str) -> None:
    """By a value, and by the platform's ids."""
    numbers = [company.talk("c-1", "alice"), company.talk("c-2", "bob"), other.talk("c-1", "alice")]
    numbers.append(company.talk("c-3", "carol"))
    deletions = [company.delete("alice"), company.delete(["c-2"])]
    requests = ComplianceRequest.objects.filter(pk__in=deletions).order_by("seq")
    filed = list(requests.values_list("seq", flat=True))
    backup = Backup()
    if kind == "exact":
        work()
    elif kind == "withdrawn":
        for one in deletions:
            decisions.cancel(request_id=UUID(one), actor="user:7")
        write_journal()
    else:
        requests.update(started_at=NOW if kind == "intended" else None)
        ids = [UUID(one) for one in deletions]
        objects.write(lines.accepted(ids), request_ids=ids)
    backup.restore(state="open")
    requests.update(status=state, **STATES[state])
    notice()

    planned = replay("--dry-run", code=3 if plan == "conflict" else 0)
    report = replay(code=3 if plan == "conflict" else 0)

    assert planned["plans"] == report["plans"] == {plan: 2}
    assert plan != "leave" or report["requests"] == []
    becomes = {"leave": state, "conflict": state, "withdraw": "cancelled", "erase": "completed", "file": "accepted"}
    assert {one.status for one in requests} == {becomes[plan]}
    assert gone(*numbers) == [plan == "erase"] * 2 + [False] * 2
    assert list(requests.values_list("seq", flat=True)) == filed
    if plan == "erase":
        erased = requests.values_list("origin", "conversations", "uci_value", "error_code")
        assert set(erased) == {("replay", 1, None, "")}
        call_command("verify_erasure", "--all")


def test_a_failed_deletion_that_has_forgotten_what_it_names_learns_it_from_the_ledger(company: Company) -> None:
    number = company.talk("c-1", "alice")
    deletion = UUID(company.delete(["c-1"]))
    requests = ComplianceRequest.objects.filter(pk=deletion)
    requests.update(started_at=NOW)
    objects.write(lines.accepted([deletion]), request_ids=[deletion])
    requests.update(status="failed", **STATES["failed"], named_conversations=None)
    RequestSubject.objects.all().delete()

    assert replay("--restored")["plans"] == {"file": 1}

    work()
    assert gone(number) == [True]
    assert requests.get().conversation_digests == [one.digest for one in RequestSubject.objects.all()]


@pytest.mark.long(reason="a restore for each state")
@pytest.mark.parametrize("state", STATES)
def test_a_redaction_that_is_here(company: Company, state: str) -> None:
    number = talk(company, "c-1", "alice")
    redaction = redact(company, number)
    backup = Backup()
    work()
    backup.restore(state="open")
    ComplianceRequest.objects.filter(pk=redaction).update(status=state, **STATES[state])
    notice()

    report = replay(code=3 if state in ENDED else 0)

    assert report["plans"] == {"conflict" if state in ENDED else "redact": 1}
    assert (message_of(number).kind == "redacted") == (state in OPEN)


@pytest.mark.long(reason="one more meeting of the two, and a restore")
def test_a_redaction_and_a_deletion_of_one_conversation(company: Company) -> None:
    number, other = talk(company, "c-1", "alice"), talk(company, "c-2", "bob")
    backup = Backup()
    redaction = redact(company, number)
    work()
    deletion = company.delete("alice")
    work()
    backup.restore()

    report = replay()

    assert set(report["outcomes"]) <= {"erased", "unchanged", "nothing_found"}
    assert gone(number, other) == [True, False]
    assert company.status(deletion) == "completed"
    assert {one["request_id"] for one in report["requests"]} <= {redaction, deletion}


@pytest.mark.django_db(transaction=True)  # what calls a bucket of a client has a connection of its own
@pytest.mark.usefixtures("clients")
def test_a_redaction_that_finds_nothing_ends_and_names_what_was_delivered(company: Company) -> None:
    Chatbot.objects.filter(pk=company.chatbot.pk).update(callback_url="https://hooks.example.com/privacy")
    number = talk(company, "c-1", "alice")
    export = company.export("alice")
    work()
    redaction = redact(company, number)
    waiting = ComplianceRequest.objects.filter(pk=redaction)
    waiting.update(not_before=NOW + timedelta(days=1))
    company.delete("alice")
    work()
    write_journal()
    waiting.update(not_before=None, claim=factories.ClaimFactory.create())
    backup = Backup()
    waiting.update(claim=None)
    work()
    named = company.request_object(redaction)["kept_exports"]
    backup.restore()

    assert replay()["plans"] == {"remember": 1}

    assert [kept["request_id"] for kept in named] == [export]
    assert company.request_object(redaction)["kept_exports"] == named
    told = Callback.objects.filter(request=UUID(redaction))
    assert list(told.values_list("status", "result")) == [("completed", "nothing_found")]


@pytest.mark.long(reason="a restore for each setting", beyond=1)
@pytest.mark.parametrize(
    "since",
    [{"four_eyes": True}, {"max_conversations_per_deletion": 1}, {"compliance_enabled": False}],
)
def test_what_was_erased_waits_for_nobody(company: Company, since: dict[str, Any]) -> None:
    """It was approved in its former life, or the chatbot was another then."""
    numbers = company.talk("c-1", "alice"), company.talk("c-2", "alice")
    bobs = company.talk("c-3", "bob")
    deletion = company.delete("alice")
    backup = Backup()
    work()
    backup.restore()
    Chatbot.objects.filter(pk=company.chatbot.pk).update(**since)

    report = replay()

    assert report["outcomes"] == {"erased": 1}
    assert gone(*numbers, bobs) == [True, True, False]
    assert ComplianceRequest.objects.get(pk=deletion).status == "completed"


def test_a_backup_from_the_middle_of_a_replay(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = company.talk("c-1", "alice"), company.talk("c-2", "bob"), company.talk("c-3", "carol")
    backup = Backup()
    company.delete("alice")
    work()
    backup.restore()
    with monkeypatch.context() as patched:
        patched.setattr(ReplayRunner, "run", _interrupted)
        with pytest.raises(CommandError, match="Interrupted"):
            replay()
    middle = Backup()
    replay()
    company.delete("bob")
    work()
    middle.restore(state="open")
    assert gone(*numbers) == [False] * 3

    report = replay()

    assert gone(*numbers) == [True, True, False]
    assert set(report["outcomes"]) == {"erased"}


def _interrupted(_self: object) -> bool:
    raise KeyboardInterrupt
