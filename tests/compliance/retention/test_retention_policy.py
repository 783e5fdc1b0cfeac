"""The period of a chatbot, the announced first run, and the run of each night."""

import struct
import zoneinfo
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from compliance import worker
from compliance.errors import Refused
from compliance.metrics.queries import chatbot_stats
from compliance.models import ComplianceRequest, RetentionRun
from compliance.requests import decisions
from compliance.retention import due, engine, policy
from console.requests.labels import next_step
from tests.calls import ALICE, TokenCaller
from tests.commands import report
from tests.compliance.conftest import Drain
from tests.compliance.retention.runs import (
    ago,
    begin_now,
    conversation_aged,
    deleted,
    file_run,
    first_run,
    keep_for,
    period_of,
    run_of,
    set_period,
    zone_where_it_is,
)

Status = ComplianceRequest.Status
Hold = ComplianceRequest.HoldReason


def test_the_forecast_counts_the_first_run_and_the_month_after_it(chatbot: Chatbot, neighbour: Chatbot) -> None:
    for days in (400, 89.5, 80, 61, 50, 1):
        conversation_aged(chatbot, days)
    conversation_aged(neighbour, 400)

    found = policy.forecast(chatbot, 90)

    assert found == policy.Forecast(first_run=2, later=2, is_whole=True), "It runs tomorrow, and a month later."


def test_the_first_run_waits_a_day_and_then_erases(chatbot: Chatbot, drain: Drain) -> None:
    old, young = conversation_aged(chatbot, 91), conversation_aged(chatbot, 80)
    with pytest.raises(ValidationError, match="Type the number"):
        set_period(chatbot, 90)
    assert period_of(chatbot) is None

    set_period(chatbot, 90, confirmed=1)
    request = first_run(chatbot)
    drain()
    worker.sweep()

    request.refresh_from_db()
    assert (request.status, request.filed_by, request.hold_reason) == (Status.ACCEPTED, "user:7", None)
    assert timedelta(hours=23) < (request.not_before or ago(0)) - timezone.now() <= timedelta(hours=24)
    assert ComplianceRequest.objects.count() == 1, "No other run is filed meanwhile."
    begin_now(request)
    drain()
    assert deleted(old, young) == [True, False]
    logged = ChangeLogEntry.objects.filter(event="chatbot.changed").values_list("data", flat=True)
    assert list(logged) == [{"setting": "retention_days", "value": 90}]


def test_a_second_change_takes_the_place_of_the_first_and_cancelling_it_sets_the_period_back(chatbot, drain) -> None:
    old = conversation_aged(chatbot, 400)
    keep_for(chatbot, 1095)
    set_period(chatbot, 365, confirmed=1)
    typed_wrong = first_run(chatbot)

    set_period(chatbot, 90, confirmed=1)

    typed_wrong.refresh_from_db()
    assert typed_wrong.status == Status.CANCELLED
    assert period_of(chatbot) == 90
    decisions.cancel(request_id=first_run(chatbot).pk, actor="user:8")
    assert period_of(chatbot) == 1095, "365 days never erased anything."
    assert policy.waiting_first_run(chatbot) is None
    drain()
    assert deleted(old) == [False]


@pytest.mark.parametrize(("stored", "is_held"), [(11, False), (12, True)])
def test_a_first_run_over_a_tenth_more_than_confirmed_is_held(chatbot, drain, stored, *, is_held) -> None:
    set_period(chatbot, 90, confirmed=10)
    for _ in range(stored):
        conversation_aged(chatbot, 91, messages=0)
    request = first_run(chatbot)
    begin_now(request)

    drain()

    request.refresh_from_db()
    if not is_held:
        assert (request.status, request.conversations) == (Status.COMPLETED, stored)
        return
    assert (request.status, request.hold_reason) == (Status.ON_HOLD, Hold.TOO_MANY_CONVERSATIONS)
    decisions.approve(request_id=request.pk, actor="user:8")
    drain()
    request.refresh_from_db()
    assert (request.status, request.conversations) == (Status.COMPLETED, stored)


def test_a_first_run_that_cannot_be_counted_in_time_is_held(chatbot, drain, monkeypatch) -> None:
    monkeypatch.setattr(due, "SLICE", 1)
    monkeypatch.setattr(engine, "_COUNT_SECONDS", 0.0)
    set_period(chatbot, 90, confirmed=100)
    for _ in range(21):
        conversation_aged(chatbot, 91, messages=0)
    request = first_run(chatbot)
    begin_now(request)

    drain()

    request.refresh_from_db()
    assert (request.status, request.hold_reason) == (Status.ON_HOLD, Hold.TOO_MANY_CONVERSATIONS)


