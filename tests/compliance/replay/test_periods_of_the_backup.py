"""A retention period that a restore brings back erases nothing until staff confirm it: it may have been ended."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.management import call_command

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.models import Claim, ComplianceRequest, RetentionRun
from compliance.requests import decisions
from compliance.retention import due, engine
from console.requests import labels
from tests.compliance.replay.conftest import gone, replay, sweep_and_work, work
from tests.compliance.replay.test_replayed_retention import several_old
from tests.compliance.retention.runs import (
    ago,
    begin_now,
    file_run,
    first_run,
    keep_for,
    kill_at_the_second_slice,
    period_of,
    run_of,
    set_period,
    zone_where_it_is,
)
from tests.factories import ready_chatbot
from tests.functional.company import Company
from tests.patches import after
from tests.people import Role, client_of, staff
from tests.restoring import restored
from tests.under_roles import role


def waits(company: Company) -> None:
    """The backup has the first run, whose day is over when the service opens again."""
    set_period(company.chatbot, 90, confirmed=3)
    begin_now(first_run(company.chatbot))


def is_held_by_four_eyes(company: Company) -> None:
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)
    waits(company)
    work()


def follows(company: Company) -> None:
    """The first sweep after the replay files the run of the day."""
    keep_for(company.chatbot, 90)


def is_half_way(company: Company) -> None:
    """Its worker has died, which is noticed later."""
    file_run(company.chatbot)
    kill_at_the_second_slice()


def companies(*back_up: Callable[[Company], None]) -> list[tuple[Company, list[int]]]:
    """Return a company for each, with old conversations of it, as the backup has them."""
    made = []
    for each in back_up:
        company = Company(ready_chatbot(slug=each.__name__.replace("_", "-"), timezone=zone_where_it_is(hour=12)))
        made.append((company, several_old(company, 3)))
        each(company)
    Claim.objects.update(expires_at=ago(1))
    return made


@pytest.fixture(autouse=True)
def in_small_slices_at_noon(company: Company, other: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "SLICE", 2)
    Chatbot.objects.update(timezone=zone_where_it_is(hour=12))


def held_run(company: Company) -> ComplianceRequest:
    run = ComplianceRequest.objects.get(chatbot=company.chatbot, kind="retention", status="on_hold")
    assert run.hold_reason == "restored"
    return run


def come_back() -> None:
    """Restore what is there, and let workers do all that they do then."""
    with restored():
        pass
    replay()
    sweep_and_work()


def next_day(company: Company) -> None:
    for run in RetentionRun.objects.filter(chatbot=company.chatbot).order_by("day"):
        run.day -= timedelta(days=2)
        run.save(update_fields=["day"])


def test_what_was_decided_since_is_decided_again_before_anything_is_erased(storage: ObjectStorage) -> None:
    made = companies(is_held_by_four_eyes, is_half_way, waits, follows)
    decisions.approve(request_id=first_run(made[0][0].chatbot).pk, actor="user:8")
    erased = [gone(*numbers) for _, numbers in made]
    days = (365, None, None, 365)
    with restored():
        for (company, _), each in zip(made, days, strict=True):
            set_period(company.chatbot, each, confirmed=0)

    replay()
    sweep_and_work()
    for company, _ in made:
        next_day(company)
    sweep_and_work()

    assert [gone(*numbers) for _, numbers in made] == erased
    for (company, _), each in zip(made, days, strict=True):
        run = held_run(company)
        set_period(company.chatbot, each, confirmed=0)
        assert (company.status(str(run.pk)), period_of(company.chatbot)) == ("cancelled", each)
    sweep_and_work()
    assert [gone(*numbers) for _, numbers in made] == erased


def test_one_approval_confirms_the_period(other: Company) -> None:
    theirs = several_old(other, 1)
    made = companies(is_half_way, waits)
    keep_for(other.chatbot, 90)
    come_back()
    for company, _ in made:
        next_day(company)
    sweep_and_work()

    for company, _ in made:
        call_command("approve_request", str(held_run(company).pk))
    work()

    assert [gone(*numbers) for _, numbers in made] == [[True] * 3] * 2
    old = [company.talk("c-later", "alice", at=ago(95)) for company, _ in made]
    for company, _ in made:
        next_day(company)
    sweep_and_work()
    assert gone(*old, *theirs) == [True, True, False]
    held_run(other)


def test_rejecting_the_run_of_a_day_holds_the_next_one_too(company: Company) -> None:
    [old] = several_old(company, 1)
    keep_for(company.chatbot, 90)
    come_back()
    said = labels.next_step(held_run(company))
    assert "set it again in the settings of the chatbot: this cancels the run" in said
    assert "sets the retention period back" not in said
    decisions.reject(request_id=held_run(company).pk, actor="user:9", reason="other")
    next_day(company)

    sweep_and_work()

    assert held_run(company)
    assert gone(old) == [False]


def test_a_period_that_is_set_after_the_restore_is_announced_and_needs_nobody_else(company: Company) -> None:
    """Also the same one. None of the backup is in force that it could be longer than."""
    old = company.talk("c-1", "alice", at=ago(400))
    keep_for(company.chatbot, 90)
    come_back()
    run = held_run(company)
    officer = client_of(staff(company.chatbot, Role.OFFICER))
    for days in ("90", "365"):
        page = officer.post(f"/admin/settings/{company.chatbot.slug}/retention/", {"days": days})
        assert "Nothing has been saved yet" in page.content.decode()

    set_period(company.chatbot, 365, confirmed=1)

    assert company.status(str(run.pk)) == "cancelled"
    begin_now(first_run(company.chatbot))
    work()
    assert gone(old) == [True]


def test_no_decision_brings_back_a_period_of_the_backup(company: Company, other: Company) -> None:
    """Neither the one that was ended since, nor one that the backup itself had replaced."""
    third = Company(ready_chatbot(slug="third", timezone=zone_where_it_is(hour=12)))
    companies = (company, other, third)
    old = [one.talk("c-1", "alice", at=ago(400)) for one in companies]
    for one in companies:
        keep_for(one.chatbot, 365)
    for one in (other, third):
        set_period(one.chatbot, 90, confirmed=1)
        begin_now(first_run(one.chatbot))
    with restored():
        for one in companies:
            set_period(one.chatbot, None)
    replay()
    set_period(company.chatbot, 90, confirmed=1)
    work()

    decisions.cancel(request_id=first_run(company.chatbot).pk, actor="user:7")
    approved, rejected = held_run(other), held_run(third)
    decisions.approve(request_id=approved.pk, actor="user:9")
    decisions.cancel(request_id=approved.pk, actor="user:9")
    decisions.reject(request_id=rejected.pk, actor="user:9", reason="other")
    for one in companies:
        next_day(one)
    sweep_and_work()

    assert period_of(company.chatbot) is None
    assert gone(*old) == [False] * 3


def test_the_restore_is_asked_about_by_itself(company: Company, other: Company) -> None:
    """An approval of what else a first run is held for says nothing of the period, and the reverse."""
    Chatbot.objects.update(four_eyes=True)
    companies = (company, other)
    for one in companies:
        one.talk("c-1", "alice", at=ago(100))
        set_period(one.chatbot, 90, confirmed=1)
    held_before, run = (first_run(one.chatbot) for one in companies)
    begin_now(held_before)
    work()
    begin_now(run)
    come_back()
    reasons: dict[ComplianceRequest, list[str]] = {held_before: [], run: []}
    for at in range(3):
        for one, each in zip(companies, reasons, strict=True):
            each.refresh_from_db()
            reasons[each].append(str(each.hold_reason))
            one.talk(f"c-of-{at}", "bob", at=ago(100))
            decisions.approve(request_id=each.pk, actor="user:9", held_for=each.hold_reason)
        work()

    assert reasons == {
        held_before: ["awaiting_approval", "restored", "too_many_conversations"],
        run: ["restored", "too_many_conversations", "awaiting_approval"],
    }
    assert {one.status(str(each.pk)) for one, each in zip(companies, reasons, strict=True)} == {"completed"}


def test_a_run_is_not_held_for_a_period_that_was_set_meanwhile(company, monkeypatch) -> None:
    """It would keep others from being filed, and no setting would cancel it."""
    old = company.talk("c-1", "alice", at=ago(400))
    keep_for(company.chatbot, 90)
    with restored():
        pass
    replay()
    change = role("owner")(lambda: set_period(company.chatbot, 365, confirmed=1))

    def change_after(request: ComplianceRequest) -> None:
        if run_of(request).announced is None:
            change()

    after(monkeypatch, engine, "_reason_to_hold", change_after)
    sweep_and_work()

    assert not ComplianceRequest.objects.filter(status="on_hold").exists()
    assert gone(old) == [False]
    begin_now(first_run(company.chatbot))
    work()
    assert gone(old) == [True]


def test_a_failover_holds_nothing(company: Company) -> None:
    [old] = several_old(company, 1)
    keep_for(company.chatbot, 90)
    with restored(state="catching_up"):
        pass
    replay()

    sweep_and_work()

    assert gone(old) == [True]


def test_the_console_does_not_promise_a_first_run_that_will_be_held(company: Company) -> None:
    keep_for(company.chatbot, 365)
    set_period(company.chatbot, 90, confirmed=0)
    with restored():
        pass
    replay()
    work()
    officer = client_of(staff(company.chatbot, Role.OFFICER))
    page = officer.get(f"/admin/settings/{company.chatbot.slug}/retention/").content.decode()
    assert "It deletes nothing until an officer confirms it" in page
    assert "The first run will be held" in page
    assert "until an officer confirms the period" in labels.next_step(first_run(company.chatbot))
