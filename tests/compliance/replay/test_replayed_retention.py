"""A replayed retention run erases what it had erased before the restore, and nothing else."""

from itertools import count

import pytest
from django.utils import timezone

from common.storage import ObjectStorage, errors
from compliance.models import Claim, ComplianceRequest, RetentionRun, Service
from compliance.requests import decisions
from compliance.retention import due, policy
from conversations.models import Identity, Message, UploadedFile
from tests.compliance.replay.conftest import became_of, gone, replay, sweep_and_work, work, write_journal
from tests.compliance.retention.runs import (
    ago,
    begin_now,
    conversation_aged,
    file_run,
    first_run,
    keep_for,
    kill_at_the_second_slice,
    period_of,
    set_period,
)
from tests.functional.company import Company, became, document
from tests.functional.redacting import said
from tests.functional.refusing import FILES, Refusals
from tests.functional.support import everything_in
from tests.patches import after, failing
from tests.restoring import notice, restored
from tests.under_roles import role


def several_old(company: Company, number: int = 6) -> list[int]:
    return [company.talk(f"c-{each}", f"person-{each}", at=ago(91)) for each in range(number)]


def turn_off_after(monkeypatch: pytest.MonkeyPatch, company: Company, slices: int) -> None:
    """Have an officer turn the period off once a run has closed so many more slices."""
    closed = count(1)

    @role("owner")
    def turn_off(*_: object, **__: object) -> None:
        if next(closed) == slices:
            set_period(company.chatbot, None)

    after(monkeypatch, due, "close", turn_off)


@pytest.mark.usefixtures("refused_at_once")
def test_a_run_that_was_turned_off_before_it_erased_anything_erases_nothing(company, monkeypatch) -> None:
    """The ledger could not be written when it began."""
    old = company.talk("c-1", "alice", at=ago(91))
    with restored():
        set_period(company.chatbot, 90, confirmed=1)
        run = first_run(company.chatbot)
        begin_now(run)

        with monkeypatch.context() as patched:
            patched.setattr(ObjectStorage, "put", failing(errors.denied("s3:PutObject")))
            work()
        run.refresh_from_db()
        assert (run.status, run.cutoff_number) == ("failed", old)
        set_period(company.chatbot, None)
        decisions.retry(request_id=run.pk, actor="user:7")
        work()
        run.refresh_from_db()
        assert (run.status, run.conversations, gone(old)) == ("completed", 0, [False])

    planned, report = replay("--dry-run"), replay()
    sweep_and_work()

    assert gone(old) == [False]
    assert planned["conversations"] == report["conversations"] == 0


@pytest.mark.usefixtures("refused_at_once")
def test_a_run_that_failed_half_way_erases_what_it_had_erased(company, monkeypatch) -> None:
    monkeypatch.setattr(due, "SLICE", 2)
    refusals = Refusals()
    refusals.set_up(monkeypatch)
    numbers = several_old(company)
    company.upload(numbers[3], "a picture")
    with restored():
        run = file_run(company.chatbot)
        refusals.locked.add(FILES)
        work()
        run.refresh_from_db()
        assert (run.status, run.error_code) == ("failed", "storage_locked")
        set_period(company.chatbot, None)
        work()
        erased = gone(*numbers)
        assert erased == [True] * 4 + [False] * 2
    refusals.end()

    planned, report = replay("--dry-run"), replay()
    sweep_and_work()

    assert gone(*numbers) == erased
    assert planned["conversations"] == report["conversations"] == 4


def test_a_run_that_the_backup_has_half_way_goes_no_further_than_it_went(company, monkeypatch) -> None:
    monkeypatch.setattr(due, "SLICE", 2)
    numbers = several_old(company)
    run = file_run(company.chatbot)
    kill_at_the_second_slice()
    run.refresh_from_db()
    assert (run.status, gone(*numbers)) == ("processing", [True] * 2 + [False] * 4)
    with restored():
        Claim.objects.update(expires_at=ago(1))
        with monkeypatch.context() as patched:
            turn_off_after(patched, company, slices=1)
            work()
        erased = gone(*numbers)
        assert (company.status(str(run.pk)), erased) == ("completed", [True] * 4 + [False] * 2)

    planned, report = replay("--dry-run"), replay()
    sweep_and_work()

    assert gone(*numbers) == erased
    assert planned["conversations"] == report["conversations"] == 2


