"""Lease callbacks that are due, and record the outcome of their calls.

A leased row has the worker's token, and `next_attempt_at` is the end of the lease, after which others may take it. A
worker that has lost a row writes nothing to it. All times are the database's.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from chatbots import changelog
from chatbots.callback_urls import receiver_of
from chatbots.models import Chatbot
from common.db import BY_INDEX, array, distinct, execute, fetch
from common.leases import LEASE_END
from compliance.models import Callback, ComplianceRequest
from compliance.work.turns import LEASE_SECONDS, may_take, random_wait, shares

logger = logging.getLogger(__name__)

State = Callback.State
Failure = Callback.Failure
Status = ComplianceRequest.Status

# The receiver says that this address is gone for good.
GONE = 410
# The wait before a further attempt.
_WAIT = random_wait("c.attempts", first=30, longest=7200)
# Of those that go to a receiver that rests, how many are put off at a time.
_PUT_OFF = 5_000

_ACTOR = "worker"

# Chatbots that have something due, by skipping along the index instead of reading all that waits.
_CHATBOTS = f"""
SELECT waiting.value
  FROM ({distinct("compliance_callback", "chatbot_id", "state = 'waiting'")}) AS waiting
 WHERE EXISTS (SELECT FROM compliance_callback c
                WHERE c.state = 'waiting' AND c.chatbot_id = waiting.value
                  AND c.next_attempt_at <= statement_timestamp())
"""  # noqa: S608  (texts of ours)

# An earlier event of the same request goes first, while it is due or on its way; not while it waits for another
# attempt, so that what cannot be delivered holds nothing up. (Only what waits has a time or a token. Asked for its
# state too, PostgreSQL without statistics reads all that waits to find these few.)
_TAKE = f"""
WITH picked AS (
    SELECT chosen.id
      FROM unnest(%(chatbots)s::bigint[], %(shares)s::int[]) AS due(chatbot_id, share)
     CROSS JOIN LATERAL (
        SELECT c.id
          FROM compliance_callback c
         WHERE c.state = 'waiting' AND c.chatbot_id = due.chatbot_id
           AND c.next_attempt_at <= statement_timestamp()
           AND NOT EXISTS (
               SELECT FROM compliance_callback earlier
                WHERE earlier.request_id = c.request_id AND earlier.occurred_at < c.occurred_at
                  AND (earlier.token IS NOT NULL OR earlier.next_attempt_at <= statement_timestamp()))
         ORDER BY c.next_attempt_at
         LIMIT due.share
           FOR UPDATE OF c SKIP LOCKED
     ) AS chosen
), taken AS (
    UPDATE compliance_callback c
       SET token = %(token)s, next_attempt_at = {LEASE_END}
      FROM picked WHERE c.id = picked.id
    RETURNING c.*
)
SELECT t.id, t.chatbot_id, t.request_id, r.kind, r.reference, t.status, t.hold_reason, t.result, t.error_code,
       t.occurred_at, t.url
  FROM taken t
  JOIN compliance_compliancerequest r ON r.id = t.request_id
"""  # noqa: S608  (a text of ours)

_IS_GIVEN_UP = f"(o.status = {GONE} OR c.give_up_at <= statement_timestamp())"
# What was delivered or given up needs no address any more.
_NOTE = f"""
WITH outcome AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(statuses)s::int[], %(errors)s::text[]) AS one(id, status, error)
)
UPDATE compliance_callback c
   SET token = NULL, attempts = c.attempts + 1, last_status = o.status, last_error = o.error,
       url = CASE WHEN o.error = '' OR {_IS_GIVEN_UP} THEN '' ELSE c.url END,
       delivered_at = CASE o.error WHEN '' THEN statement_timestamp() END,
       state = CASE WHEN o.error = '' THEN 'delivered'
                    WHEN {_IS_GIVEN_UP} THEN 'given_up'
                    ELSE 'waiting' END,
       next_attempt_at = CASE
           WHEN o.error <> '' AND o.status IS DISTINCT FROM {GONE} AND c.give_up_at > statement_timestamp()
           THEN least(c.give_up_at, statement_timestamp() + {_WAIT})
           END
  FROM outcome o
 WHERE c.id = o.id AND c.token = %(token)s
RETURNING c.id, c.chatbot_id, c.request_id, c.status, c.state, c.attempts, c.last_status, c.last_error
"""  # noqa: S608  (constants of ours)

# No attempt is lost. What has been tried for long enough is given up, though it was not tried just now.
_REST = """
UPDATE compliance_callback c
   SET token = NULL, last_error = 'receiver_resting',
       url = CASE WHEN c.give_up_at <= statement_timestamp() THEN '' ELSE c.url END,
       state = CASE WHEN c.give_up_at <= statement_timestamp() THEN 'given_up' ELSE 'waiting' END,
       next_attempt_at = CASE WHEN c.give_up_at > statement_timestamp()
                              THEN least(c.give_up_at, statement_timestamp() + make_interval(secs => %(wait)s)) END
 WHERE c.id = ANY(ARRAY(
       SELECT d.id FROM compliance_callback d
        WHERE d.state = 'waiting' AND d.chatbot_id = %(chatbot)s AND starts_with(d.url, %(receiver)s)
          AND d.next_attempt_at <= statement_timestamp()
        ORDER BY d.next_attempt_at LIMIT %(most)s FOR UPDATE SKIP LOCKED) || ARRAY(
       SELECT d.id FROM compliance_callback d
        WHERE d.id = ANY(%(taken)s::uuid[]) AND d.token = %(token)s FOR UPDATE SKIP LOCKED))
