"""Have days made again: what staff and operators ask for."""

from collections.abc import Collection
from datetime import date

from django.db import transaction
from django.db.models import QuerySet

from chatbots import changelog
from common.db import fetch
from conversations.models import DailyExtract

State = DailyExtract.State

# A file that lies there stays until the new one takes its place; past its days it has to go first. What is done in a
# client's bucket is the client's, and what waits already, waits.
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


# What is not to be made already.
SETTLED = (State.DONE, State.FAILED, State.EXPIRED)


def order_rows(extracts: QuerySet[DailyExtract], *, actor: str) -> int:
    """As `order`, for these rows, whatever chatbots they are of and unless they wait already; return how many."""
    days: dict[int, list[date]] = {}
    for chatbot_id, day in extracts.values_list("chatbot_id", "day"):
        days.setdefault(chatbot_id, []).append(day)
    return sum(
        len(order(chatbot_id=chatbot_id, days=those, states=SETTLED, actor=actor))
        for chatbot_id, those in sorted(days.items())
    )


def order(*, chatbot_id: int, days: Collection[date], states: Collection[State], actor: str) -> list[date]:
    """Set those days of a chatbot that are in one of these states to be made again, with fresh attempts; return them.

    The next worker makes them. `actor` is as in the change log.
    """
    values: dict[str, int | list[date] | list[str]] = {
        "chatbot": chatbot_id,
        "days": list(days),
        "states": [state.value for state in states],
    }
    with transaction.atomic():
        ordered = sorted(day for (day,) in fetch(_ORDER, values))
        changelog.record_all(
            [
                changelog.entry("extract.ordered", chatbot_id=chatbot_id, actor=actor, data={"day": day.isoformat()})
                for day in ordered
            ]
        )
    return ordered
