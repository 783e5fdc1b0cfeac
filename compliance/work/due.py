"""Open requests by their deadline, for the page Due and the digest of officers.

Left out are requests whose person was answered, and failed ones that cannot be retried: no one can do anything about
them, and they stay for good.
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from common.db import array, fetch
from compliance.deadlines import DUE_SOON_SQL, OPEN, OVERDUE_SQL
from compliance.models import ComplianceRequest

# The requests that are due first, of all chatbots together.
MOST_LISTED = 10_000
# Requests to read for all chatbots together, roughly: an equal share per chatbot and state, but at least a few.
_MOST_READ = 40_000
_FEWEST = 500

# Of a request `r`: whether it can still be completed. It cannot if it has failed and has lost its subject
# (`requests.decisions.HAS_SUBJECT`).
CAN_CONTINUE_SQL = """(r.status <> 'failed' OR r.uci_value IS NOT NULL OR r.named_conversations IS NOT NULL
    OR r.kind IN ('retention', 'redaction') OR (r.origin = 'replay' AND r.uci_digest IS NOT NULL))"""

# The oldest of each state, which are mostly due first; but the newest failed ones, since those that cannot be retried
# must not hide the others. The condition repeats that of a partial index.
_ONE_STATE = """
    SELECT o.*, row_number() OVER () = %(most)s AS is_last
      FROM (SELECT r.* FROM compliance_compliancerequest r
             WHERE r.chatbot_id = c.id AND r.chatbot_id > 0 AND NOT (r.status = 'completed') AND r.status = {status}
               AND r.answered_at IS NULL AND {can_continue}
             ORDER BY r.id {order} LIMIT %(most)s) AS o
"""
_GOING_ONES = _ONE_STATE.format(status="s.status", can_continue="TRUE", order="")
_FAILED_ONES = _ONE_STATE.format(status="'failed'", can_continue=CAN_CONTINUE_SQL, order="DESC")
_BY_DEADLINE = f"""
SELECT r.id, r.chatbot_id, r.kind, r.status, r.hold_reason, r.error_code, r.due_at, {OVERDUE_SQL}, {DUE_SOON_SQL},
       r.is_last
  FROM unnest(%(chatbots)s::bigint[]) AS c(id)
 CROSS JOIN LATERAL (
    SELECT one.* FROM unnest(%(going)s::text[]) AS s(status)
     CROSS JOIN LATERAL ({_GOING_ONES}) AS one
     UNION ALL
    SELECT one.* FROM ({_FAILED_ONES}) AS one
 ) AS r
 ORDER BY r.due_at, r.id LIMIT %(listed)s
"""


class DueRequest(NamedTuple):
    id: UUID
    chatbot_id: int
    kind: str
    status: str
    hold_reason: str | None
    error_code: str
    due_at: datetime
    is_overdue: bool
    is_soon: bool


class DueRequests(NamedTuple):
    """Open requests, those that are due first at the beginning. `is_whole` is false if there may be others."""

    requests: list[DueRequest]
    is_whole: bool


def by_deadline(chatbots: Collection[int]) -> DueRequests:
    """Return the open requests of some chatbots in the order of their deadlines, up to MOST_LISTED. One statement."""
    values = {
        "chatbots": array(chatbots),
        "going": [status.value for status in OPEN if status != "failed"],
        "most": max(_FEWEST, _MOST_READ // (len(OPEN) * max(1, len(chatbots)))),
        "listed": MOST_LISTED + 1,
    }
    rows = fetch(_BY_DEADLINE, values)
    is_whole = len(rows) <= MOST_LISTED and not any(is_last for *_, is_last in rows)
    return DueRequests([DueRequest(*found) for *found, _ in rows[:MOST_LISTED]], is_whole)


def describe_state(status: str, hold_reason: str | None, error_code: str) -> str:
    """Return the state of an open request in words, with why it is on hold or has failed."""
    label = ComplianceRequest.Status(status).label
    if status == "on_hold":
        reason = dict(ComplianceRequest.HoldReason.choices).get(hold_reason or "", "for another reason")
        return f"{label}: {reason}"
    return f"{label}: {error_code}" if status == "failed" else label
