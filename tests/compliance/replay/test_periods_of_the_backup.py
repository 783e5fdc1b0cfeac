"""A retention period that a restore brings back erases nothing until staff confirm it: it may have been ended."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from chatbots.models import Chatbot
from compliance import worker
from compliance.models import Claim, ComplianceRequest, RetentionRun
from compliance.requests import decisions
from compliance.retention import due
from console.requests import labels
from tests.compliance.replay.conftest import gone, replay, work
from tests.compliance.replay.test_replayed_retention import several_old
from tests.compliance.retention.runs import (
    ago,
    begin_now,
    file_run,
    first_run,
    keep_for,
    killed_at_the_second,
    period_of,
    set_period,
    zone_where_it_is,
)
from tests.functional.company import Company
from tests.restoring import restored

pytestmark = pytest.mark.django_db


def waits(company: Company, _monkeypatch: pytest.MonkeyPatch) -> None:
    """The backup has the first run, whose day is over when the service opens again."""
    set_period(company.chatbot, 90, confirmed=6)
    begin_now(first_run(company.chatbot))


def is_held_by_four_eyes(company: Company, _monkeypatch: pytest.MonkeyPatch) -> None:
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)
    waits(company, _monkeypatch)
    work()
    decisions.approve(request_id=first_run(company.chatbot).pk, actor="user:8")


def follows(company: Company, _monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sweep after the replay files the run of the day."""
    keep_for(company.chatbot, 90)


def is_half_way(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    file_run(company.chatbot)
    with monkeypatch.context() as patched:
        patched.setattr(due, "close", killed_at_the_second(due.close))
        with pytest.raises(KeyboardInterrupt):
            worker.drain(seconds=60)
    Claim.objects.update(expires_at=ago(1))


BACKUPS = pytest.mark.parametrize("back_up", [waits, is_held_by_four_eyes, follows, is_half_way])


@pytest.fixture(autouse=True)
def in_small_slices_at_noon(company: Company, other: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "SLICE", 2)
    Chatbot.objects.update(timezone=zone_where_it_is(hour=12))


def held_run(company: Company) -> ComplianceRequest:
    run = ComplianceRequest.objects.get(chatbot=company.chatbot, kind="retention", status="on_hold")
    assert run.hold_reason == "restored"
    return run


def next_day(company: Company) -> None:
    for run in RetentionRun.objects.filter(chatbot=company.chatbot).order_by("day"):
        run.day -= timedelta(days=2)
        run.save(update_fields=["day"])


@BACKUPS
@pytest.mark.parametrize("days", [None, 365])
def test_what_was_decided_since_is_decided_again_before_anything_is_erased(
    company: Company, monkeypatch: pytest.MonkeyPatch, back_up: Callable[..., None], days: int | None
) -> None:
    numbers = several_old(company)
    back_up(company, monkeypatch)
    erased = gone(*numbers)
    with restored():
        set_period(company.chatbot, days, confirmed=0)

    replay()
    work()
    next_day(company)
    work()

    assert gone(*numbers) == erased
    run = held_run(company)
    set_period(company.chatbot, days, confirmed=0)
    work()
    assert (company.status(str(run.pk)), period_of(company.chatbot)) == ("cancelled", days)
    assert gone(*numbers) == erased


@BACKUPS
def test_one_approval_confirms_the_period(
    company: Company, other: Company, monkeypatch: pytest.MonkeyPatch, back_up: Callable[..., None]
) -> None:
    numbers = several_old(company)
    theirs = several_old(other, 1)
    back_up(company, monkeypatch)
    keep_for(other.chatbot, 90)
    with restored():
        pass
    replay()
    work()
    next_day(company)
    work()

    decisions.approve(request_id=held_run(company).pk, actor="user:9")
    work()

    assert gone(*numbers) == [True] * 6
    old = company.talk("c-later", "alice", at=ago(95))
    next_day(company)
    work()
    assert gone(old, *theirs) == [True, False]
    held_run(other)


def test_rejecting_the_run_of_a_day_holds_the_next_one_too(company: Company) -> None:
    [old] = several_old(company, 1)
    keep_for(company.chatbot, 90)
    with restored():
        pass
    replay()
    work()
    decisions.reject(request_id=held_run(company).pk, actor="user:9")
    next_day(company)

    work()

    assert held_run(company)
    assert gone(old) == [False]


def test_a_period_that_is_set_after_the_restore_needs_nobody_else(company: Company) -> None:
    old, young = (company.talk(f"c-{days}", "alice", at=ago(days)) for days in (400, 100))
    keep_for(company.chatbot, 90)
    with restored():
        pass
    replay()
    set_period(company.chatbot, 365)

    work()

    assert gone(old, young) == [True, False]


def test_a_failover_holds_nothing(company: Company) -> None:
    [old] = several_old(company, 1)
    keep_for(company.chatbot, 90)
    with restored(state="catching_up"):
        pass
    replay()

    work()

    assert gone(old) == [True]


def test_the_run_says_what_to_do(company: Company) -> None:
    several_old(company, 1)
    keep_for(company.chatbot, 90)
    with restored():
        pass
    replay()
    work()

    said = labels.what_next(held_run(company))

    assert "set it again in the settings of the chatbot: this cancels the run" in said
    assert "sets the retention period back" not in said
