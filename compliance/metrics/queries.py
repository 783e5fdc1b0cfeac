"""The queries behind the metrics. Each uses an index and stops at a limit; none counts all rows."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings

from common.db import array, fetch, fetch_in_index_order
from compliance.deadlines import DUE_SOON_SQL, OPEN, OVERDUE_SQL
from compliance.notifications import digest
from compliance.notifications.outbox import with_unsent_notices
from compliance.work.due import CAN_CONTINUE_SQL
from compliance.work.health import FIRST_IN_QUEUES
from compliance.work.lookups import called_chatbots
from conversations.placement import by_place, machines

# The number of rows to read for all chatbots together, roughly: an equal share per chatbot and state, but at least a
# few.
_MOST_READ = 8_000
_FEWEST = 50
# The number of daily extracts to read.
_MOST = 1_000

_WAITING = f"""
SELECT k.kind, l.lane, extract(epoch FROM statement_timestamp() - min(r.waits_since))::float8
{FIRST_IN_QUEUES}
 GROUP BY 1, 2
"""

# The oldest of each state, which are due first; but the newest failed ones, since those that cannot be retried stay
# forever and must not hide the others. The condition repeats that of a partial index.
_ONE_STATE = """
    SELECT r.kind, r.status, r.received_at, r.requested_at, r.due_at, r.answered_at, r.hold_reason,
           r.waiting_for, r.error_code,
           {can_continue} AS can_continue
      FROM compliance_compliancerequest r
     WHERE r.chatbot_id = c.id AND r.chatbot_id > 0 AND NOT (r.status = 'completed') AND r.status = {status}
     ORDER BY r.id {order} LIMIT %(most)s
"""
_OPEN = f"""
SELECT r.kind, r.status,
       coalesce(CASE r.status WHEN 'on_hold' THEN r.hold_reason WHEN 'accepted' THEN r.waiting_for
                              WHEN 'failed' THEN r.error_code END, ''),
       count(*), count(*) FILTER (WHERE {OVERDUE_SQL}), count(*) FILTER (WHERE {DUE_SOON_SQL})
  FROM unnest(%(chatbots)s::bigint[]) AS c(id)
 CROSS JOIN LATERAL (
    SELECT one.* FROM unnest(%(going)s::text[]) AS s(status)
     CROSS JOIN LATERAL ({_ONE_STATE.format(status="s.status", can_continue="TRUE", order="")}) AS one
     UNION ALL
    SELECT one.* FROM ({_ONE_STATE.format(status="'failed'", can_continue=CAN_CONTINUE_SQL, order="DESC")}) AS one
     WHERE one.can_continue
 ) AS r
 GROUP BY 1, 2, 3
"""

_CALLBACKS = """
SELECT 'waiting', count(*),
       coalesce(greatest(extract(epoch FROM statement_timestamp() - min(one.next_attempt_at)), 0), 0)::float8
  FROM unnest(%(chatbots)s::bigint[]) AS c(id)
 CROSS JOIN LATERAL (
    SELECT next_attempt_at FROM compliance_callback
     WHERE chatbot_id = c.id AND state = 'waiting' ORDER BY next_attempt_at LIMIT %(most)s) AS one
 UNION ALL
SELECT 'given_up', count(*), 0
  FROM unnest(%(chatbots)s::bigint[]) AS c(id)
 CROSS JOIN LATERAL (
    SELECT id FROM compliance_callback
     WHERE chatbot_id = c.id AND chatbot_id > 0 AND state = 'given_up' ORDER BY id DESC LIMIT %(most)s) AS one
"""

# Look-ups of chatbots whose resolver may be called. Ended ones are those of the last hour.
_LOOKUPS = """
SELECT 'pending', count(*),
       coalesce(extract(epoch FROM statement_timestamp() - min(one.queued_at)), 0)::float8
  FROM unnest(%(called)s::bigint[]) AS c(id)
 CROSS JOIN LATERAL (
    SELECT queued_at FROM conversations_identitylookup
     WHERE chatbot_id = ANY(%(called)s::bigint[]) AND chatbot_id = c.id AND state = 'pending'
     ORDER BY queued_at LIMIT %(most)s) AS one
 UNION ALL
SELECT one.state, count(*), 0
  FROM unnest(%(called)s::bigint[]) AS c(id)
 CROSS JOIN LATERAL (
    SELECT state FROM conversations_identitylookup
     WHERE chatbot_id = ANY(%(called)s::bigint[]) AND chatbot_id = c.id AND chatbot_id > 0
       AND finished_at > statement_timestamp() - interval '1 hour'
     ORDER BY finished_at DESC LIMIT %(most)s) AS one
 GROUP BY 1