def test_with_four_eyes_a_second_person_approves_the_first_run(chatbot: Chatbot, drain: Drain) -> None:
    """An officer alone cannot erase one person's conversations there, nor all of them."""
    Chatbot.objects.update(four_eyes=True)
    old = conversation_aged(chatbot, 91)
    set_period(chatbot, 90, confirmed=1)
    request = first_run(chatbot)
    begin_now(request)
    drain()

    request.refresh_from_db()
    assert (request.status, request.hold_reason) == (Status.ON_HOLD, Hold.AWAITING_APPROVAL)
    assert "the approval of a second person" in next_step(request)
    with pytest.raises(Refused, match="a person other"):
        decisions.approve(request_id=request.pk, actor="user:7")
    assert deleted(old) == [False]
    decisions.approve(request_id=request.pk, actor="user:8")
    drain()
    assert deleted(old) == [True]

    # The runs of an approved period need no approval.
    next_one = conversation_aged(chatbot, 91)
    assert policy.file_run(Chatbot.objects.get(pk=chatbot.pk), actor="command")
    drain()
    assert deleted(next_one) == [True]


def test_rejecting_a_held_first_run_sets_the_period_back(chatbot: Chatbot, drain: Drain) -> None:
    set_period(chatbot, 90, confirmed=0)
    old = conversation_aged(chatbot, 91)
    request = first_run(chatbot)
    begin_now(request)
    drain()

    decisions.reject(request_id=request.pk, actor="user:8", reason="other")

    assert (period_of(chatbot), deleted(old)) == (None, [False])


def test_each_night_has_one_run(chatbot: Chatbot, neighbour: Chatbot, drain: Drain) -> None:
    keep_for(chatbot, 90)
    keep_for(neighbour, 90)
    old = conversation_aged(chatbot, 91)
    young = conversation_aged(neighbour, 89)
    # Before three o'clock.
    Chatbot.objects.update(timezone=zone_where_it_is(hour=1))
    worker.sweep()
    assert not RetentionRun.objects.exists()
    Chatbot.objects.update(timezone=zone_where_it_is(hour=12))

    for _ in range(2):
        worker.sweep()
        drain()

    assert deleted(old, young) == [True, False]
    runs = RetentionRun.objects.order_by("chatbot")
    assert [(run.chatbot, run.request is not None) for run in runs] == [(chatbot, True), (neighbour, False)]
    assert runs[0].request is not None
    assert (runs[0].request.origin, runs[0].request.filed_by) == ("schedule", "worker")


def test_a_cancelled_run_of_the_night_keeps_the_period(chatbot: Chatbot, drain: Drain) -> None:
    old = conversation_aged(chatbot, 91)
    request = file_run(chatbot)
    decisions.cancel(request_id=request.pk, actor="user:8")
    Chatbot.objects.update(timezone=zone_where_it_is(hour=12))
    worker.sweep()
    drain()
    assert (period_of(chatbot), deleted(old), RetentionRun.objects.count()) == (90, [False], 1)


def test_a_night_without_three_o_clock_has_its_run() -> None:
    """In Helsinki clocks go from 03:00 to 04:00 on 29 March 2026."""
    helsinki = ZoneInfo("Europe/Helsinki")
    assert not policy.is_time(helsinki, datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC))
    assert policy.is_time(helsinki, datetime(2026, 3, 29, 1, 0, tzinfo=UTC))
    assert not policy.is_time(helsinki, datetime(2026, 3, 28, 22, 0, tzinfo=UTC)), "midnight"


