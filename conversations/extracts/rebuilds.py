"""Which days have to be built again: those that late messages fall into, and those that staff ask for."""

from bisect import bisect_left
from collections.abc import Collection, Iterable
from datetime import date, datetime

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from chatbots import changelog
from common.db import array, execute, fetch
from conversations.models import DailyExtract

State = DailyExtract.State

# States in which a day is not waiting to be built already.
SETTLED = (State.DONE, State.FAILED, State.EXPIRED)

# A day lies within two days of its UTC days, whatever the time zone.
_DAYS_BETWEEN = """
SELECT id, starts_at, ends_at FROM conversations_dailyextract
 WHERE chatbot_id = %(chatbot)s AND day BETWEEN %(first)s::date - 2 AND %(last)s::date + 2
   AND starts_at <= %(last)s AND ends_at > %(first)s AND state <> 'expired'
"""

# A finished file in a client's bucket is the client's. Locked in the order of the ids, as everywhere.
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
       stale_at = clock_timestamp(), attempts = 0, not_before = NULL, error_code = '', error_detail = '',
       expires_at = CASE WHEN e.key IS NOT NULL THEN e.expires_at END
  FROM (SELECT id FROM conversations_dailyextract
         WHERE chatbot_id = %(chatbot)s AND day = ANY(%(days)s) AND state = ANY(%(states)s)
           AND NOT (state = 'done' AND hosting = 'client')
           AND (key IS NULL OR expires_at IS NULL OR expires_at > statement_timestamp())
         ORDER BY id FOR NO KEY UPDATE) ordered
 WHERE e.id = ordered.id
RETURNING e.day
"""


def flag_days(*, chatbot_id: int, instants: Iterable[datetime]) -> None:
    """Mark the days that new messages of these instants fall into as stale, and raise their versions.

    Call it in the transaction that stores the messages. An extract reads its rows and its version in one snapshot, so
    a worker that finds the version unchanged has read them all. Recent messages cost nothing: no day that ended less
    than EXTRACT_DELAY ago has a row. Half of that is left for clocks that differ.
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
    """Order these extracts, of any chatbots, unless they are waiting already; return how many."""
    days: dict[int, list[date]] = {}
    for chatbot_id, day in extracts.values_list("chatbot_id", "day"):
        days.setdefault(chatbot_id, []).append(day)
    return sum(
        len(order(chatbot_id=chatbot_id, days=days_of_chatbot, states=SETTLED, actor=actor))
        for chatbot_id, days_of_chatbot in sorted(days.items())
    )


def order(*, chatbot_id: int, days: Collection[date], states: Collection[State], actor: str) -> list[date]:
    """Order the days of a chatbot that are in one of these states to be built again, with fresh attempts; return
    them.

    The next worker builds them. `actor` is as in the change log.
    """
    values = {"chatbot": chatbot_id, "days": list(days), "states": [state.value for state in states]}
    with transaction.atomic():
        ordered = sorted(day for (day,) in fetch(_ORDER, values))
        changelog.record_all(
            [
                changelog.entry("extract.ordered", chatbot_id=chatbot_id, actor=actor, data={"day": day.isoformat()})
                for day in ordered
            ]
        )
    return ordered