def test_what_got_a_message_since_the_backup_or_an_export_that_is_lost_still_needed_stays(company: Company) -> None:
    numbers = several_old(company, 3)
    now = [said("m2", "I am back", sent_at=timezone.now().isoformat())]
    again = document("c-0", "person-0", at=ago(91)) | {"messages": now}
    with restored():
        assert became(company.send(again)) == ["updated"]
        export = company.export("person-1")
        # It is not taken before the run.
        ComplianceRequest.objects.filter(pk=export).update(not_before=ago(-1))
        write_journal()
        run = file_run(company.chatbot)
        work()
        assert gone(*numbers) == [False, False, True]

    report = replay()

    assert became_of(report) == {export: "lost_export", str(run.pk): "erased"}
    assert gone(*numbers) == [False, False, True]
    assert report["conversations"] == 1
    assert became(company.send(again)) == ["updated"]


def test_a_first_run_and_another_of_its_day_are_both_carried_out_again(company: Company, other: Company) -> None:
    """Also where the restored database has filed its own run of that day, of a longer period, before it closed."""
    keep_for(company.chatbot, 365)
    numbers = [company.talk(f"c-{days}", "alice", at=ago(days)) for days in (400, 100, 91, 50)]
    theirs = other.talk("c-1", "alice", at=ago(100))
    with restored(state="open"):
        set_period(company.chatbot, 90, confirmed=2)
        first = first_run(company.chatbot)
        # As if it had been announced days ago, and the third was not due yet.
        RetentionRun.objects.filter(request=first).update(day=timezone.now().date(), older_than=ago(95))
        begin_now(first)
        work()
        assert gone(*numbers) == [True, True, False, False]
        company.chatbot.refresh_from_db()
        second = policy.file_run(company.chatbot, actor="command")
        assert second is not None
        work()
        assert gone(*numbers) == [True, True, True, False]
    own = file_run(company.chatbot, 365)
    notice()
    since = conversation_aged(company.chatbot, 400, "45")

    planned, report = replay("--dry-run"), replay()

    assert {one["request_id"] for one in report["requests"]} == {str(first.pk), str(second.pk)}
    assert planned["requests"] == [one | {"outcome": ""} for one in report["requests"]]
    assert set(report["outcomes"]) == {"erased"}
    assert Service.objects.get().state == "open"
    assert gone(*numbers, theirs, since.pk) == [True, True, True, False, False, False]
    assert not Message.objects.filter(conversation__in=numbers[:3]).exists()
    sweep_and_work()
    assert company.status(str(own.pk)) == "on_hold"


def test_files_of_a_replayed_run_are_gone_whichever_slice_they_are_in(company, storage, monkeypatch) -> None:
    monkeypatch.setattr(due, "SLICE", 2)
    numbers = several_old(company)
    for number in (numbers[0], numbers[4]):
        company.upload(number, "a picture")
    objects = {key: storage.read(key) for key in storage.keys("uploads/")}
    with restored():
        file_run(company.chatbot)
        work()
    for key, content in objects.items():
        storage.put(key, content, content_type="image/png")

    replay()

    assert gone(*numbers) == [True] * 6
    assert not UploadedFile.objects.exists()
    assert not Identity.objects.exists()
    assert "a picture" not in everything_in(storage)


def test_a_first_run_that_was_cancelled_sets_the_period_back(company: Company) -> None:
    old = conversation_aged(company.chatbot, 91)
    set_period(company.chatbot, 90, confirmed=1)
    run = first_run(company.chatbot)
    with restored():
        decisions.cancel(request_id=run.pk, actor="user:7")
        write_journal()
    assert period_of(company.chatbot) == 90

    assert became_of(replay()) == {str(run.pk): "withdrawn"}
    assert period_of(company.chatbot) is None
    assert policy.waiting_first_run(company.chatbot) is None
    assert gone(old.pk) == [False]
