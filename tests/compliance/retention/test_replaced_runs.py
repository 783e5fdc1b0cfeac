"""Runs of a period that was set anew meanwhile, while a worker has them or after they have failed."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db.models import F

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import extracts
from compliance.models import Claim, ComplianceRequest, RetentionRun
from compliance.requests import decisions
from compliance.retention import due, engine, policy
from conversations import machines
from tests import factories
from tests.compliance.retention.runs import (
    ago,
    begin_now,
    conversation_aged,
    deleted,
    file_run,
    first_run,
    keep_for,
    period_of,
    set_period,
    zone_where_it_is,
)
from tests.functional.refusing import FILES, Refusals
from tests.places import Shards, Silence
from tests.under_roles import role

pytestmark = pytest.mark.django_db(transaction=True)


def nights(chatbot: Chatbot, number: int = 3) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(timezone=zone_where_it_is(hour=12))
    for _ in range(number):
        RetentionRun.objects.update(day=F("day") - timedelta(days=2))
        ComplianceRequest.objects.update(failed_at=F("failed_at") - timedelta(days=2))
        worker.sweep()
        worker.drain(seconds=60)


def killed_as_it_begins(request: ComplianceRequest) -> ComplianceRequest:
    """Its claim lasts, so that no change of the period cancels it."""

    def kill(*_args: Any) -> None:
        raise KeyboardInterrupt

    begin_now(request)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_reason_to_hold", kill)
        with pytest.raises(KeyboardInterrupt):
            worker.drain(seconds=60)
    return request


def test_a_first_period_after_none_is_announced_though_a_first_run_is_claimed(chatbot: Chatbot) -> None:
    keep_for(chatbot, 365)
    old = conversation_aged(chatbot, 800)
    set_period(chatbot, 90, confirmed=1)
    killed_as_it_begins(first_run(chatbot))
    set_period(chatbot, None)

    with pytest.raises(ValidationError, match="Type the number"):
        set_period(chatbot, 730)

    Claim.objects.update(expires_at=ago(1))
    nights(chatbot)
    assert deleted(old) == [False]


def test_cancelling_a_replaced_first_run_sets_nothing_back(chatbot: Chatbot) -> None:
    keep_for(chatbot, 365)
    old = conversation_aged(chatbot, 400)
    set_period(chatbot, 90, confirmed=1)
    replaced = killed_as_it_begins(first_run(chatbot))
    set_period(chatbot, None)
    set_period(chatbot, 90, confirmed=1)
    second = first_run(chatbot)
    assert second != replaced
    Claim.objects.update(expires_at=ago(1))
    worker.sweep()

    decisions.cancel(request_id=replaced.pk, actor="user:7")

    assert period_of(chatbot) == 90
    nights(chatbot)
    assert deleted(old) == [False]


def test_a_replaced_first_run_that_fails_does_not_stop_the_period_in_force(
    chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_for(chatbot, 365)
    old = conversation_aged(chatbot, 400)
    set_period(chatbot, 90, confirmed=1)
    run = first_run(chatbot)
    begin_now(run)
    change = role("owner")(lambda: set_period(chatbot, 365))

    def fail(*_args: Any, **_options: Any) -> None:
        change()
        raise RuntimeError("cannot be counted")

    with monkeypatch.context() as patch:
        patch.setattr(due, "count", fail)
        for _ in range(6):
            worker.drain(seconds=60)
            ComplianceRequest.objects.filter(pk=run.pk, status="accepted").update(not_before=None)

    nights(chatbot)

    assert deleted(old) == [True]


@pytest.mark.usefixtures("refused_at_once")
@pytest.mark.parametrize("now_is", ["off", "on hold", "another's turn"])
def test_what_a_failed_run_has_closed_is_erased_whatever_the_period_is_now(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, now_is: str
) -> None:
    refusals = Refusals()
    refusals.set_up(monkeypatch)
    conversation = conversation_aged(chatbot, 400)
    file = factories.UploadedFileFactory.create(conversation=conversation, stored=True)
    storage.put(file.object_key, b"picture", "image/png")
    refusals.locked.add(FILES)
    failed = file_run(chatbot, 365)
    worker.drain(seconds=60)
    refusals.end()
    if now_is == "off":
        set_period(chatbot, None)
    elif now_is == "on hold":
        Chatbot.objects.update(four_eyes=True)
        set_period(chatbot, 90, confirmed=0)
        begin_now(first_run(chatbot))
    worker.sweep()
    assert ComplianceRequest.objects.get(pk=failed.pk).status == "failed", "It was tried again before the next night."

    nights(chatbot, 1)

    failed.refresh_from_db()
    assert (failed.status, deleted(conversation)) == ("completed", [True])
    assert file.object_key not in list(storage.keys(FILES))


def test_a_clock_that_is_set_back_ends_no_first_run(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    old = conversation_aged(chatbot, 400)
    now = policy._now
    with monkeypatch.context() as patch:
        patch.setattr(policy, "_now", lambda: now() + timedelta(milliseconds=500))
        set_period(chatbot, 90, confirmed=1)
    request = first_run(chatbot)
    begin_now(request)

    worker.drain(seconds=60)

    assert deleted(old) == [True]


def test_a_failed_retention_run_of_a_silent_machine_stops_no_other_chatbots_night(
    shards: Shards, silence: Silence, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = factories.ready_chatbot(slug="here"), factories.ready_chatbot(slug="there")
    shards([here], [there])
    Chatbot.objects.update(timezone=zone_where_it_is(hour=12))
    for each in (here, there):
        each.refresh_from_db()
    old, _ = conversation_aged(here, 400), conversation_aged(there, 400)
    failed = file_run(there, 90)
    ComplianceRequest.objects.filter(pk=failed.pk).update(
        status="failed", failed_at=ago(2), cutoff_at=ago(2), cutoff_number=1, slice=[], error_code="x"
    )
    keep_for(here, 90)
    silence(1)
    machines.look_if_due()
    tried: list[Any] = []
    monkeypatch.setattr(extracts, "try_again", tried.append)  # reads the run's scope
    worker.sweep()
    assert not worker.drain(seconds=60)
    assert deleted(old) == [True]
    assert not tried
