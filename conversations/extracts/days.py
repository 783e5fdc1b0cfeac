"""Which days have an extract, and from which instant to which each extends.

A day begins where the day before ended, if that has a row, else at its midnight in the chatbot's time zone; it ends
where the next begins, or at the next midnight. Rows never change: so after a change of the time zone the first day is
longer or shorter, and no message falls into two days or between them. A day that such a change leaves no time for
gets no row.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction

from chatbots.models import Chatbot
from common.db import fetch
from conversations.models import DailyExtract

ONE_DAY = timedelta(days=1)

_LAST_PLANNED = """
SELECT c.id, c.timezone, (SELECT max(e.day) FROM conversations_dailyextract e WHERE e.chatbot_id = c.id),
       statement_timestamp()
  FROM chatbots_chatbot c
 WHERE c.extracts_enabled AND EXISTS (SELECT FROM chatbots_bucket b WHERE b.chatbot_id = c.id)
 ORDER BY c.id
"""


class DayWindow(NamedTuple):
    """A day, from `starts_at` (included) to `ends_at` (excluded)."""

    day: date
    starts_at: datetime
    ends_at: datetime


def plan_due() -> int:
    """Create rows for the days that are over, of all chatbots with extracts and a bucket; return how many.

    From the last day with a row on, or yesterday alone if there is none. A day is over EXTRACT_DELAY after its
    midnight. Several workers may call this at once: each day gets one row.
    """
    planned = 0
    for chatbot_id, timezone, last, now in fetch(_LAST_PLANNED):
        if last is None or last < last_day_over(timezone, now):
            planned += len(
                _plan(chatbot_id, lambda rows, newest: _days(rows[-1].day + ONE_DAY if rows else newest, newest))
            )
    return planned


def plan(chatbot: Chatbot, first: date, last: date) -> list[date]:
    """Create rows for the days from `first` to `last` that are over and have none; return these days.

    Whether or not the chatbot's extracts are switched on.
    """
    return _plan(chatbot.pk, lambda _rows, newest: _days(first, min(last, newest)))


def last_day_over(timezone: str, now: datetime) -> date:
    """Return the last day of that time zone that was over EXTRACT_DELAY before `now`."""
    return (now - settings.EXTRACT_DELAY).astimezone(ZoneInfo(timezone)).date() - ONE_DAY


def window(day: date, zone: ZoneInfo, planned: Sequence[DayWindow]) -> DayWindow | None:
    """Return the window of a day between the planned ones (in order of days), or None if it has no time."""
    place = bisect_left(planned, day, key=lambda one: one.day)
    starts_at, ends_at = _midnight(day, zone), _midnight(day + ONE_DAY, zone)
    if place > 0:
        before = planned[place - 1]
        is_next = before.day == day - ONE_DAY
        starts_at = before.ends_at if is_next else max(starts_at, before.ends_at)
    if place < len(planned):
        after = planned[place]
        is_next = after.day == day + ONE_DAY
        ends_at = after.starts_at if is_next else min(ends_at, after.starts_at)
    return DayWindow(day, starts_at, ends_at) if starts_at < ends_at else None


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    # Where clocks skip midnight this is the instant at which they do.
    return datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC)


def _days(first: date, last: date) -> list[date]:
    return [first + number * ONE_DAY for number in range((last - first).days + 1)]


def _plan(chatbot_id: int, wanted: Callable[[Sequence[DayWindow], date], Iterable[date]]) -> list[date]:
    with transaction.atomic():
        # One planner at a time, and no change of the time zone meanwhile: a day begins where the one before ended.
        chatbot = Chatbot.objects.select_for_update(no_key=True).get(pk=chatbot_id)
        rows = DailyExtract.objects.filter(chatbot=chatbot).order_by("day")
        planned = [DayWindow(*row) for row in rows.values_list("day", "starts_at", "ends_at")]
        [(now,)] = fetch("SELECT statement_timestamp()")
        known = {one.day for one in planned}
        new: list[DayWindow] = []
        for day in wanted(planned, last_day_over(chatbot.timezone, now)):
            added = None if day in known else window(day, ZoneInfo(chatbot.timezone), planned)
            # After a change of the time zone a day can end later than its date suggests.
            if added and added.ends_at <= now - settings.EXTRACT_DELAY:
                new.append(added)
                planned.insert(bisect_left(planned, day, key=lambda one: one.day), added)
        DailyExtract.objects.bulk_create(
            [DailyExtract(chatbot=chatbot, day=one.day, starts_at=one.starts_at, ends_at=one.ends_at) for one in new],
            ignore_conflicts=True,
        )
    return [one.day for one in new]
