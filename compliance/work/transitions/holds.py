"""Hold requests, and let those go on that held each other up."""

from collections.abc import Mapping
from uuid import UUID

from django.db import transaction

from chatbots import changelog
from common.arrays import array
from common.db import execute, fetch
from compliance.models import ComplianceRequest
from compliance.work.claims import HeldClaim
from compliance.work.outbox import announce
from compliance.work.sql import SHARING
from compliance.work.transitions.claimed import ACTOR, claimed, log

Status = ComplianceRequest.Status

_RELEASE = f"""
UPDATE compliance_compliancerequest r SET status = 'accepted', hold_reason = NULL
 WHERE r.status = 'on_hold' AND r.hold_reason = 'export_pending'
   AND NOT EXISTS (
       SELECT 1 FROM compliance_compliancerequest earlier
        WHERE earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest
          AND earlier.seq < r.seq AND earlier.kind = 'export' AND earlier.status IN ('failed', 'on_hold')
          AND earlier.uci_value IS NOT NULL)
   AND (r.conversation_digests IS NULL OR NOT EXISTS (
       SELECT 1 FROM {SHARING} AS earlier
        WHERE earlier.seq < r.seq AND earlier.kind = 'export' AND earlier.status IN ('failed', 'on_hold')))
   AND NOT EXISTS (
       SELECT 1 FROM compliance_compliancerequest e
        WHERE e.id = r.pending_export_id AND e.status IN ('accepted', 'on_hold', 'processing', 'failed')
          AND (e.uci_value IS NOT NULL OR e.conversation_digests IS NOT NULL))
RETURNING r.id, r.chatbot_id
"""


_WAIT_FOR = """
UPDATE compliance_compliancerequest r SET pending_export_id = pending.export_id
  FROM unnest(%s::uuid[], %s::uuid[]) AS pending(id, export_id) WHERE r.id = pending.id AND r.claim_id = %s
"""


def hold(
    held: HeldClaim,
    reasons: Mapping[UUID, ComplianceRequest.HoldReason],
    *,
    pending: Mapping[UUID, UUID],
) -> None:
    """Put requests on hold, out of the claim, before anything of theirs is touched.

    `pending` says of those held for an export by the other selector which one it is: the line does not order them.
    """
    with held.transaction() as now:
        requests = claimed(held, reasons)
        if pending:
            execute(_WAIT_FOR, [array(pending), array(pending.values()), held.id])
        for reason in set(reasons.values()):
            ids = [request_id for request_id, why in reasons.items() if why == reason]
            ComplianceRequest.objects.filter(pk__in=ids, claim=held.id).update(
                status=Status.ON_HOLD, hold_reason=reason, held_at=now, claim=None, waiting_for=None
            )
        announce([request.pk for request in requests])
        log("request.held", requests, lambda request: {"reason": str(reasons[request.pk])})


def release_export_pending() -> int:
    """Let deletions go on whose earlier export is no longer failed or on hold, or, by the other selector, is over.

    Return how many. Whether that export is delivered, given up (it has forgotten the chatter) or in the line again:
    in each case the order of the line is enough from here. Set-wise and cheap, so every drain and sweep begins with
    it.
    """
    with transaction.atomic():
        released = fetch(_RELEASE)
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
