"""How many conversations began on each day: for charts."""

from collections.abc import Collection
from datetime import date, datetime
from typing import Any, NamedTuple

from common.db import array, fetch

# By the log's index alone. A day of more is counted from the newest on.
MOST = 1_000_000

_PER_DAY = """
SELECT (began.started_at AT TIME ZONE %(zone)s)::date AS day, count(*)
  FROM (
    SELECT newest.started_at
      FROM unnest(%(chatbots)s::bigint[]) AS c(id)
     CROSS JOIN LATERAL (
        SELECT v.started_at FROM conversations_conversation v
         WHERE v.chatbot_id = c.id AND v.started_at >= %(since)s AND v.started_at < %(until)s
         ORDER BY v.started_at DESC LIMIT %(most)s
     ) AS newest
     LIMIT %(most)s
  ) AS began
 GROUP BY 1
"""


class PerDay(NamedTuple):
    """By day; days without any are left out. `is_whole` says whether all were counted, or the first MOST."""

    counts: dict[date, int]
    is_whole: bool


def conversations_per_day(chatbots: Collection[int], *, zone: str, since: datetime, until: datetime) -> PerDay:
    """Count conversations by the day of a time zone on which they began, deleted ones too.

    A deleted one has kept the UTC day alone: it counts at that day's first instant.
    """
    values: dict[str, Any] = {"chatbots": array(chatbots), "zone": zone, "since": since, "until": until, "most": MOST}
    counts = dict(fetch(_PER_DAY, values))
    return PerDay(counts, sum(counts.values()) < MOST)