RETURNING id, chatbot_id, request_id, status, state, attempts, last_status, last_error
"""

# Nor does a request, once that is so of its final state.
_FORGET = "UPDATE compliance_compliancerequest SET callback_url = '' WHERE id = ANY(%s) AND callback_url <> ''"
_FINAL = (Status.COMPLETED, Status.REJECTED, Status.CANCELLED)


@dataclass(frozen=True)
class Taken:
    """A leased callback: its content and receiver."""

    slug: str
    id: UUID
    chatbot_id: int
    request_id: UUID
    kind: str
    reference: str
    status: str
    hold_reason: str | None
    result: str | None
    error_code: str
    occurred_at: datetime
    url: str

    @property
    def receiver(self) -> tuple[int, str]:
        """The key of the breaker: a host may serve several chatbots, with separate failures."""
        return self.chatbot_id, receiver_of(self.url) or ""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a call. `error` is empty when it was delivered; `status` is that of the answer, if one came."""

    status: int | None = None
    error: Failure | None = None


def take(token: UUID, *, room: int, busy: Mapping[int, int]) -> list[Taken]:
    """Take callbacks that are due, at most `room`; `busy` says how many each chatbot has on its way already.

    Nothing is taken while as many other workers call clients as may at a time.
    """
    with transaction.atomic():
        shared = shares((one for (one,) in fetch(_CHATBOTS)), room=room, busy=busy) if may_take(token) else {}
        if not shared:
            return []
        values = {"token": token, "lease": LEASE_SECONDS, "chatbots": array(shared), "shares": array(shared.values())}
        rows = fetch(_TAKE, values)
        # By a statement of its own: an UPDATE that reads chatbots cannot ask the clock (docs/scaling.md).
        slugs = dict(Chatbot.objects.filter(pk__in={row[1] for row in rows}).values_list("pk", "slug"))
        _drop([row[0] for row in rows if row[1] not in slugs])
        return [Taken(slugs[row[1]], *row) for row in rows if row[1] in slugs]


def _drop(orphans: Collection[UUID]) -> None:
    """Delete callbacks whose chatbot is gone: nothing signs them, and they would come up again and again.

    By hand somebody can delete one where tables are distributed, and no foreign key forbids it.
    """
    if orphans:
        execute("DELETE FROM compliance_callback WHERE id = ANY(%s)", [array(orphans)])
        logger.warning("callback.without_chatbot callbacks=%s", ",".join(map(str, orphans)))


def is_due() -> bool:
    """Return whether callbacks are due."""
    [(due,)] = fetch(f"SELECT EXISTS ({_CHATBOTS})")
    return bool(due)


def note(token: UUID, outcomes: Mapping[UUID, Outcome]) -> None:
    """Record the outcomes of calls, except of rows that another worker has taken meanwhile."""
    values = {
        "token": token,
        "ids": array(outcomes),
        "statuses": [outcome.status for outcome in outcomes.values()],
        "errors": [str(outcome.error or "") for outcome in outcomes.values()],
    }
    _write(_NOTE, values)


def let_rest(token: UUID, taken: Collection[Taken], *, receiver: tuple[int, str], seconds: float) -> None:
    """Put off what would go to a receiver that rests: what was taken, and what else is due, many at a time."""
    chatbot_id, origin = receiver
    values = {
        "token": token,
        "wait": seconds,
        "chatbot": chatbot_id,
        "receiver": f"{origin}/",
        "taken": array(one.id for one in taken),
        "most": _PUT_OFF,
    }
    _write(_REST, values)


def _write(statement: str, values: dict[str, Any]) -> None:
    with transaction.atomic():
        execute(BY_INDEX)
        written = fetch(statement, values)
        over = [row[2] for row in written if row[3] in _FINAL and row[4] != State.WAITING]
        if over:
            execute(_FORGET, [array(over)])
        changelog.record_all(_given_up(written))
    for callback_id, _, _, _, state, attempts, status, error in written:
        if state == State.DELIVERED:
            logger.info("callback.delivered callback=%s attempts=%s", callback_id, attempts)
        elif error != Failure.RECEIVER_RESTING or state == State.GIVEN_UP:
            event = "callback.given_up" if state == State.GIVEN_UP else "callback.attempt_failed"
            logger.warning(
                "%s callback=%s code=%s status=%s attempts=%s", event, callback_id, error, status, attempts
            )


def _given_up(written: Sequence[tuple[Any, ...]]) -> list[changelog.Entry]:
    return [
        changelog.entry(
            "callback.given_up",
            chatbot_id=chatbot_id,
            request_id=request_id,
            actor=_ACTOR,
            data={"callback": str(callback_id), "event": f"request.{status}", "code": error, "attempts": attempts},
        )
        for callback_id, chatbot_id, request_id, status, state, attempts, _, error in written
        if state == State.GIVEN_UP
    ]
