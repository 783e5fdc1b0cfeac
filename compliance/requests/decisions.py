"""What people and clients decide of a request that is filed: approve, reject, cancel, retry.

A decision may have a reason, one of `compliance.requests.reasons` for it, and a note in free words, which may name
somebody: `compliance.notes` says when it goes. Both are optional here. All raise Refused(`invalid`) for a
reason or a note that they do not take.
"""

from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from chatbots import changelog
from chatbots.models import Chatbot
from compliance import notes
from compliance.erasure import extracts
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import reasons
from compliance.requests.reasons import Decision
from compliance.work import notify
from compliance.work.outbox import announce

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status


_OWN = "Four eyes are asked for here: another person than who filed must approve."
_OWN_BY_API = "Four eyes are asked for here: what a key has filed is approved by an officer, in the console."


class _Why(NamedTuple):
    reason: str | None
    note: str


def approve(
    *, request_id: UUID, actor: str, reason: str | None = None, note: str = "", held_for: str | None = None
) -> ComplianceRequest:
    """Let a held request go on, past what held it. What else there is to hold it is asked about anew.

    `held_for` is the reason for the hold that whoever approves has seen. By the time they decide another one can
    hold it. Raises Refused (`not_found`, `not_held`, also for another reason than that; `own_request`).
    """
    why = _why(Decision.APPROVE, reason, note)
    with transaction.atomic():
        request = _lock(request_id)
        _require_held(request)
        if held_for not in {None, request.hold_reason}:
            raise Refused("not_held", "It is held for another reason by now. Look at it again.")
        if needs_another(request, actor):
            raise Refused("own_request", _OWN_BY_API if _party(actor) == "api" else _OWN)
        request.approved_holds.append(str(request.hold_reason))
        request.status, request.hold_reason = Status.ACCEPTED, None
        request.approved_by, request.approved_at = actor, Now()
        request.save(update_fields=["status", "hold_reason", "approved_by", "approved_at", "approved_holds"])
        _record("request.approved", request, actor, why)
        notify.notify_workers_after_commit()
    request.refresh_from_db()
    return request


def reject(*, request_id: UUID, actor: str, reason: str | None = None, note: str = "") -> ComplianceRequest:
    """End a held request without carrying it out. Raises Refused (`not_found`, `not_held`)."""
    why = _why(Decision.REJECT, reason, note)
    with transaction.atomic():
        request = _lock(request_id)
        _require_held(request)
        _end(request, Status.REJECTED)
        _record("request.rejected", request, actor, why)
        notify.notify_workers_after_commit()
    request.refresh_from_db()
    return request


def cancel(*, request_id: UUID, actor: str, reason: str | None = None, note: str = "") -> ComplianceRequest:
    """Withdraw a request that has not begun. One that is cancelled already is returned as it is.

    Raises Refused (`not_found`, `not_cancellable`).
    """
    why = _why(Decision.CANCEL, reason, note)
    with transaction.atomic():
        request = _lock(request_id)
        if request.status == Status.CANCELLED:
            return request
        if not is_cancellable(request):
            raise Refused("not_cancellable", "The request has begun or is already final.")
        _end(request, Status.CANCELLED)
        _record("request.cancelled", request, actor, why)
        notify.notify_workers_after_commit()
    request.refresh_from_db()
    return request


def retry(*, request_id: UUID, actor: str, reason: str | None = None, note: str = "") -> ComplianceRequest:
    """Requeue a failed request with fresh attempts, and so the extracts that it waits for.

    Raises Refused (`not_found`, `not_retryable`: not failed, or the chatter was erased since).
    """
    why = _why(Decision.RETRY, reason, note)
    with transaction.atomic():
        request = _lock(request_id)
        if not is_retryable(request):
            raise Refused(
                "not_retryable",
                "Only a failed request whose chatter has not been erased since can be retried.",
            )
        request.status, request.attempts = Status.ACCEPTED, 0
        if request.lane == ComplianceRequest.Lane.NORMAL:
            request.lane = ComplianceRequest.Lane.ISOLATED
        request.queued_at, request.not_before, request.waiting_for = Now(), None, None
        request.error_code = request.error_detail = ""
        request.failed_at = None
        request.save(
            update_fields=[
                "status",
                "attempts",
                "lane",
                "queued_at",
                "not_before",
                "waiting_for",
                "error_code",
                "error_detail",
                "failed_at",
            ]
        )
        extracts.try_again([request.pk])
        _record("request.retried", request, actor, why)
        notify.notify_workers_after_commit()
    request.refresh_from_db()
    return request


