"""The days with extracts: their rows, their first and last instants, and orders to build them again.

A day begins at the end of the day before, if that has a row, or else at its midnight in the chatbot's time zone. It
ends at the begin of the next day, or at the next midnight. Rows never change, so after a change of the time zone the
first day is longer or shorter, and no message falls into two days or between them. A day of length zero after such a
change gets no row.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from chatbots import changelog, locks
from common.db import array, execute, fetch
from common.isolation import Isolation, in_any_order
from common.times import midnight
from conversations.models import DailyExtract

State = DailyExtract.State

ONE_DAY = timedelta(days=1)

_LAST_PLANNED = """
SELECT c.id, c.timezone, (SELECT max(e.day) FROM conversations_dailyextract e WHERE e.chatbot_id = c.id),
       statement_timestamp()
  FROM chatbots_chatbot c
 WHERE c.extracts_enabled AND EXISTS (SELECT FROM chatbots_bucket b WHERE b.chatbot_id = c.id)
 ORDER BY c.id
"""

# States of days that are not waiting to be built.
SETTLED = (State.DONE, State.FAILED, State.EXPIRED)

# A day lies within two days of its UTC days, whatever the time zone.
_DAYS_BETWEEN = """
SELECT id, starts_at, ends_at FROM conversations_dailyextract
 WHERE chatbot_id = %(chatbot)s AND day BETWEEN %(first)s::date - 2 AND %(last)s::date + 2
   AND starts_at <= %(last)s AND ends_at > %(first)s AND state <> 'expired'
"""

# A finished file in a client's bucket belongs to the client. Rows are locked in the order of the ids, as everywhere.
_FLAG = """
UPDATE conversations_dailyextract e
   SET version = e.version + 1, state = CASE e.state WHEN 'done' THEN 'stale' ELSE e.state END,
       stale_at = coalesce(e.stale_at, clock_timestamp())
  FROM (SELECT id FROM conversations_dailyextract WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE) met
 WHERE e.id = met.id AND e.state <> 'expired' AND NOT (e.state = 'done' AND e.hosting = 'client')
"""

# A stored file stays until the new one replaces it; an expired one has to be removed first. A finished file in a
# client's bucket is the client's.
_ORDER = """
UPDATE conversations_dailyextract e
   SET state = CASE WHEN e.made_version IS NULL OR e.key IS NULL THEN 'pending' ELSE 'stale' END,
       stale_at = clock_timestamp(), attempts = 0, next_attempt_at = clock_timestamp(), error_code = '',
       error_detail = '', expires_at = CASE WHEN e.key IS NOT NULL THEN e.expires_at END
  FROM (SELECT id FROM conversations_dailyextract
         WHERE chatbot_id = %(chatbot)s AND day = ANY(%(days)s) AND state = ANY(%(states)s)
           AND NOT (state = 'done' AND hosting = 'client')
           AND (key IS NULL OR expires_at IS NULL OR expires_at > statement_timestamp())
         ORDER BY id FOR NO KEY UPDATE) ordered
 WHERE e.id = ordered.id