def test_a_zone_that_postgresql_does_not_know_stops_nobody(chatbot, neighbour, tmp_path, monkeypatch) -> None:
    """Each has time zones of its own, of another year's rules."""
    (tmp_path / "New").mkdir()
    (tmp_path / "New" / "Zone").write_bytes(b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + _UTC)
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([str(tmp_path), *before])
    try:
        for one in (chatbot, neighbour):
            keep_for(one, 90)
            conversation_aged(one, 91)
        Chatbot.objects.filter(pk=chatbot.pk).update(timezone="New/Zone")
        Chatbot.objects.filter(pk=neighbour.pk).update(timezone=zone_where_it_is(hour=12))
        monkeypatch.setattr(policy, "is_time", lambda *_: True)
        assert chatbot_stats([chatbot.pk, neighbour.pk]).retention_late == 2

        worker.sweep()

        assert set(RetentionRun.objects.values_list("chatbot", flat=True)) == {chatbot.pk, neighbour.pk}
        filed = TokenCaller(chatbot).post("data-deletion", ALICE).json()
        assert filed["due_at"].endswith("T23:59:59.000000Z")
        assert chatbot_stats([chatbot.pk, neighbour.pk]).retention_late == 0
        RetentionRun.objects.filter(chatbot=neighbour).update(day=ago(3).date())
        assert chatbot_stats([chatbot.pk, neighbour.pk]).retention_late == 1
    finally:
        zoneinfo.reset_tzpath(before)


_UTC = struct.pack(">l2B", 0, 0, 0) + b"UTC\0"


def test_a_run_is_filed_by_hand_once_a_day(chatbot: Chatbot, capsys: pytest.CaptureFixture[str]) -> None:
    def apply(*arguments: str) -> tuple[int, str]:
        try:
            call_command("apply_retention", *arguments)
            code = 0
        except SystemExit as end:
            code = int(str(end.code))
        return code, capsys.readouterr().out

    conversation_aged(chatbot, 91)
    assert apply("acme") == (3, "acme: Retention is off. Set a period with set_retention, or in the console.\n")
    keep_for(chatbot, 90)
    assert apply("acme", "--dry-run") == (0, "acme: 1 conversation is due\n")
    assert not RetentionRun.objects.exists()
    assert apply("--all")[1].startswith("acme: filed as request ")
    assert apply("acme")[0] == 3


def test_set_retention_says_the_number_before_it_sets_anything(chatbot, capsys) -> None:
    conversation_aged(chatbot, 91)
    with pytest.raises(SystemExit) as end:
        call_command("set_retention", "acme", "90")
    assert end.value.code == 3
    assert "--confirm 1" in capsys.readouterr().out
    assert period_of(chatbot) is None

    call_command("set_retention", "acme", "90", "--confirm", "1")
    assert (period_of(chatbot), run_of(first_run(chatbot)).announced) == (90, 1)
    assert "--confirm" not in capsys.readouterr().out
    call_command("set_retention", "acme", "45", "--confirm", "1")
    assert "acme: retention 45 days" in capsys.readouterr().out
    for wrong in ("0", "3651", "-1", "1.5", "ninety"):
        with pytest.raises((SystemExit, CommandError)):
            call_command("set_retention", "acme", wrong, "--confirm", "1")
    assert period_of(chatbot) == 45
    call_command("set_retention", "acme", "off")
    assert (period_of(chatbot), policy.waiting_first_run(chatbot)) == (None, None)


def test_set_retention_reports_to_programs(chatbot: Chatbot) -> None:
    conversation_aged(chatbot, 91)
    found = report("set_retention", "acme", "90", code=3)
    first = {"conversations": 1, "request_id": None, "not_before": None}
    assert found == {"chatbot": "acme", "retention_days": 90, "is_set": False, "first_run": first}
    found = report("set_retention", "acme", "90", "--confirm", str(found["first_run"]["conversations"]))
    assert (found["is_set"], found["first_run"]["request_id"]) == (True, str(first_run(chatbot).pk))
    assert report("set_retention", "acme", "off") | {"is_set": True, "first_run": None} == {
        "chatbot": "acme",
        "retention_days": None,
        "is_set": True,
        "first_run": None,
    }


@pytest.mark.long(reason="a count for each number", beyond=2)
@pytest.mark.parametrize(("confirmed", "is_set"), [(22, True), (24, False), (20, True), (18, False), (201, False)])
def test_the_number_for_the_command_may_be_some_minutes_old(chatbot, monkeypatch, confirmed, *, is_set) -> None:
    """More may become due between the two calls. It counts everything, however long that takes."""
    monkeypatch.setattr(policy, "_COUNT_SECONDS", 0.0)
    monkeypatch.setattr(due, "SLICE", 1)
    for _ in range(21):
        conversation_aged(chatbot, 91, messages=0)
    with nullcontext() if is_set else pytest.raises(SystemExit):
        call_command("set_retention", "acme", "90", "--confirm", str(confirmed))
    assert period_of(chatbot) == (90 if is_set else None)
