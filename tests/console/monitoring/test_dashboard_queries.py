"""The dashboard's numbers, compared with known data."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from uuid_utils.compat import uuid7

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from compliance.requests.queries import first_id
from console.common.charts import Series, bars
from console.monitoring import dashboard_queries as queries
from console.templatetags.console import duration
from conversations import usage
from conversations.models import Conversation
from conversations.usage import conversations_per_day
from tests.factories import ConversationFactory, deletion_of, export_of
from tests.places import asked_about

Status = ComplianceRequest.Status

DAY = timedelta(days=1)


def held(chatbot: Chatbot, **fields: Any) -> ComplianceRequest:
    return deletion_of(
        chatbot, "42", status="on_hold", hold_reason="awaiting_approval", held_at=timezone.now(), **fields
    )


def failed(chatbot: Chatbot, **fields: Any) -> ComplianceRequest:
    return export_of(chatbot, "42", status="failed", failed_at=timezone.now(), error_code="x", **fields)


def filed(chatbot: Chatbot, at: datetime, took: float | None = None, kind: str = "deletion") -> None:
    """A request received at that instant and completed after `took` seconds."""
    done = {} if took is None else {"status": "completed", "result": "done", "uci_value": None}
    one = deletion_of(chatbot, "42") if kind == "deletion" else export_of(chatbot, "42")
    ComplianceRequest.objects.filter(pk=one.pk).update(
        id=first_id(at).hex[:12] + uuid7().hex[12:],
        received_at=at,
        completed_at=None if took is None else at + timedelta(seconds=took),
        **done,
    )


def test_open_and_overdue_requests_are_counted(chatbot: Chatbot, neighbour: Chatbot) -> None:
    now = timezone.now()
    for due in (now - DAY, now + DAY, now + 8 * DAY):
        deletion_of(chatbot, "42", due_at=due)
        held(neighbour, due_at=due)
    ComplianceRequest.objects.update(received_at=now - 20 * DAY)
    failed(chatbot, due_at=now - DAY)
    filed(chatbot, now - 40 * DAY, took=1)
    ComplianceRequest.objects.filter(status="completed").update(due_at=now - DAY)

    ours = queries.open_now([chatbot.pk])
    both = queries.open_now([chatbot.pk, neighbour.pk])

    assert {status: str(number) for status, number in ours.by_status.items()} == {
        "accepted": "3",
        "processing": "0",
        "on_hold": "0",
        "failed": "1",
    }
    assert (str(ours.overdue), str(ours.due_soon)) == ("2", "1")
    assert (str(both.by_status[Status.ON_HOLD]), str(both.overdue), str(both.due_soon)) == ("3", "3", "2")
    assert str(queries.open_now([]).overdue) == "0"


def test_counts_over_the_limit_are_shown_as_more(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MOST_COUNTED", 2)
    now = timezone.now()
    for due in (-2 * DAY, DAY, 2 * DAY, 20 * DAY):
        held(chatbot, due_at=now + due, received_at=now - 20 * DAY)

    found = queries.open_now([chatbot.pk])

    assert (str(found.by_status[Status.ON_HOLD]), str(found.by_status[Status.FAILED])) == ("2+", "0")
    assert (str(found.overdue), str(found.due_soon)) == ("1", "1+")


def test_requests_that_need_attention_begin_with_the_overdue_ones(chatbot: Chatbot, neighbour: Chatbot) -> None:
    now = timezone.now()
    deletion_of(chatbot, "42", due_at=now + DAY)
    late = deletion_of(chatbot, "42", due_at=now - DAY)
    later = failed(chatbot, due_at=now + 9 * DAY)
    soon = held(neighbour, due_at=now + 2 * DAY)

    found = queries.needs_attention([chatbot.pk, neighbour.pk])

    assert [one.id for one in found] == [late.pk, soon.pk, later.pk]
    assert [one.why for one in found] == [
        "Accepted",
        "On hold: Waiting for the approval of another person",
        "Failed: x",
    ]
    assert [one.id for one in queries.needs_attention([neighbour.pk])] == [soon.pk]


def test_a_period_shows_its_requests_and_durations(chatbot: Chatbot, neighbour: Chatbot) -> None:
    since = datetime(2026, 10, 20, tzinfo=UTC)
    for number in range(1, 21):
        filed(chatbot, since + timedelta(minutes=number), took=number)
    filed(chatbot, since + timedelta(hours=3))
    filed(chatbot, since + 2 * DAY, took=7, kind="export")
    filed(chatbot, since - timedelta(minutes=1), took=9_999)
    filed(neighbour, since + timedelta(minutes=1), took=9_999)

    period = queries.filed_since([chatbot.pk], since=since, zone="UTC")

    assert period.per_day == {
        ("deletion", date(2026, 10, 20)): 21,
        ("export", date(2026, 10, 22)): 1,
    }
    assert period.by_status == {
        ("deletion", "completed"): 20,
        ("deletion", "accepted"): 1,
        ("export", "completed"): 1,
    }
    # As percentile_cont has it: between the 10th and the 11th, 5 hundredths past the 19th.
    seconds = timedelta(seconds=1)
    assert period.durations["deletion"] == (20, 10.5 * seconds, 19.05 * seconds)
    assert period.durations["export"] == (1, 7 * seconds, 7 * seconds)
    assert (period.number, period.is_whole) == (22, True)


def test_days_are_those_of_the_zone_also_when_clocks_change(chatbot: Chatbot) -> None:
    """On 25 October 2026 Paris has 25 hours: from 22:00 to 23:00 UTC a day later."""
    day = date(2026, 10, 25)
    before, first, last, after = (
        datetime(2026, 10, 24, 21, 59, tzinfo=UTC),
        datetime(2026, 10, 24, 22, 0, tzinfo=UTC),
        datetime(2026, 10, 25, 22, 59, tzinfo=UTC),
        datetime(2026, 10, 25, 23, 0, tzinfo=UTC),
    )
    for at in (before, first, last, after):
        filed(chatbot, at)
        ConversationFactory.create(chatbot=chatbot, started_at=at)

    period = queries.filed_since([chatbot.pk], since=before, zone="Europe/Paris")
    began = conversations_per_day([chatbot.pk], zone="Europe/Paris", since=first, until=after + timedelta(minutes=1))

    assert period.per_day == {("deletion", day - DAY): 1, ("deletion", day): 2, ("deletion", day + DAY): 1}
    assert began == ({day: 2, day + DAY: 1}, True)


def test_days_of_chatbots_that_live_apart_are_added(chatbot, neighbour, shards, monkeypatch) -> None:
    day = date(2026, 11, 23)
    for one, number in ((chatbot, 3), (neighbour, 2)):
        for hour in range(number):
            ConversationFactory.create(chatbot=one, started_at=datetime(2026, 11, 23, hour, tzinfo=UTC))
    shards([chatbot], [neighbour])
    period = {"since": datetime(2026, 11, 1, tzinfo=UTC), "until": datetime(2026, 12, 1, tzinfo=UTC), "zone": "UTC"}

    with CaptureQueriesContext(connection) as captured:
        assert conversations_per_day([chatbot.pk, neighbour.pk], **period) == ({day: 5}, True)

    assert asked_about(Conversation, captured, if_it_has="LATERAL") == [[chatbot.pk], [neighbour.pk]]
    monkeypatch.setattr(usage, "MAX_OF_DAYS", 4)
    assert conversations_per_day([chatbot.pk, neighbour.pk], **period) == ({day: 4}, False)


def test_bars_are_stacked_and_the_axis_ends_at_a_round_number() -> None:
    days = [date(2026, 11, 1) + number * DAY for number in range(3)]
    series = [Series("A", {days[0]: 30, days[2]: 4}, "/a?day={day}"), Series("B", {days[0]: 10})]

    chart = bars("name", "Title", series, days, zone="UTC")

    assert chart.top == 50
    assert [(bar.y, bar.height) for bar in chart.days[0].bars] == [(40.0, 60.0), (20.0, 20.0)]
    assert chart.days[1].total == 0
    assert [bar.url for bar in chart.days[2].bars] == ["/a?day=2026-11-03", ""]
    assert chart.description == "44 in 3 days, 2026-11-01 to 2026-11-03 (UTC). Most on 2026-11-01: 40."
    empty = bars("name", "Title", series[:1], days[1:2], zone="UTC")
    assert (empty.top, empty.description) == (1, "0 in 1 days, 2026-11-02 to 2026-11-02 (UTC).")


def test_lengths_of_time_have_two_units() -> None:
    shown = {0.42: "0.4 s", 9.96: "10.0 s", 59.6: "1 min", 3_600: "1 h", 3_605: "1 h", 90_061: "1 d 1 h"}
    assert {seconds: duration(timedelta(seconds=seconds)) for seconds in shown} == shown
