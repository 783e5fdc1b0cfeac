"""Deadlines of requests: the rules, `due_at`, and which requests are overdue or due soon.

A rule is `gdpr` (one month), `ccpa` (45 days) or a number of days. `due_at` is the last second of a day in the
chatbot's time zone. The day on which the person asked is not counted. By Art. 3 of Regulation (EEC, Euratom) No
1182/71, a month ends on the day with the same number, or on the last day of a shorter month, and moves past Saturday
and Sunday. Holidays are not known: the deadline is early then. The other rules do not move.

A deadline can be extended once, counted anew from the start: to three months (Art. 12(3) GDPR), or twice the days.
"""

from datetime import datetime, timedelta
from typing import Any, cast

from django.db.models import Q
from django.db.models.functions import Coalesce, Now

from chatbots.models import CCPA, GDPR, Chatbot
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


def due_at_sql(*, start: str, rule: str, zone: str, is_extended: bool = False) -> str:
    """Return the expression of a deadline. The arguments are expressions of SQL; `start` is a timestamptz.

    The function is in migration 0002. A zone that PostgreSQL does not know counts as UTC.
    """
    return f"compliance_due_at({start}, {zone}, {rule}, {is_extended})"


def deadline_from(start: datetime | None, *, chatbot_id: int) -> dict[str, Any]:
    """Return the fields of a request's deadline by the chatbot's present rule. `start` defaults to now."""
    rule, zone = Chatbot.objects.values_list("deadline", "timezone").get(pk=chatbot_id)
    return {"deadline": rule, "due_at": _due_at(start, rule, zone)}


def extended_due_at(request: ComplianceRequest) -> datetime:
    """Return the deadline that an extension gives, by the rule of the request and the present zone of its chatbot."""
    start = request.requested_at or request.received_at
    # It is never an earlier one, also if the chatbot's zone was changed.
    return max(request.due_at, _due_at(start, request.deadline, request.chatbot.timezone, is_extended=True))


def _due_at(start: datetime | None, rule: str, zone: str, *, is_extended: bool = False) -> datetime:
    # Without a table: on Citus, only the coordinator has the function.
    expression = due_at_sql(
        start="coalesce(%s, statement_timestamp())", zone="%s", rule="%s", is_extended=is_extended
    )
    [(found,)] = fetch(f"SELECT {expression}", [start, zone, rule])
    return cast("datetime", found)


def describe(rule: str, *, is_extended: bool = False) -> str:
    """Return the time that a rule gives, such as "one month (GDPR)"."""
    if rule == GDPR:
        return "three months (GDPR)" if is_extended else "one month (GDPR)"
    days = (_CCPA_DAYS if rule == CCPA else int(rule)) * (2 if is_extended else 1)
    return counted(days, "day") + (" (CCPA)" if rule == CCPA else "")
