"""Take an officer who is to be told something, with what is still true of it, and note what became of the mail."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction

from common.db import execute, fetch, fetch_one
from compliance.notifications.detect import OFFICERS

# One mail holds so many; of what is more it says how much that is, counted up to a limit.
MOST_ITEMS = 50
MOST_COUNTED = 1_000

# Longer than a mail takes with all its time limits.
_LEASE = timedelta(minutes=5)
# Between two mails to one officer.
_PAUSE = timedelta(hours=1)
_FIRST_WAIT, _LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)

_TAKE = f"""
WITH officers AS MATERIALIZED ({OFFICERS})
UPDATE compliance_mailbox b
   SET token = %(token)s, claimed_until = clock_timestamp() + make_interval(secs => %(lease)s)
 WHERE b.user_id = (
       SELECT one.user_id
         FROM compliance_mailbox one
        WHERE one.next_at <= statement_timestamp()
          AND (one.claimed_until IS NULL OR one.claimed_until <= statement_timestamp())
          AND EXISTS (SELECT FROM officers o
                       WHERE o.user_id = one.user_id
                         AND EXISTS (SELECT FROM compliance_notice n
                                      WHERE n.chatbot_id = o.chatbot_id AND n.id > one.last_notified_id))
        ORDER BY one.next_at, one.user_id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING b.user_id, b.last_notified_id
"""  # noqa: S608  (a text of ours)

_OF_OFFICER = f"SELECT email, chatbot_id FROM ({OFFICERS}) AS officers WHERE user_id = %s"  # noqa: S608  (ours)

_LAST = "SELECT coalesce(max(id), 0) FROM compliance_notice WHERE chatbot_id = ANY(%s)"

# What is over meanwhile is no news: a request that was retried, approved or completed. The worst comes first.
_STILL_TRUE = """
SELECT n.event, r.id, r.kind, r.status, r.hold_reason, r.error_code, r.due_at, c.name, c.timezone
  FROM compliance_notice n
  JOIN compliance_compliancerequest r ON r.id = n.request_id
  JOIN chatbots_chatbot c ON c.id = n.chatbot_id
 WHERE n.chatbot_id = ANY(%(chatbots)s) AND n.id > %(after)s AND n.id <= %(last)s
   AND CASE n.event
       WHEN 'failed' THEN r.status = 'failed' AND r.failed_at = n.occurred_at
       WHEN 'on_hold' THEN r.status = 'on_hold' AND r.held_at = n.occurred_at
       WHEN 'due_soon' THEN r.status IN ('accepted', 'on_hold', 'processing', 'failed')
                        AND r.due_at = n.occurred_at AND r.due_at > statement_timestamp()
       WHEN 'overdue' THEN r.status IN ('accepted', 'on_hold', 'processing', 'failed') AND r.due_at = n.occurred_at
       END
 ORDER BY array_position(ARRAY['overdue', 'failed', 'on_hold', 'due_soon'], n.event::text), n.id
 LIMIT %(most)s
"""

_NOTE = """
UPDATE compliance_mailbox
   SET token = NULL, claimed_until = NULL, last_notified_id = %(last)s, last_error = '', attempts = 0,
       mailed_at = CASE WHEN %(mailed)s THEN statement_timestamp() ELSE mailed_at END,
       next_at = CASE WHEN %(mailed)s THEN statement_timestamp() + make_interval(secs => %(pause)s) ELSE next_at END
 WHERE user_id = %(user)s AND token = %(token)s
"""
_NOTE_FAILURE = """
UPDATE compliance_mailbox
   SET token = NULL, claimed_until = NULL, last_error = %(error)s, attempts = attempts + 1,
       next_at = statement_timestamp()
                 + make_interval(secs => least(%(longest)s, %(first)s * power(2, least(attempts, 10))))
 WHERE user_id = %(user)s AND token = %(token)s
"""


@dataclass(frozen=True)
class Item:
    """A request that an officer is told of, and of what."""

    event: str
    request_id: UUID
    kind: str
    status: str
    hold_reason: str | None
    error_code: str
    due_at: datetime
    chatbot: str
    timezone: str


@dataclass(frozen=True)
class News:
    """What an officer is to be told. `items` are at most MOST_COUNTED, the worst first; none if all is over."""

    user_id: int
    address: str
    token: UUID
    last: int
    items: Sequence[Item]


def take() -> News | None:
    """Take an officer who is to be told something; None where there is nobody. Others leave this one for a while."""
    token = uuid4()
    with transaction.atomic():
        taken = fetch_one(_TAKE, {"token": token, "lease": _LEASE.total_seconds()})
        if taken is None:
            return None
        user_id, last_notified_id = taken
        rows = fetch(_OF_OFFICER, [user_id])
        chatbots = [chatbot_id for _, chatbot_id in rows]
        [(last,)] = fetch(_LAST, [chatbots])
        items = [
            Item(*row)
            for row in fetch(
                _STILL_TRUE, {"chatbots": chatbots, "after": last_notified_id, "last": last, "most": MOST_COUNTED + 1}
            )
        ]
    return News(user_id, rows[0][0] if rows else "", token, last, items)


def note_delivered(news: News, *, mailed: bool) -> None:
    """Note that an officer was told, or that all was over before. The next mail waits for an hour."""
    _execute(
        _NOTE,
        {
            "user": news.user_id,
            "token": news.token,
            "last": news.last,
            "mailed": mailed,
            "pause": _PAUSE.total_seconds(),
        },
    )


def note_failure(news: News, *, error: str) -> None:
    """Note that a mail could not be sent: the same is told later, with what is new then."""
    values = {
        "user": news.user_id,
        "token": news.token,
        "error": error,
        "first": _FIRST_WAIT.total_seconds(),
        "longest": _LONGEST_WAIT.total_seconds(),
    }
    _execute(_NOTE_FAILURE, values)


def _execute(statement: str, values: dict[str, Any]) -> None:
    execute(statement, values)