def retry_all_failed(
    *, code: str, actor: str, chatbot: Chatbot | None = None, reason: str | None = None, dry_run: bool = False
) -> int:
    """Retry what failed by this code, of one chatbot or of all, each in a transaction of its own; return how many.

    In the order of filing. What is retried by somebody else meanwhile is passed over. Raises Refused(`invalid`).
    """
    reasons.check(Decision.RETRY, reason)
    failed = ComplianceRequest.objects.filter(NAMES_SOMEBODY, status=Status.FAILED, error_code=code)
    if chatbot is not None:
        failed = failed.filter(chatbot=chatbot)
    ids = list(failed.order_by("seq").values_list("pk", flat=True))
    if dry_run:
        return len(ids)
    return sum(_is_retried(request_id, actor, reason) for request_id in ids)


def _is_retried(request_id: UUID, actor: str, reason: str | None) -> bool:
    try:
        retry(request_id=request_id, actor=actor, reason=reason)
    except Refused:
        return False
    return True


def needs_another(request: ComplianceRequest, actor: str) -> bool:
    """Say whether four eyes are asked for, and somebody else than the actor has to approve."""
    return request.chatbot.four_eyes and _party(request.filed_by) == _party(actor)


def is_cancellable(request: ComplianceRequest) -> bool:
    waits = request.status in {Status.ACCEPTED, Status.ON_HOLD} and request.claim_id is None
    has_marked = request.kind == Kind.DELETION and request.cutoff_at is not None
    return waits and not has_marked


def is_retryable(request: ComplianceRequest) -> bool:
    names_somebody = request.uci_value is not None or request.conversation_digests is not None
    return request.status == Status.FAILED and names_somebody


# The second half of `is_retryable`, for queries: whoever asks so does not read whom the request names.
NAMES_SOMEBODY = Q(uci_value__isnull=False) | Q(conversation_digests__isnull=False)


def _party(actor: str) -> str:
    """Return who stands behind an actor, as far as can be told: all keys of a chatbot may be in one hand."""
    return "api" if actor.startswith("api:") else actor


def _lock(request_id: UUID) -> ComplianceRequest:
    # Without its chatbot: where the lock is waited for, that would be as it was before.
    request = ComplianceRequest.objects.select_for_update().filter(pk=request_id).first()
    if request is None:
        raise Refused("not_found", "There is no such request.")
    return request


def _require_held(request: ComplianceRequest) -> None:
    if request.status != Status.ON_HOLD:
        raise Refused("not_held", f"The request is {request.get_status_display().lower()}, not on hold.")


def _end(request: ComplianceRequest, status: Status) -> None:
    """Reach a final state without having done anything: the request forgets whom it named."""
    request.status, request.hold_reason, request.uci_value = status, None, None
    field = "rejected_at" if status == Status.REJECTED else "cancelled_at"
    setattr(request, field, Now())
    request.save(update_fields=["status", "hold_reason", "uci_value", field])
    announce([request.pk])


def _why(decision: Decision, reason: str | None, note: str) -> _Why:
    reasons.check(decision, reason)
    return _Why(reason, notes.checked(note))


def _record(event: str, request: ComplianceRequest, actor: str, why: _Why) -> None:
    data = {"reason": why.reason} if why.reason else {}
    entry_id = changelog.record(event, chatbot_id=request.chatbot_id, request_id=request.pk, actor=actor, data=data)
    notes.write(request, entry_id=entry_id, text=why.note)
