"""A period that is changed while a run of it waits or is under way."""

from itertools import count

import pytest
from django.core.exceptions import ValidationError

from chatbots.models import Chatbot
from compliance import worker
from compliance.models import Claim, ComplianceRequest, RetentionRun
from compliance.requests import decisions
from compliance.retention import due, policy
from compliance.work import claims
from console.requests.labels import next_step
from tests.compliance.retention.runs import (
    ago,
    begin_now,
    conversation_aged,
    deleted,
    file_run,
    first_run,
    keep_for,
    kill_at_the_second_slice,
    period_of,
    run_of,
    set_period,
    zone_where_it_is,
)
from tests.factories import as_bytes
from tests.ledger import lines_of
from tests.patches import after
from tests.under_roles import role

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status


@pytest.mark.parametrize(("before", "wanted"), [(None, 365), (730, 365), (1095, 180)])
def test_a_period_that_is_longer_than_one_that_waits_is_announced_too(chatbot, before, wanted) -> None:
    """What has not erased anything yet is no period that another one could be longer than."""
    keep_for(chatbot, before)
    set_period(chatbot, 90, confirmed=7)
    with pytest.raises(ValidationError, match="Type the number"):
        set_period(chatbot, wanted)
    assert period_of(chatbot) == 90

    set_period(chatbot, wanted, confirmed=3)

    run = run_of(first_run(chatbot))
    assert (run.retention_days, run.announced, run.previous_days) == (wanted, 3, before)
    assert ComplianceRequest.objects.filter(status=Status.ACCEPTED).count() == 1


@pytest.mark.parametrize("wanted", [None, 365, 730])
def test_back_to_the_period_before_or_a_longer_one_or_none_needs_no_number(chatbot, wanted) -> None:
    keep_for(chatbot, 365)
    set_period(chatbot, 90, confirmed=7)
    request = first_run(chatbot)

    set_period(chatbot, wanted)

    request.refresh_from_db()
    assert request.status == Status.CANCELLED
    assert (period_of(chatbot), policy.waiting_first_run(chatbot)) == (wanted, None)


def test_a_run_under_way_ends_when_its_period_no_longer_holds(chatbot, drain, storage, monkeypatch) -> None:
    monkeypatch.setattr(due, "SLICE", 2)
    conversations = [conversation_aged(chatbot, 91, str(number)) for number in range(6)]
    request = file_run(chatbot)
    slices = count(1)

    @role("owner")
    def change_after_the_second(*_: object, **__: object) -> None:
        if next(slices) == 2:
            Chatbot.objects.filter(pk=chatbot.pk).update(retention_days=180)

    after(monkeypatch, due, "close", change_after_the_second)
    drain()

    assert deleted(*conversations) == [True] * 4 + [False] * 2
    request.refresh_from_db()
    assert (request.status, request.conversations, request.conversations_total) == (Status.COMPLETED, 4, 4)
    assert "ended early" in next_step(request)
    named = [digest for line in lines_of(storage) for digest in line["conversations"]]
    assert named == [as_bytes(one.external_id_digest).hex() for one in conversations[:4]]


def test_a_run_that_failed_ends_where_its_period_was_turned_off_and_on_again(chatbot, drain, monkeypatch) -> None:
    """What is announced for tomorrow is not erased today, by a run that is retried."""
    monkeypatch.setattr(due, "SLICE", 2)
    conversations = [conversation_aged(chatbot, 91, str(number)) for number in range(4)]
    set_period(chatbot, 90, confirmed=4)
    request = first_run(chatbot)
    begin_now(request)
    kill_at_the_second_slice()
    assert deleted(*conversations) == [True] * 2 + [False] * 2
    Claim.objects.all().delete()
    ComplianceRequest.objects.filter(pk=request.pk).update(
        status=Status.FAILED, claim=None, failed_at=ago(0), error_code="storage_locked", error_detail="Locked."
    )

    set_period(chatbot, None)
    set_period(chatbot, 90, confirmed=2)
    decisions.retry(request_id=request.pk, actor="user:7")
    drain()

    assert deleted(*conversations) == [True] * 2 + [False] * 2
    request.refresh_from_db()
    assert request.status == Status.COMPLETED
    begin_now(first_run(chatbot))
    drain()
    assert deleted(*conversations) == [True] * 4


def test_a_first_run_that_is_claimed_as_its_period_is_turned_off_erases_nothing(chatbot, drain) -> None:
    old = conversation_aged(chatbot, 91)
    set_period(chatbot, 90, confirmed=1)
    request = first_run(chatbot)
    begin_now(request)
    held = claims.take(Kind.RETENTION, ComplianceRequest.Lane.LARGE)
    assert held is not None

    set_period(chatbot, None)
    held.release()
    drain()

    request.refresh_from_db()
    assert (deleted(old), request.status in {Status.COMPLETED, Status.CANCELLED}) == ([False], True)


def test_nothing_is_filed_while_a_first_run_has_failed_before_it_began(chatbot: Chatbot) -> None:
    """The next night would erase what the first run has not compared with its number."""
    conversation_aged(chatbot, 91)
    set_period(chatbot, 90, confirmed=0)
    request = first_run(chatbot)
    ComplianceRequest.objects.filter(pk=request.pk).update(
        status=Status.FAILED, failed_at=request.received_at, error_code="worker_lost"
    )
    RetentionRun.objects.update(day=ago(1).date())
    Chatbot.objects.update(timezone=zone_where_it_is(hour=12))
    chatbot.refresh_from_db()

    with pytest.raises(policy.NotFiled):
        policy.file_run(chatbot, actor="command")
    worker.sweep()

    assert ComplianceRequest.objects.count() == 1
    set_period(chatbot, None)
    request.refresh_from_db()
    assert request.status == Status.CANCELLED
