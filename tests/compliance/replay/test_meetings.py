"""Where a replay meets what the database has: requests that are open there, others' marks, equal digests."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from chatbots.models import Chatbot
from common.crypto import digest
from compliance.ledger import lines, objects
from compliance.models import Callback, ComplianceRequest, RequestSubject
from compliance.replay.runner import ReplayRunner
from compliance.requests import decisions
from conversations.models import Conversation
from tests import factories
from tests.compliance.replay.conftest import became_of, gone, replay, work, write_journal
from tests.functional.company import Company, became, document, settle
from tests.functional.redacting import message_of, redact, talk
from tests.functional.refusing import EXTRACTS, FILES, Refusals
from tests.restoring import Backup, notice, restored

NOW = timezone.now()


def test_conversations_that_others_have_marked_are_erased_and_keep_their_mark(company: Company) -> None:
    """Shared by two chatters who were both erased since. The backup has erased one, and has begun with the other."""
    both, anns, bens = company.talk("c-1", "ann", "ben"), company.talk("c-2", "ann"), company.talk("c-3", "ben")
    before, cats = company.talk("c-4", "cat", "dan", has_file=True), company.talk("c-5", "cat")
    begun = company.talk("c-6", "eve", "fay")
    dans = company.delete("dan")
    work()
    fays = company.delete("fay")
    ComplianceRequest.objects.filter(pk=fays).update(
        status="accepted", started_at=NOW, cutoff_at=NOW, cutoff_number=begun, not_before=NOW + timedelta(days=1)
    )
    Conversation.objects.filter(pk=begun).update(deletion_request_id=fays)
    write_journal()
    deletions = []
    with restored():
        for one in ("ann", "ben", "cat", "eve"):
            deletions.append(company.delete(one))
            work()

    report = replay()

    assert became_of(report) == dict.fromkeys(deletions, "erased")
    assert report["requests"][2]["numbers"] == [cats]
    numbers = [both, anns, bens, before, cats, begun]
    assert gone(*numbers) == [True] * 6
    marks = Conversation.objects.in_bulk(numbers)
    assert [str(marks[one].deletion_request_id) for one in (both, before, begun)] == [deletions[0], dans, fays]
    assert company.status(fays) == "accepted"
    call_command("verify_erasure", "--all")


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


def test_a_deletion_that_is_here_in_whatever_state(company: Company, other: Company) -> None:
    """By a value, and by the platform's ids; whatever the ledger says of it."""
    people = [f"{state}-{kind}" for state, kind, _ in CELLS]
    company.send(*(document(f"c-{who}", who) for who in people), *(document(f"i-{who}", "zoe") for who in people))
    theirs = [other.talk(f"c-{who}", who) for who in people[:2]]
    deletions = [(UUID(company.delete(who)), UUID(company.delete([f"i-{who}"]))) for who in people]
    requests = ComplianceRequest.objects.filter(chatbot=company.chatbot)
    filed = list(requests.order_by("seq").values_list("pk", "seq"))
    backup = Backup()
    of_line = {kind: [one for cell, two in zip(CELLS, deletions, strict=True) if cell[1] == kind for one in two]
               for kind in ("accepted", "intended", "withdrawn", "exact")}  # fmt: skip
    requests.filter(pk__in=of_line["intended"]).update(started_at=NOW)
    for one in of_line["withdrawn"]:
        decisions.cancel(request_id=one, actor="user:7")
    write_journal()
    requests.exclude(pk__in=of_line["exact"]).update(not_before=NOW + timedelta(days=1))
    work()
    backup.restore(state="open")
    for (state, _, _), two in zip(CELLS, deletions, strict=True):
        requests.filter(pk__in=two).update(status=state, **STATES[state])
    notice()

    planned, report = replay("--dry-run", code=3), replay(code=3)

    assert planned["plans"] == report["plans"]
    plans = {UUID(one["request_id"]): one["plan"] for one in report["requests"]}
    found = {one.pk: one for one in requests}
    becomes = {"withdraw": "cancelled", "erase": "completed", "file": "accepted"}
    for who, (state, _, plan), two in zip(people, CELLS, deletions, strict=True):
        assert [plans.get(one, "leave") for one in two] == [plan] * 2, who
        assert {found[one].status for one in two} == {becomes.get(plan, state)}, who
        numbers = Conversation.objects.filter(external_id_digest__in=digests_of(company, f"c-{who}", f"i-{who}"))
        assert gone(*numbers.values_list("pk", flat=True)) == [plan == "erase"] * 2, who
        if plan == "erase":
            erased = {(found[one].origin, found[one].conversations, found[one].uci_value, found[one].error_code)
                      for one in two}  # fmt: skip
            assert erased == {("replay", 1, None, "")}
    assert gone(*theirs) == [False] * 2
    assert list(requests.order_by("seq").values_list("pk", "seq")) == filed
    call_command("verify_erasure", "--all")


def digests_of(company: Company, *ids: str) -> list[bytes]:
    return [digest("conversation", company.chatbot.public_id, each) for each in ids]


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


@pytest.mark.long(reason="a redaction with a file for each state")
def test_a_redaction_that_is_here_in_whatever_state(company: Company) -> None:
    numbers = {state: talk(company, f"c-{state}", "alice") for state in STATES}
    redactions = {state: redact(company, number) for state, number in numbers.items()}
    backup = Backup()
    work()
    backup.restore(state="open")
    for state, redaction in redactions.items():
        ComplianceRequest.objects.filter(pk=redaction).update(status=state, **STATES[state])
    notice()

    report = replay(code=3)

    plans = {one["request_id"]: one["plan"] for one in report["requests"]}
    expected = {state: "conflict" if state in ENDED else "redact" for state in STATES}
    assert {state: plans[redactions[state]] for state in STATES} == expected
    assert {state for state, number in numbers.items() if message_of(number).kind == "redacted"} == set(OPEN)


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


def test_what_was_erased_waits_for_nobody(company: Company, other: Company) -> None:
    """It was approved in its former life, or the chatbot was another then."""
    third = Company(factories.ready_chatbot(slug="third"))
    settings: list[dict[str, Any]] = [
        {"four_eyes": True},
        {"max_conversations_per_deletion": 1},
        {"compliance_enabled": False},
    ]
    companies = (company, other, third)
    numbers = [one.talk(f"c-{place}", "alice") for one in companies for place in (1, 2)]
    bobs = company.talk("c-3", "bob")
    with restored():
        for one in companies:
            one.delete("alice")
        work()
    for one, since in zip(companies, settings, strict=True):
        Chatbot.objects.filter(pk=one.chatbot.pk).update(**since)

    assert replay()["outcomes"] == {"erased": 3}

    assert gone(*numbers, bobs) == [*[True] * 6, False]
    assert set(ComplianceRequest.objects.values_list("status", flat=True)) == {"completed"}


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
