"""Counts of requests for the dashboard. Each is bounded: beyond its limit it reads "10,000+"."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from common.db import array, fetch
from compliance.deadlines import DUE_SOON_SQL, OPEN, OVERDUE_SQL
from compliance.models import ComplianceRequest
from compliance.requests.queries import CLOCKS_APART, first_id
from compliance.work.due import CAN_CONTINUE_SQL, describe_state
from conversations.models import RefusedIdentity
from conversations.models.conversations import EARLIEST

Status = ComplianceRequest.Status

# The oldest requests of each state of one chatbot, so that those that are due are among them.
MOST_COUNTED = 10_000
# Of all chatbots together, roughly.
_MOST_READ = 40_000
# Of a period.
MOST_OF_PERIOD = 200_000
_MOST_SHOWN = 8
# Of refused identities, of all chatbots together.
_MOST_LISTED = 1_000

# Each state is a range of the index whose condition is repeated here.
_OPEN_OF_CHATBOTS = f"""
  FROM unnest(%(chatbots)s::bigint[]) AS c(id)
 CROSS JOIN unnest(%(open)s::text[]) AS s(status)
 CROSS JOIN LATERAL (
    SELECT o.*, row_number() OVER (ORDER BY o.id) AS place
      FROM (SELECT r.id, r.chatbot_id, r.kind, r.status, r.hold_reason, r.error_code, r.due_at, r.received_at,
                   r.requested_at, r.answered_at, {CAN_CONTINUE_SQL} AS can_continue
              FROM compliance_compliancerequest r
             WHERE r.chatbot_id = c.id AND r.chatbot_id > 0 AND NOT (r.status = 'completed') AND r.status = s.status
             ORDER BY r.id LIMIT %(most)s) AS o
 ) AS r
"""  # noqa: S608  (a text of ours)
# The last row read is not counted: it only shows that there are more.
_OPEN = f"""
SELECT r.status, r.kind, count(*) FILTER (WHERE NOT r.is_last), bool_or(r.is_last),
       count(*) FILTER (WHERE NOT r.is_last AND r.is_late), coalesce(bool_or(r.is_last AND r.is_late), FALSE),
       count(*) FILTER (WHERE NOT r.is_last AND r.is_soon), coalesce(bool_or(r.is_last AND r.is_soon), FALSE)
  FROM (SELECT r.status, r.kind, r.place = %(most)s AS is_last, r.can_continue AND {OVERDUE_SQL} AS is_late,
               r.can_continue AND {DUE_SOON_SQL} AS is_soon
          {_OPEN_OF_CHATBOTS}) AS r
 GROUP BY 1, 2
"""  # noqa: S608  (a text of ours)

_NEEDS_ATTENTION = f"""
SELECT r.id, b.slug, b.name, r.kind, r.status, r.hold_reason, r.error_code, r.received_at, r.due_at,
       {OVERDUE_SQL} AS is_overdue
  {_OPEN_OF_CHATBOTS}
  JOIN chatbots_chatbot b ON b.id = r.chatbot_id
 WHERE r.status IN ('on_hold', 'failed') OR {OVERDUE_SQL}
 ORDER BY is_overdue DESC, r.due_at, r.id LIMIT %(shown)s
"""

# One pass over the period: ids begin with the time. All chatbots are in one condition with values that PostgreSQL
# knows. It then reads by chatbot if they have little of the period, and by time alone if they have most of it.
_PERIOD = """
WITH seen AS MATERIALIZED (
    SELECT r.kind, r.status, (r.received_at AT TIME ZONE %(zone)s)::date AS day,
           extract(epoch FROM r.completed_at - r.received_at) AS seconds
      FROM compliance_compliancerequest r
     WHERE r.chatbot_id = ANY(%(chatbots)s::bigint[]) AND r.id >= %(first)s AND r.received_at >= %(since)s
     ORDER BY r.id DESC LIMIT %(most)s
)
SELECT (SELECT count(*) FROM seen),
       (SELECT coalesce(json_agg(one), '[]') FROM (
            SELECT kind, day, count(*) AS number FROM seen GROUP BY 1, 2) AS one),
       (SELECT coalesce(json_agg(one), '[]') FROM (
            SELECT kind, status, count(*) AS number FROM seen GROUP BY 1, 2) AS one),
       (SELECT coalesce(json_agg(one), '[]') FROM (
            SELECT kind, count(*) AS number,
                   percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds) AS seconds
              FROM seen WHERE status = 'completed' GROUP BY 1) AS one)
