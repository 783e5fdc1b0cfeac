"""Which requests are open, overdue or due soon: one definition for the console, mails and metrics."""

from datetime import timedelta

from django.db.models import Q
from django.db.models.functions import Coalesce, Now

from compliance.models import ComplianceRequest

Status = ComplianceRequest.Status

# Not over, so they can become overdue.
OPEN = (Status.ACCEPTED, Status.PROCESSING, Status.ON_HOLD, Status.FAILED)

DUE_SOON_WITHIN = timedelta(days=3)

# Due soon leaves out what had no more time than that from when the person asked.
IS_OVERDUE = Q(due_at__lte=Now())
IS_DUE_SOON = Q(due_at__gt=Now(), due_at__lte=Now() + DUE_SOON_WITHIN) & Q(
    due_at__gt=Coalesce("requested_at", "received_at") + DUE_SOON_WITHIN
)

# The same of a request `r` in SQL.
OVERDUE_SQL = "r.due_at <= statement_timestamp()"
DUE_SOON_SQL = f"""(r.due_at > statement_timestamp()
    AND r.due_at <= statement_timestamp() + interval '{DUE_SOON_WITHIN.days} days'
    AND r.due_at > coalesce(r.requested_at, r.received_at) + interval '{DUE_SOON_WITHIN.days} days')"""
