"""Messages that come after the extract of their day was begun: intake flags the day in its own transaction.

An extract reads its rows and its `version` in one snapshot, and intake raises the version in the transaction that
stores the messages: so who finds the version unchanged has read them all. A day gets its row after intakes that began
before it could see that row have ended (`making`).
"""

from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime

from django.conf import settings
from django.db import connection
from django.utils import timezone

from common.db import array

# A day lies within two days of its UTC days, whatever the time zone.
_DAYS_BETWEEN = """
SELECT id, starts_at, ends_at FROM conversations_dailyextract
 WHERE chatbot_id = %(chatbot)s AND day BETWEEN %(first)s::date - 2 AND %(last)s::date + 2
   AND starts_at <= %(last)s AND ends_at > %(first)s AND state <> 'expired'
"""

# What is done in a client's bucket is the client's. In the order of the ids, as whoever else locks several.
_FLAG = """
UPDATE conversations_dailyextract e
   SET version = e.version + 1, state = CASE e.state WHEN 'done' THEN 'stale' ELSE e.state END,
       stale_at = coalesce(e.stale_at, clock_timestamp())
  FROM (SELECT id FROM conversations_dailyextract WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE) met
 WHERE e.id = met.id AND e.state <> 'expired' AND NOT (e.state = 'done' AND e.hosting = 'client')
"""


def flag_days(*, chatbot_id: int, instants: Iterable[datetime]) -> None:
    """Mark the days of this chatbot that new messages of these instants fall into, to be made again.

    In the transaction that stores the messages. What is said now costs nothing: no day that is not over by
    EXTRACT_DELAY has a row. Half of that is left for clocks that differ.
    """
    newest = timezone.now() - settings.EXTRACT_DELAY / 2
    late = sorted(instant for instant in instants if instant < newest)
    if not late:
        return
    with connection.cursor() as cursor:
        cursor.execute(_DAYS_BETWEEN, {"chatbot": chatbot_id, "first": late[0], "last": late[-1]})
        days = cursor.fetchall()
        met = [
            row_id for row_id, starts_at, ends_at in days if bisect_left(late, starts_at) < bisect_left(late, ends_at)
        ]
        if met:
            cursor.execute(_FLAG, [array(met)])
