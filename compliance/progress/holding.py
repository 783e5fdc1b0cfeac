"""Hold requests, and let those go on that held each other up."""

from collections.abc import Mapping
from uuid import UUID

from django.db import connection, transaction

from chatbots import changelog
from compliance.callbacks.announcing import announce
from compliance.claims import HeldClaim
from compliance.models import ComplianceRequest
from compliance.progress.claimed import ACTOR, claimed, log

Status = ComplianceRequest.Status

_RELEASE = """
UPDATE compliance_compliancerequest r SET status = 'accepted', hold_reason = NULL
 WHERE r.status = 'on_hold' AND r.hold_reason = 'export_pending'
   AND NOT EXISTS (
       SELECT 1 FROM compliance_compliancerequest earlier
        WHERE earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest
          AND earlier.seq < r.seq AND earlier.kind = 'export' AND earlier.status IN ('failed', 'on_hold')
          AND earlier.uci_value IS NOT NULL)
RETURNING r.id, r.chatbot_id
"""


def hold(held: HeldClaim, reasons: Mapping[UUID, ComplianceRequest.HoldReason]) -> None:
    """Put requests on hold, out of the claim, before anything of theirs is touched."""
    with held.bite() as now:
        requests = claimed(held, reasons)
        for reason in set(reasons.values()):
            ids = [request_id for request_id, why in reasons.items() if why == reason]
            ComplianceRequest.objects.filter(pk__in=ids, claim=held.id).update(
                status=Status.ON_HOLD, hold_reason=reason, held_at=now, claim=None
            )
        announce([request.pk for request in requests])
        log("request.held", requests, lambda request: {"reason": str(reasons[request.pk])})


def release_export_pending() -> int:
    """Let deletions go on whose earlier export is no longer failed or on hold; return how many.

    Whether that export is delivered, given up (it has forgotten the chatter) or in the line again: in each case
    the order of the line is enough from here. Set-wise and cheap, so every drain and sweep begins with it.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_RELEASE)
            released = cursor.fetchall()
        changelog.record_all(
            [
                changelog.entry(
                    "request.released",
                    chatbot_id=chatbot_id,
                    request_id=request_id,
                    actor=ACTOR,
                    data={"reason": "export_pending"},
                )
                for request_id, chatbot_id in released
            ]
        )
    return len(released)
