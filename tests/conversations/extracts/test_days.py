"""Which days get a row, their first and last instants, and which messages come late for theirs."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.utils import timezone

from chatbots.models import Bucket, Chatbot
from conversations.extracts import days
from conversations.extracts.days import DayWindow, window
from conversations.intake import store
from conversations.models import DailyExtract
from tests.conversations.documents import message, parsed
from tests.extracting import FIRST, day_after, extract_of, planned

PARIS, TOKYO, KIRITIMATI = (ZoneInfo(name) for name in ("Europe/Paris", "Asia/Tokyo", "Pacific/Kiritimati"))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day", "starts_at", "hours"),
    [
        ("Europe/Paris", date(2026, 3, 29), "2026-03-28T23:00", 23),
        ("Europe/Paris", date(2026, 10, 25), "2026-10-24T22:00", 25),
        ("Asia/Kathmandu", date(2026, 11, 1), "2026-10-31T18:15", 24),
        # Clocks skip midnight: the day begins at the skip.
        ("America/Asuncion", date(2023, 10, 1), "2023-10-01T04:00", 23),
    ],
)
def test_a_day_begins_and_ends_at_midnight(zone: str, day: date, starts_at: str, hours: int) -> None:
    found = window(day, ZoneInfo(zone), [])
    assert found == DayWindow(day, at(starts_at), at(starts_at) + timedelta(hours=hours))


def test_a_change_of_the_time_zone_leaves_no_gap_and_no_overlap() -> None:
    first = window(FIRST, TOKYO, [])
    assert first
    west = window(day_after(FIRST), ZoneInfo("America/Los_Angeles"), [first])
    assert west
    assert (west.starts_at, west.ends_at - west.starts_at) == (first.ends_at, timedelta(hours=41))
    # A day before the planned ones ends where they begin.
    earlier = window(day_after(FIRST, -1), PARIS, [first, west])
    assert earlier
    assert earlier.ends_at == first.starts_at


def test_a_day_skipped_by_a_time_zone_change_has_no_window() -> None:
    far_west = ZoneInfo("Etc/GMT+12")
    first = window(FIRST, far_west, [])
    assert first
    assert window(day_after(FIRST), KIRITIMATI, [first]) is None
    second = window(day_after(FIRST, 2), KIRITIMATI, [first])
    assert second
    assert second.starts_at == first.ends_at


@pytest.fixture
def extracted(chatbot: Chatbot) -> Chatbot:
    Chatbot.objects.filter(pk=chatbot.pk).update(extracts_enabled=True, timezone="Europe/Paris")
    chatbot.refresh_from_db()
    return chatbot


def _yesterday() -> date:
    return days.last_day_over("Europe/Paris", timezone.now())


def test_it_begins_with_yesterday(extracted: Chatbot, neighbour: Chatbot) -> None:
    assert (days.plan_due(), days.plan_due()) == (1, 0)
    extract = DailyExtract.objects.get()
    assert (extract.chatbot, extract.day, extract.state) == (extracted, _yesterday(), "pending")


def test_missed_days_are_made_up_each_once(extracted: Chatbot) -> None:
    yesterday = _yesterday()
    planned(extracted, day_after(yesterday, -4))
    assert (days.plan_due(), days.plan_due()) == (4, 0)
    rows = list(DailyExtract.objects.order_by("day"))
    assert [row.day for row in rows] == [day_after(yesterday, -4 + number) for number in range(5)]
    assert [row.starts_at for row in rows[1:]] == [row.ends_at for row in rows[:-1]]


def test_nothing_is_planned_without_a_bucket_or_when_switched_off(extracted: Chatbot) -> None:
    Bucket.objects.filter(chatbot=extracted).delete()
    assert days.plan_due() == 0
    Chatbot.objects.update(extracts_enabled=False)
    assert days.plan_due() == 0


def test_a_day_is_over_some_minutes_after_its_midnight() -> None:
    midnight = at("2026-11-01T23:00")  # in Paris
    assert days.last_day_over("Europe/Paris", midnight + timedelta(minutes=9)) == date(2026, 10, 31)
    assert days.last_day_over("Europe/Paris", midnight + timedelta(minutes=10)) == FIRST


def test_only_days_that_are_over_are_planned(extracted: Chatbot) -> None:
    yesterday = _yesterday()
    assert days.plan(extracted.pk, day_after(yesterday, -1), day_after(yesterday, 3)) == [
        day_after(yesterday, -1),
        yesterday,
    ]


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("delay", [timedelta(minutes=10), timedelta(days=1)])
def test_a_clock_that_is_behind_by_less_than_half_of_the_delay_hides_no_late_message(
    chatbot, monkeypatch, delay: timedelta
):
    """The message is from the day's last second, and arrives as soon as the day can have been read."""
    monkeypatch.setattr(settings, "EXTRACT_DELAY", delay)
    [day] = planned(chatbot)
    last_second = (day.ends_at - SECOND).isoformat()
    began = day.ends_at + delay

    def slow_clock() -> datetime:
        return began - delay / 2 + SECOND

    monkeypatch.setattr(timezone, "now", slow_clock)  # a test cannot set the machine's clock
    store(chatbot=chatbot, documents=[parsed(messages=[message(sent_at=last_second)])])

    assert extract_of(chatbot).version == day.version + 1