RETURNING e.day
"""


class DayWindow(NamedTuple):
    """A day, from `starts_at` (included) to `ends_at` (excluded)."""

    day: date
    starts_at: datetime
    ends_at: datetime


def plan_due() -> int:
    """Create rows for the past days of all chatbots with extracts and a bucket. Return their number.

    It begins after the last day with a row, or with yesterday if there is none. A day is over EXTRACT_DELAY after its
    midnight. Several workers may call this at once: each day gets one row. Raises PartsFailed after all chatbots.
    """
    planned = 0
    with Isolation() as isolated:
        for chatbot_id, zone, last, now in in_any_order(fetch(_LAST_PLANNED)):
            with isolated.chatbot(chatbot_id):
                if last is None or last < last_day_over(zone, now):
                    planned += len(plan(chatbot_id))
    return planned


def last_day_over(zone: str, now: datetime) -> date:
    """Return the last day of that time zone that was over EXTRACT_DELAY before `now`."""
    return (now - settings.EXTRACT_DELAY).astimezone(ZoneInfo(zone)).date() - ONE_DAY


def window(day: date, zone: ZoneInfo, planned: Sequence[DayWindow]) -> DayWindow | None:
    """Return the window of a day between the planned ones (in order of days), or None if it has no time."""
    place = bisect_left(planned, day, key=lambda one: one.day)
    starts_at, ends_at = midnight(day, zone), midnight(day + ONE_DAY, zone)
    if place > 0:
        before = planned[place - 1]
        is_next = before.day == day - ONE_DAY
        starts_at = before.ends_at if is_next else max(starts_at, before.ends_at)
    if place < len(planned):
        after = planned[place]
        is_next = after.day == day + ONE_DAY
        ends_at = after.starts_at if is_next else min(ends_at, after.starts_at)
    return DayWindow(day, starts_at, ends_at) if starts_at < ends_at else None


def plan(chatbot_id: int, first: date | None = None, last: date = date.max) -> list[date]:
    """Create rows for the past days from `first` to `last` that have none. Return these days.

    By default it begins after the last day with a row. It does so even if the chatbot's extracts are switched off.
    """
    with transaction.atomic():
        # One planner at a time, and no change of the time zone meanwhile: a day begins at the end of the day before.
        chatbot = locks.locked(chatbot_id)
        rows = DailyExtract.objects.filter(chatbot=chatbot).order_by("day")
        planned = [DayWindow(*row) for row in rows.values_list("day", "starts_at", "ends_at")]
        [(now,)] = fetch("SELECT statement_timestamp()")
        known = {one.day for one in planned}
        new: list[DayWindow] = []
        newest = last_day_over(chatbot.timezone, now)
        first = first or (planned[-1].day + ONE_DAY if planned else newest)
        for number in range((min(last, newest) - first).days + 1):
            day = first + number * ONE_DAY
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


def flag_days(*, chatbot_id: int, instants: Iterable[datetime]) -> None:
    """Mark the days of new messages with these times as stale, and raise their versions.

    Call it in the transaction that stores the messages. An extract reads its rows and its version in one snapshot, so
    a worker that finds the version unchanged has read them all. Recent messages cost nothing: no day that ended less
    than EXTRACT_DELAY ago has a row. Half of that time is a margin for clocks that differ.
    """
    newest = timezone.now() - settings.EXTRACT_DELAY / 2
    late = sorted(instant for instant in instants if instant < newest)
    if not late:
        return
    days = fetch(_DAYS_BETWEEN, {"chatbot": chatbot_id, "first": late[0], "last": late[-1]})
    met = [row_id for row_id, starts_at, ends_at in days if bisect_left(late, starts_at) < bisect_left(late, ends_at)]
    if met:
        execute(_FLAG, [array(met)])


def order_extracts(extracts: QuerySet[DailyExtract], *, actor: str) -> int:
    """Order these extracts, of any chatbots, unless they are waiting already. Return their number."""
    days: dict[int, list[date]] = {}
    for chatbot_id, day in extracts.values_list("chatbot_id", "day"):
        days.setdefault(chatbot_id, []).append(day)
    return sum(
        len(order(chatbot_id=chatbot_id, days=days_of_chatbot, states=SETTLED, actor=actor))
        for chatbot_id, days_of_chatbot in sorted(days.items())
    )


def order(*, chatbot_id: int, days: Collection[date], states: Collection[State], actor: str) -> list[date]:
    """Order a rebuild of the days of a chatbot in these states, with fresh attempts. Return these days.

    The next worker builds them. `actor` is as in the change log.
    """
    values = {"chatbot": chatbot_id, "days": list(days), "states": [state.value for state in states]}
    with transaction.atomic():
        ordered = sorted(day for (day,) in fetch(_ORDER, values))
        changelog.record_all(
            changelog.entry("extract.ordered", chatbot_id=chatbot_id, actor=actor, data={"day": day.isoformat()})
            for day in ordered
        )
    return ordered
