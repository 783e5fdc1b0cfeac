"""End the time that the console gives to cancel a deletion or redaction."""

from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from chatbots import changelog
from common.db import fetch
from compliance.cluster import notify
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests.decisions import lock
from compliance.requests.submit import CONSOLE_GRACE
from compliance.work import sql

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status


def start_now(*, request_id: UUID, actor: str) -> ComplianceRequest:
    """End the time that the console gives to cancel a deletion or redaction, and return the request.

    It ends only the console's time. It does not end the chatbot's own grace period, for which a deletion of the API
    waits too, the wait for four eyes, or the wait after an error. Raises Refused
    (`not_found`; `not_waiting`, with the reason).
    """
    with transaction.atomic():
        request = lock(request_id)
        if not sql.is_open():
            raise Refused("not_waiting", "The database was restored from a backup. Nothing starts before its replay.")
        [(now,)] = fetch("SELECT clock_timestamp()")
        if refusal := find_start_refusal(request, now):
            raise Refused("not_waiting", refusal)
        request.not_before = end_of_own_grace(request, now)
        request.save(update_fields=["not_before"])
        changelog.record("request.started_early", chatbot_id=request.chatbot_id, request_id=request.pk, actor=actor)
        notify.after_commit(notify.notify_workers)
    return request


def find_start_refusal(request: ComplianceRequest, now: datetime) -> str:
    """Return the reason why the console's time to cancel cannot be ended, or an empty text if it can be."""
    until = request.not_before if request.not_before and request.not_before > now else None
    own = end_of_own_grace(request, now)
    is_own = request.origin != ComplianceRequest.Origin.CONSOLE
    if until and not is_own:
        # The period at the time of filing also counts, if it was longer then.
        is_own = until > request.received_at + CONSOLE_GRACE or bool(own and own >= until)
    reasons = {
        "It is on hold: it needs a decision.": request.status == Status.ON_HOLD,
        f"It is {request.get_status_display().lower()}, not waiting.": request.status != Status.ACCEPTED,
        "A worker has taken it already.": bool(
            request.claim_id or request.started_at or request.cutoff_at or request.waiting_for
        ),
        "It waits after an error, and is tried again by itself.": bool(request.error_code),
        "It waits for nothing but a worker.": until is None,
        "It is neither a deletion nor a redaction.": request.kind not in {Kind.DELETION, Kind.REDACTION},
        "It waits for the chatbot's own grace period, which is not shortened.": is_own,
    }
    return next((text for text, applies in reasons.items() if applies), "")


def end_of_own_grace(request: ComplianceRequest, now: datetime) -> datetime | None:
    """Return the end of the chatbot's own grace period, or None if it is over. Redactions have none."""
    if request.kind == Kind.REDACTION:
        return None
    end = request.received_at + timedelta(minutes=request.chatbot.grace_minutes)
    return end if end > now else None
