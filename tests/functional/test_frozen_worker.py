"""A frozen process that holds locks delays no more than what it has locked.

Frozen is a transaction that holds the row of a conversation, like that of a worker or an intake that was stopped in
the middle. Work waits for its locks without losing an attempt; all other work continues.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from chatbots.models import Chatbot
from compliance import worker
from compliance.models import ComplianceRequest
from conversations.models import Conversation
from tests.functional.company import Company, attempts, became, document, is_erased, let_time_pass, settle, work
from tests.functional.elsewhere import Elsewhere, uncommitted
from tests.functional.refusing import FILES

# About a second is promised; the machine may have other things to do.
SOON = 3.0
_ROUNDS = 2


@contextmanager
def frozen(number: int) -> Iterator[None]:
    """Lock the row of a conversation in a transaction that does not continue."""

    def hold() -> None:
        chatbot = Conversation.objects.get(pk=number).chatbot_id
        Conversation.objects.select_for_update().get(pk=number, chatbot=chatbot)

    with uncommitted(hold):
        yield


def comes_true(what: Callable[[], bool], *, seconds: float) -> bool:
    """Wait until a condition holds, up to a time; return whether it does."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def wait_until_blocked() -> None:
    """Wait until a statement waits for a lock, or a request was put back for it. It is fine if none does."""
    comes_true(_is_any_waiting, seconds=0.5)


def _is_any_waiting() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock')"
            " OR EXISTS (SELECT FROM compliance_compliancerequest WHERE waiting_for = 'rows')"
        )
        return bool(cursor.fetchone()[0])


def working() -> Elsewhere:
    """Run a worker, and run it again when the waits of requeued requests are over."""

    def rounds() -> None:
        for _ in range(_ROUNDS):
            work()
            time.sleep(0.2)

    return Elsewhere(rounds)


@pytest.mark.long(reason="also after the mark", beyond=1)
@pytest.mark.parametrize("is_marked", [False, True], ids=["open", "marked"])
def test_intake_goes_on_while_a_deletion_waits_for_a_row(company, refusals, is_marked) -> None:
    number = company.talk("c-both", "alice", "bob", has_file=is_marked)
    company.talk("c-other", "carol")
    if is_marked:
        refusals.locked.add(FILES)
        company.delete("alice")
        work()
        refusals.end()
    deletion = company.delete("bob")
    with frozen(number):
        claim = working()
        wait_until_blocked()
        intake = Elsewhere(
            lambda: company.send(document("c-other", "carol", language="en"), document("c-new", "dave"))
        )
        is_stored_soon = intake.ends_within(SOON)
    assert became(intake.end()) == ["updated", "created"]
    claim.end()
    assert is_stored_soon

    settle()
    assert (company.status(deletion), attempts(deletion)) == ("completed", [0])
    assert is_erased(number)


def test_other_deletions_of_the_claim_go_on_while_one_waits_for_a_row(company: Company) -> None:
    number = company.talk("c-both", "alice", "bob")
    company.talk("c-carol", "carol")
    held, other = company.delete("alice"), company.delete("carol")
    with frozen(number):
        claim = working()
        is_done = comes_true(lambda: company.status(other) == "completed", seconds=8)
    claim.end()
    assert is_done

    settle()
    assert [company.status(each) for each in (held, other)] == ["completed", "completed"]
    assert attempts(held, other) == [0, 0]


@pytest.mark.long(reason="a lock is held for seconds")
@pytest.mark.parametrize("slow", [0, 1], ids=["first", "second"])
def test_a_slow_intake_of_one_chatbot_delays_no_other(company: Company, neighbour: Chatbot, slow: int) -> None:
    """One claim has deletions of both; an intake of one waits in the middle of its transaction, with its lock."""
    companies = sorted([company, Company(neighbour)], key=lambda one: one.chatbot.pk)
    stuck, free = companies[slow], companies[1 - slow]
    for one in companies:
        one.talk("c-1", "alice")
    number = stuck.talk("c-held", "carol")
    deletions = {one: one.delete("alice") for one in companies}
    with frozen(number):
        slow_intake = Elsewhere(lambda: stuck.send(document("c-held", "carol", language="en")))
        assert slow_intake.waits
        claim = working()
        comes_true(lambda: free.status(deletions[free]) == "completed", seconds=1.0)
        intake = Elsewhere(lambda: free.send(document("c-2", "bob")))
        is_stored_soon = intake.ends_within(SOON)
        is_erased_soon = comes_true(lambda: free.status(deletions[free]) == "completed", seconds=SOON)
        status_of_stuck = stuck.status(deletions[stuck])
    for each in (slow_intake, intake, claim):
        each.end()
    assert (is_stored_soon, is_erased_soon) == (True, True)
    assert status_of_stuck != "completed"

    settle()
    assert [one.status(deletions[one]) for one in companies] == ["completed", "completed"]
    assert attempts(*deletions.values()) == [0, 0]


@pytest.mark.long(reason="a row is locked for seconds")
def test_intake_and_a_continued_deletion_do_not_block_each_other(company, refusals, caplog) -> None:
    """Intake has its lock and waits for a row. The claim has the row that intake needs next, and needs the lock."""
    number = company.talk("c-held", "dave")
    company.talk("c-both", "alice", "bob", has_file=True)
    company.talk("c-carol", "carol")
    # Alice's deletion has started; the conversation has the mark of Bob's, which fails after that.
    refusals.busy.add(FILES)
    bobs, alices = company.delete("bob"), company.delete("alice")
    worker.drain(seconds=30)
    refusals.locked.add(FILES)
    ComplianceRequest.objects.filter(pk=bobs).update(not_before=None)
    worker.drain(seconds=30)
    assert company.failure(bobs) == "storage_locked"
    refusals.end()
    carols = company.delete("carol")
    before = attempts(alices, carols)
    caplog.clear()

    let_time_pass()
    with frozen(number):
        intake = Elsewhere(
            lambda: company.send(document("c-held", "dave", language="en"), document("c-both", "alice"))
        )
        assert intake.waits
        claim = working()
        wait_until_blocked()
        claim.ends_within(0.5)
    results = intake.end()
    claim.end()

    assert became(results) == ["updated", "conversation_deleted"]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    settle()
    assert [company.status(each) for each in (alices, carols)] == ["completed", "completed"]
    assert attempts(alices, carols) == before