"""


class Number(NamedTuple):
    """A number, or the limit at which counting stopped."""

    value: int
    is_whole: bool

    def __str__(self) -> str:
        return f"{self.value:,}" if self.is_whole else f"{self.value:,}+"


@dataclass(frozen=True)
class OpenRequests:
    by_status: dict[Status, Number]
    overdue: Number
    due_soon: Number


@dataclass(frozen=True)
class AttentionItem:
    """A request that waits for a person, or that is overdue."""

    id: UUID
    slug: str
    chatbot: str
    kind: str
    status: str
    hold_reason: str | None
    error_code: str
    received_at: datetime
    due_at: datetime
    is_overdue: bool

    @property
    def kind_label(self) -> str:
        return ComplianceRequest.Kind(self.kind).label

    @property
    def why(self) -> str:
        return describe_state(self.status, self.hold_reason, self.error_code)


class Duration(NamedTuple):
    """The time from filing to completion, of the completed requests of a kind."""

    number: int
    median: timedelta
    percentile_95: timedelta


@dataclass(frozen=True)
class Period:
    """The requests filed in a period: by day, by present state, and the durations of the completed ones.

    A duration begins with the filing. It includes a grace period, a hold and the wait for a worker, since the person
    waited for all of these. `is_whole` is false if only MOST_OF_PERIOD of the requests were read.
    """

    per_day: dict[tuple[str, date], int]
    by_status: dict[tuple[str, str], int]
    durations: dict[str, Duration]
    number: int
    is_whole: bool


def open_now(chatbots: Collection[int]) -> OpenRequests:
    """Count the requests that have not ended: the oldest of each state of a chatbot, up to a limit."""
    most = MOST_COUNTED if len(chatbots) <= 1 else min(MOST_COUNTED, max(500, _MOST_READ // len(chatbots)))
    rows = fetch(_OPEN, _of(chatbots) | {"most": most + 1})
    return OpenRequests(
        by_status={status: _sum([row for row in rows if row[0] == status], 2) for status in OPEN},
        overdue=_sum(rows, 4),
        due_soon=_sum(rows, 6),
    )


def needs_attention(chatbots: Collection[int], *, most: int = _MOST_SHOWN) -> list[AttentionItem]:
    """Return the requests that need attention: first overdue ones, then held or failed ones, each by due time."""
    values = _of(chatbots) | {"most": most, "shown": most}
    return [AttentionItem(*row) for row in fetch(_NEEDS_ATTENTION, values)]


def refused_identities(chatbots: Collection[int]) -> Number:
    listed = RefusedIdentity.objects.filter(chatbot__in=chatbots, at__gt=EARLIEST)
    found = listed[: _MOST_LISTED + 1].count()
    return Number(min(found, _MOST_LISTED), found <= _MOST_LISTED)


def filed_since(chatbots: Collection[int], *, since: datetime, zone: str) -> Period:
    values = {
        "chatbots": array(chatbots),
        "zone": zone,
        "since": since,
        "first": first_id(since - CLOCKS_APART),
        "most": MOST_OF_PERIOD,
    }
    [(number, days, states, durations)] = fetch(_PERIOD, values)
    return Period(
        per_day={(row["kind"], date.fromisoformat(row["day"])): row["number"] for row in _rows(days)},
        by_status={(row["kind"], row["status"]): row["number"] for row in _rows(states)},
        durations={
            row["kind"]: Duration(row["number"], *(timedelta(seconds=each) for each in row["seconds"]))
            for row in _rows(durations)
        },
        number=number,
        is_whole=number < MOST_OF_PERIOD,
    )


def _of(chatbots: Collection[int]) -> dict[str, Any]:
    return {"chatbots": array(chatbots), "open": [status.value for status in OPEN]}


def _sum(rows: Sequence[tuple[Any, ...]], place: int) -> Number:
    """Sum a column of _OPEN. The next column tells whether there are more."""
    return Number(sum(row[place] for row in rows), not any(row[place + 1] for row in rows))


def _rows(found: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(found) if isinstance(found, str) else found
    return rows
