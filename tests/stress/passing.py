"""Time that passes: for what waits, for claims, for an export."""

from typing import Any
from uuid import UUID

from django.db import connection

from chatbots.models import Chatbot

# An hour passes for everything that waits. Locked rows are in use, and wait for nothing.
_HOUR_PASSES = """
UPDATE compliance_compliancerequest SET not_before = clock_timestamp() - interval '1 second'
 WHERE id IN (SELECT id FROM compliance_compliancerequest
               WHERE status = 'accepted' AND not_before > clock_timestamp() FOR UPDATE SKIP LOCKED);
UPDATE conversations_dailyextract
   SET not_before = NULL, stale_at = stale_at - interval '1 hour', created_at = created_at - interval '1 hour'
 WHERE id IN (SELECT id FROM conversations_dailyextract WHERE state IN ('pending', 'stale') FOR UPDATE SKIP LOCKED)
"""
_LEASES_END = """
UPDATE compliance_claim SET expires_at = clock_timestamp() - interval '1 second'
 WHERE id IN (SELECT id FROM compliance_claim FOR UPDATE SKIP LOCKED);
UPDATE conversations_dailyextract SET claimed_until = clock_timestamp() - interval '1 second'
 WHERE id IN (SELECT id FROM conversations_dailyextract WHERE claimed_until IS NOT NULL FOR UPDATE SKIP LOCKED)
"""
_LOOKUPS_ARE_DUE = """
UPDATE conversations_identitylookup SET next_attempt_at = statement_timestamp() - interval '1 second'
 WHERE chatbot_id = %(chatbot)s AND id IN (
       SELECT id FROM conversations_identitylookup
        WHERE chatbot_id = %(chatbot)s AND state = 'pending' AND (token IS NOT NULL) = %(taken)s
          FOR UPDATE SKIP LOCKED)
"""
_WEEK_PASSES = """
UPDATE compliance_export
   SET finished_at = finished_at - interval '8 days', expires_at = expires_at - interval '8 days'
 WHERE request_id = %s AND finished_at IS NOT NULL
"""


def hour() -> None:
    _execute(_HOUR_PASSES)
    _make_lookups_due(taken=False)


def leases() -> None:
    """Let all claims end."""
    _execute(_LEASES_END)
    _make_lookups_due(taken=True)


def week(request_id: UUID) -> None:
    """Let the export of a request be eight days old."""
    _execute(_WEEK_PASSES, request_id)


def _make_lookups_due(*, taken: bool) -> None:
    for chatbot in Chatbot.objects.order_by("pk"):
        with connection.cursor() as cursor:
            cursor.execute(_LOOKUPS_ARE_DUE, {"chatbot": chatbot.pk, "taken": taken})


def _execute(statements: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statements, values or None)