"""

# Only extracts that can be made: with a bucket, or with a hosted file to replace.
_EXTRACTS = """
SELECT e.state, count(*),
       coalesce(greatest(extract(epoch FROM statement_timestamp() - min(coalesce(e.stale_at, e.created_at))), 0), 0
               )::float8
  FROM ((SELECT * FROM conversations_dailyextract WHERE state IN ('pending', 'stale') ORDER BY id LIMIT %(most)s)
        UNION ALL
        (SELECT * FROM conversations_dailyextract WHERE state = 'failed' ORDER BY id DESC LIMIT %(most)s)) AS e
 WHERE e.chatbot_id = ANY(%(chatbots)s::bigint[])
   AND ((e.key IS NOT NULL AND e.hosting = 'hosted')
        OR EXISTS (SELECT FROM chatbots_bucket b WHERE b.chatbot_id = e.chatbot_id))
 GROUP BY 1
"""

# Each night has a run, or an entry that records that nothing was due.
_RETENTION = """
SELECT c.timezone, statement_timestamp(),
       (SELECT day FROM compliance_retentionrun WHERE chatbot_id = c.id ORDER BY day DESC, id DESC LIMIT 1)
  FROM chatbots_chatbot c
 WHERE c.id = ANY(%(chatbots)s::bigint[]) AND c.retention_days IS NOT NULL
"""

_EXPIRED_FILES = """
SELECT 'export', extract(epoch FROM statement_timestamp() - min(expires_at))::float8
  FROM compliance_export WHERE key IS NOT NULL
 UNION ALL
SELECT 'extract', extract(epoch FROM statement_timestamp() - min(expires_at))::float8
  FROM conversations_dailyextract WHERE key IS NOT NULL
"""


class OpenRequests(NamedTuple):
    """The number of open requests of one kind, state and reason."""

    kind: str
    status: str
    reason: str
    number: int
    overdue: int
    due_soon: int


class Queued(NamedTuple):
    """The number of rows in a state, and the seconds for which the oldest has been due."""

    number: int
    oldest_seconds: float


NONE = Queued(0, 0.0)


@dataclass(frozen=True)
class ChatbotStats:
    waiting_seconds: dict[tuple[str, ...], float]
    open: list[OpenRequests]
    callbacks: dict[str, Queued]
    lookups: dict[str, Queued]
    extracts: dict[str, Queued]
    retention_late: int


def chatbot_stats(chatbots: Collection[int]) -> ChatbotStats:
    share = max(_FEWEST, _MOST_READ // (len(OPEN) * max(1, len(chatbots))))
    values = {
        "chatbots": array(chatbots),
        "all": False,
        "trials": False,
        "going": [status.value for status in OPEN if status != "failed"],
        "most": share,
    }
    return ChatbotStats(
        waiting_seconds={(kind, lane): seconds for kind, lane, seconds in fetch(_WAITING, values)},
        open=[OpenRequests(*row) for row in fetch(_OPEN, values)],
        callbacks={state: Queued(*row) for state, *row in fetch_in_index_order(_CALLBACKS, values)},
        lookups=_lookups(chatbots, share),
        extracts={state: Queued(*row) for state, *row in fetch(_EXTRACTS, values | {"most": _MOST})},
        retention_late=sum(_is_late(*row) for row in fetch(_RETENTION, values)),
    )


def _lookups(chatbots: Collection[int], most: int) -> dict[str, Queued]:
    called = set(chatbots).intersection(called_chatbots())
    found: dict[str, Queued] = {}
    for together in by_place({chatbot: chatbot for chatbot in machines.reachable(called)}):
        for state, number, seconds in fetch_in_index_order(_LOOKUPS, {"called": array(together), "most": most}):
            before = found.get(state, NONE)
            found[state] = Queued(before.number + number, max(before.oldest_seconds, seconds))
    return found


def _is_late(timezone: str, now: datetime, latest: date | None) -> bool:
    """Return whether neither yesterday nor today has a run. PostgreSQL may lack some of our time zones."""
    return latest is None or latest < now.astimezone(ZoneInfo(timezone)).date() - timedelta(days=1)


def files_kept_too_long() -> dict[str, float]:
    """Return by kind for how many seconds the oldest hosted file has been expired."""
    return {kind: max(0.0, seconds or 0.0) for kind, seconds in fetch(_EXPIRED_FILES)}


def mailboxes_failing() -> int:
    """Return how many officers have a mail due whose last attempt failed."""
    if not settings.MAILS:
        return 0
    return (with_unsent_notices() | digest.without_digest()).filter(attempts__gt=0).count()
