"""File deletions of what partial ones have left out, since a legal hold covers it."""

from collections.abc import Collection
from uuid import UUID

from uuid_utils.compat import uuid7

from compliance.cluster import notify
from compliance.models import ComplianceRequest, LedgerLine, RequestSubject
from compliance.work.outbox import log

HoldReason = ComplianceRequest.HoldReason

# A deletion that leaves out conversations is continued by another one, which keeps its clock and its approvals.
_OF_REST = (
    *("chatbot_id", "kind", "origin", "filed_by", "variable_id", "uci_value", "uci_digest", "named_conversations"),
    *("reference", "callback_url", "erase_exports", "include_shared", "deadline", "due_at"),
    *("extended_at", "extended_by", "extension_reason", "answered_at"),
    *("approved_at", "approved_by"),
)


def file(request_ids: Collection[UUID]) -> None:
    """File deletions of the conversations under a legal hold that these leave out, in the caller's transaction.

    Each is held like any other deletion once a worker takes it, unless the hold was released meanwhile. A replayed
    deletion keeps its cutoff, and so does its rest: its release erases nothing newer. None is filed twice, after a
    restore whose ledger has it.
    """
    partial = ComplianceRequest.objects.filter(pk__in=request_ids, continued_by=None)
    # One that was withdrawn before a restore has a line alone.
    lines = LedgerLine.objects.filter(line__continues__in=[str(each) for each in request_ids])
    partial = partial.exclude(pk__in=list(lines.values_list("line__continues", flat=True)))
    entries = []
    for request in partial.order_by("seq"):
        rest = ComplianceRequest(
            id=uuid7(),
            requested_at=request.requested_at or request.received_at,
            continues=request,
            # An export that was filed since comes first: nobody has decided about that one.
            approved_holds=[each for each in request.approved_holds if each != HoldReason.EXPORT_PENDING],
            **{name: getattr(request, name) for name in _OF_REST},
        )
        if request.origin == ComplianceRequest.Origin.REPLAY:
            rest.started_at, rest.cutoff_at = request.started_at, request.cutoff_at
            rest.cutoff_number = request.cutoff_number
        rest.save(force_insert=True)
        RequestSubject.objects.bulk_create(
            RequestSubject(request=rest, chatbot_id=rest.chatbot_id, digest=digest)
            for digest in request.subjects.order_by("pk").values_list("digest", flat=True)
        )
        entries.append((rest.pk, rest.chatbot_id, {"kind": str(rest.kind), "origin": str(rest.origin)}))
    log("request.accepted", entries)
    notify.after_commit(notify.notify_workers)
