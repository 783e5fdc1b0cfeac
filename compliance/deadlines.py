"""Deadlines of requests: the rules, `due_at`, and which requests are overdue or due soon.

A rule is `gdpr` (one month), `ccpa` (45 days) or a number of days. `due_at` is the last second of a day in the
chatbot's time zone. The day on which the person asked is not counted. By Art. 3 of Regulation (EEC, Euratom) No
1182/71, a month ends on the day with the same number, or on the last day of a shorter month, and moves past Saturday
and Sunday. Holidays are not known: the deadline is early then. The other rules do not move.

A deadline can be extended once, counted anew from the start: to three months (Art. 12(3) GDPR), or twice the days.
"""

from datetime import datetime, timedelta
from typing import NamedTuple, cast
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Coalesce, Now

from chatbots.models import CCPA, GDPR
from common.db import fetch
from common.texts import counted
from compliance.models import ComplianceRequest

Status = ComplianceRequest.Status

_CCPA_DAYS = 45

# Not over, so they can become overdue.
OPEN = (Status.ACCEPTED, Status.PROCESSING, Status.ON_HOLD, Status.FAILED)

DUE_SOON_WITHIN = timedelta(days=3)

# Both leave out requests whose person was answered. Due soon leaves out what had no more time than that from when the
# person asked.
_UNANSWERED = Q(answered_at=None)
IS_OVERDUE = Q(due_at__lte=Now()) & _UNANSWERED
IS_DUE_SOON = (
    Q(due_at__gt=Now(), due_at__lte=Now() + DUE_SOON_WITHIN)
    & Q(due_at__gt=Coalesce("requested_at", "received_at") + DUE_SOON_WITHIN)
    & _UNANSWERED
)

# The same of a request `r` in SQL.
OVERDUE_SQL = "(r.due_at <= statement_timestamp() AND r.answered_at IS NULL)"
DUE_SOON_SQL = f"""(r.due_at > statement_timestamp()
    AND r.due_at <= statement_timestamp() + interval '{DUE_SOON_WITHIN.days} days'
    AND r.due_at > coalesce(r.requested_at, r.received_at) + interval '{DUE_SOON_WITHIN.days} days'
    AND r.answered_at IS NULL)"""

# The end of a day is one second before the next one begins, and its 23:59:59. Where clocks change at midnight, one of
# the two is an hour too late: the day has no 23:59:59, or the next one has two beginnings.
_DUE_AT = """(
SELECT least((counted.day + time '23:59:59') AT TIME ZONE {zone},
             (counted.day + 1)::timestamp AT TIME ZONE {zone} - interval '1 second')
  FROM (SELECT CASE WHEN {rule} = 'gdpr' AND extract(isodow FROM last.day) > 5
                    THEN last.day + 8 - extract(isodow FROM last.day)::int ELSE last.day END AS day
          FROM (SELECT (({start} AT TIME ZONE {zone})::date
                        + CASE {rule} WHEN 'gdpr' THEN interval '{months} months'
                                      WHEN 'ccpa' THEN interval '{ccpa_days} days'
                                      ELSE make_interval(days => {times} * ({rule})::int) END)::date AS day) AS last
       ) AS counted)"""
_OF_CHATBOT = "SELECT b.deadline, {due_at} FROM chatbots_chatbot b WHERE b.id = %s"
# Requests of before can have more days than their rule.
_EXTENDED = """
SELECT greatest(r.due_at, {due_at})
  FROM compliance_compliancerequest r JOIN chatbots_chatbot b ON b.id = r.chatbot_id WHERE r.id = %s
"""


class Deadline(NamedTuple):
    rule: str
    due_at: datetime


def due_at_sql(*, start: str, rule: str, zone: str, is_extended: bool = False) -> str:
    """Return the expression of a deadline. The arguments are expressions of SQL; `start` is a timestamptz."""
    months, times = (3, 2) if is_extended else (1, 1)
    return _DUE_AT.format(start=start, rule=rule, zone=zone, months=months, times=times, ccpa_days=times * _CCPA_DAYS)


def deadline_from(start: datetime | None, *, chatbot_id: int) -> Deadline:
    """Return the deadline of a request that is filed now, by the chatbot's present rule. `start` defaults to now."""
    due_at = due_at_sql(start="coalesce(%s, statement_timestamp())", rule="b.deadline", zone="b.timezone")
    [found] = fetch(_OF_CHATBOT.format(due_at=due_at), [start, chatbot_id])
    return Deadline(*found)


def extended_due_at(request_id: UUID) -> datetime:
    """Return the deadline that an extension gives, by the rule of the request and the present zone of its chatbot."""
    due_at = due_at_sql(
        start="coalesce(r.requested_at, r.received_at)", rule="r.deadline", zone="b.timezone", is_extended=True
    )
    [(found,)] = fetch(_EXTENDED.format(due_at=due_at), [request_id])
    return cast("datetime", found)


def describe(rule: str, *, is_extended: bool = False) -> str:
    """Return the time that a rule gives, such as "one month (GDPR)"."""
    if rule == GDPR:
        return "three months (GDPR)" if is_extended else "one month (GDPR)"
    days = (_CCPA_DAYS if rule == CCPA else int(rule)) * (2 if is_extended else 1)
    return counted(days, "day") + (" (CCPA)" if rule == CCPA else "")
