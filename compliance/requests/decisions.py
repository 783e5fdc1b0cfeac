"""Decisions about filed requests: approve, reject, cancel, retry, extend, erase what no legal hold covers.

Also: the person was answered.

A decision may have a reason, a code of a closed list, and a note in free words, which may contain personal data
(`compliance.work.free_text`). All raise Refused(`invalid`) for a reason or a note that they do not accept.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from chatbots import changelog
from chatbots.models import Chatbot
from common.db import fetch
from compliance import deadlines
from compliance.cluster import notify
from compliance.erasure import extracts
from compliance.errors import Refused
from compliance.models import Callback, ComplianceRequest, JournalEntry, RequestNote
from compliance.models.notes import MOST_CHARACTERS_OF_NOTE
from compliance.requests.reasons import REASONS, Decision, Letter
from compliance.retention import policy
from compliance.work import legal_holds
from compliance.work.outbox import announce
from compliance.work.scope import DELETIONS, REDACTIONS
from compliance.work.transitions import requeue

HoldReason = ComplianceRequest.HoldReason
Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

# The state of a request whose person gets the letter.
_STATE_OF_LETTER = {Letter.HELD: Status.ON_HOLD, Letter.REFUSED: Status.REJECTED}

_OWN = "This chatbot requires four eyes: a person other than the filer must approve."
_RESTORED = "It was filed again after a restore: an officer decides on it in the console. A key can only cancel it."
_BEGUN = (
    "It had begun to erase before the database was restored. It goes on when the export that it waits for has ended, "
    "also by a cancellation, or when you approve it."
)
_UNDER_LEGAL_HOLD = (
    "A legal hold covers some of its data, which no approval overrides. It continues once the hold is released. An "
    "officer can let a deletion erase the rest."
)
_OWN_BY_API = "This chatbot requires four eyes: an officer approves requests of a key in the console."


def approve(
    *, request_id: UUID, actor: str, reason: str | None = None, note: str = "", held_for: str | None = None
) -> ComplianceRequest:
    """Let a held request continue past this hold. It can be held again for another reason.

    A request that waits in a chatbot with four eyes is approved in advance, and keeps its time. `held_for` is what
    the approver has seen: the hold reason, or the status of a request that was not on hold. Raises Refused
    (`not_found`; `officers_only`; `not_held`, also if it is held for another reason by now; `own_request`).
    """
    with _decide(Decision.APPROVE, request_id, actor, reason, note, event="request.approved") as request:
        _require_staff(request, actor)
        if not awaits_approval(request):
            _require_held(request)
        if request.hold_reason == HoldReason.LEGAL_HOLD:
            raise Refused("legal_hold", _UNDER_LEGAL_HOLD)
        if held_for not in {None, request.hold_reason or request.status}:
            raise Refused("not_held", "It is held for another reason by now. Check it again.")
        if needs_second_person(request, actor):
            raise Refused("own_request", _OWN_BY_API if party(actor) == "api" else _OWN)
        if policy.is_of_backup(request):
            policy.confirm(request)
        request.approved_holds += approved_with(request)
        request.status, request.hold_reason = Status.ACCEPTED, None
        request.approved_by, request.approved_at = actor, Now()
        # The person was told that it is held, which is not true any more.
        request.answered_at = None
        request.save(
            update_fields=["status", "hold_reason", "approved_by", "approved_at", "approved_holds", "answered_at"]
        )
    return request


def erase_unheld(*, request_id: UUID, actor: str, reason: str | None = None, note: str = "") -> ComplianceRequest:
    """Let a deletion under a legal hold erase what no hold covers; the rest is filed again when it completes.

    Raises Refused (`not_found`, `officers_only`, `not_held`: not by a legal hold; `legal_hold`: all of it is held).
    """
    with _decide(Decision.LIMIT, request_id, actor, reason, note, event="request.limited") as request:
        if party(actor) == "api":
            raise Refused("officers_only", "An officer decides in the console what a deletion under a hold erases.")
        if request.hold_reason != HoldReason.LEGAL_HOLD or request.kind != Kind.DELETION:
            raise Refused("not_held", "Only a deletion under a legal hold can erase a part of its data.")
        if request.cutoff_at is not None:
            raise Refused(
                "not_held", "It had erased before the database was restored, and erases the same as a whole."
            )
        if legal_holds.covers_all_of(request.pk, request.chatbot_id):
            raise Refused("legal_hold", "Legal holds cover all of its data, so there is nothing to erase yet.")
        request.withholds, request.status, request.hold_reason = True, Status.ACCEPTED, None
        request.save(update_fields=["withholds", "status", "hold_reason"])
    return request


def reject(*, request_id: UUID, actor: str, reason: str, note: str = "") -> ComplianceRequest:
    """End a held request without carrying it out, for a reason.

    Raises Refused (`not_found`, `officers_only`, `not_held`; `not_cancellable` if it has begun).
    """
    with _decide(Decision.REJECT, request_id, actor, reason, note, event="request.rejected") as request:
        _require_staff(request, actor)
        _require_held(request)
        if not is_cancellable(request):
            raise Refused("not_cancellable", _BEGUN)
        _end(request, Status.REJECTED, actor)
    return request


def cancel(*, request_id: UUID, actor: str, reason: str | None = None, note: str = "") -> ComplianceRequest:
    """Withdraw a request that has not begun, or a failed export. A cancelled request is returned unchanged.

    Raises Refused (`not_found`, `not_cancellable`).
    """
    with _decide(Decision.CANCEL, request_id, actor, reason, note, event="request.cancelled") as request:
        if request.status != Status.CANCELLED:
            if not is_cancellable(request):
                raise Refused("not_cancellable", "The request has begun or is already final.")
            _end(request, Status.CANCELLED, actor)
    return request


def retry(*, request_id: UUID, actor: str, reason: str | None = None, note: str = "") -> ComplianceRequest:
    """Queue a failed request and the daily extracts that it waits for again, with fresh attempts.

    Raises Refused (`not_found`, `not_retryable`: not failed, or the chatter was erased or forgotten since).
    """
    with _decide(Decision.RETRY, request_id, actor, reason, note, event="request.retried") as request:
        if not is_retryable(request):
            raise Refused("not_retryable", "Only a failed request that still names its chatter can be retried.")
        requeue.queue_again(request)
        extracts.retry([request.pk], of=REDACTIONS if request.kind == Kind.REDACTION else DELETIONS)
    return request


def extend(*, request_id: UUID, actor: str, reason: str, note: str = "") -> ComplianceRequest:
    """Extend the deadline of an open request, once and before it has passed. The work goes on as before.

    The new one is counted anew from the start, by the request's rule (`compliance.deadlines`). Raises Refused
    (`not_found`; `not_extendable`, `already_extended`, `deadline_passed`; `invalid` also without a reason).
    """
    with _decide(Decision.EXTEND, request_id, actor, reason, note, event="request.extended") as request:
        [(now,)] = fetch("SELECT clock_timestamp()")
        if refusal := find_extension_refusal(request, now):
            raise refusal
        request.due_at = deadlines.extended_due_at(request)
        request.extended_at, request.extended_by, request.extension_reason = now, actor, reason
        request.save(update_fields=["due_at", "extended_at", "extended_by", "extension_reason"])
        JournalEntry.objects.create(kind=JournalEntry.Kind.ACCEPTED, request_id=request.pk)
        announce([request.pk], event=Callback.DeadlineEvent.EXTENDED)
    return request


def find_extension_refusal(request: ComplianceRequest, now: datetime) -> Refused | None:
    """Return the reason why a deadline cannot be extended, or None if it can be."""
    if request.kind == Kind.RETENTION:
        return Refused("not_extendable", "Nobody has asked for a retention run: its deadline is not extended.")
    if request.status not in deadlines.OPEN:
        return Refused("not_extendable", f"The request is {request.get_status_display().lower()}.")
    if request.extended_at:
        return Refused("already_extended", "The deadline was extended before. That is possible once.")
    if request.due_at <= now:
        return Refused("deadline_passed", "The deadline has passed. It could be extended before.")
    return None


def record_answer(*, request_id: UUID, actor: str, letter: str) -> ComplianceRequest:
    """Record that the person got a letter (`Letter`) about a held or rejected request: it is not overdue any more.

    Set once, and anew by the refusal of a request that was held; otherwise an answered request is returned unchanged.
    It is emptied once a hold ends, since holds do not stop the clock. Raises Refused (`not_found`; `not_answerable`:
    its state does not fit the letter; `invalid`).
    """
    if letter not in Letter.values:
        raise Refused("invalid", f"The letter must be one of {', '.join(Letter.values)}.", pointer="/letter")
    with transaction.atomic():
        request = lock(request_id)
        is_refused_since = bool(
            request.rejected_at and request.answered_at and request.answered_at < request.rejected_at
        )
        if request.answered_at and not is_refused_since:
            return request
        state = _STATE_OF_LETTER[Letter(letter)]
        if request.status != state or request.kind == Kind.RETENTION:
            raise Refused("not_answerable", f"This letter is for a person's request that is {state.label.lower()}.")
        request.answered_at = Now()
        request.save(update_fields=["answered_at"])
        kinds = JournalEntry.Kind
        kind = kinds.WITHDRAWN if state == Status.REJECTED else kinds.ACCEPTED
        JournalEntry.objects.create(kind=kind, request_id=request.pk)
        data = {"letter": letter}
        changelog.record(
            "request.answered", chatbot_id=request.chatbot_id, request_id=request.pk, actor=actor, data=data
        )
    request.refresh_from_db()
    return request


def retry_all_failed(
    *, code: str, actor: str, chatbot: Chatbot | None = None, reason: str | None = None, dry_run: bool = False
) -> int:
    """Retry the requests that failed with this code, each in its own transaction. Return their number.

    In the order of filing. Requests retried by others meanwhile are skipped. Raises Refused(`invalid`).
    """
    _check_reason(Decision.RETRY, reason)
    failed = ComplianceRequest.objects.filter(HAS_SUBJECT, status=Status.FAILED, error_code=code)
    if chatbot is not None:
        failed = failed.filter(chatbot=chatbot)
    ids = list(failed.order_by("seq").values_list("pk", flat=True))
    if dry_run:
        return len(ids)
    retried = 0
    for request_id in ids:
        with suppress(Refused):
            retry(request_id=request_id, actor=actor, reason=reason)
            retried += 1
    return retried


def needs_second_person(request: ComplianceRequest, actor: str) -> bool:
    """Return whether a person other than the actor has to approve (four eyes)."""
    filer, decider = party(request.filed_by), party(actor)
    # A restored database may not contain the filer, which can have been a key.
    return request.chatbot.four_eyes and (filer == decider or (filer == "replay" and decider == "api"))


def awaits_approval(request: ComplianceRequest) -> bool:
    """Return whether a request that no worker has taken will be held for a second person's approval."""
    return (
        request.kind in {Kind.DELETION, Kind.REDACTION}
        and request.status == Status.ACCEPTED
        and is_cancellable(request)
        and request.chatbot.four_eyes
        and HoldReason.AWAITING_APPROVAL not in request.approved_holds
    )


def approved_with(request: ComplianceRequest) -> list[str]:
    """Return the holds that an approval ends. For a request that was filed again after a restore, it ends three."""
    if request.hold_reason == HoldReason.RESTORED and not policy.is_of_backup(request):
        return [HoldReason.RESTORED, HoldReason.AWAITING_APPROVAL, HoldReason.TOO_MANY_CONVERSATIONS]
    return [str(request.hold_reason or HoldReason.AWAITING_APPROVAL)]


def is_cancellable(request: ComplianceRequest) -> bool:
    if request.kind == Kind.EXPORT and request.status == Status.FAILED:
        return True  # it may not be wanted any more, and a later deletion waits for it
    waits = request.status in {Status.ACCEPTED, Status.ON_HOLD} and request.claim_id is None
    # A replayed request may have erased files before the restore of the database, and its mark is lost.
    return waits and (request.kind == Kind.EXPORT or (request.started_at or request.cutoff_at) is None)


def is_retryable(request: ComplianceRequest) -> bool:
    has_subject = request.uci_value is not None or request.named_conversations is not None
    if request.origin == ComplianceRequest.Origin.REPLAY:
        has_subject = has_subject or request.uci_digest is not None
    return request.status == Status.FAILED and (has_subject or request.kind in {Kind.RETENTION, Kind.REDACTION})


# The second half of `is_retryable`, for queries that do not read the subject.
HAS_SUBJECT = (
    Q(uci_value__isnull=False)
    | Q(named_conversations__isnull=False)
    | Q(kind__in=[Kind.RETENTION, Kind.REDACTION])
    | Q(origin=ComplianceRequest.Origin.REPLAY, uci_digest__isnull=False)
)


def party(actor: str) -> str:
    """Return the party of an actor: all keys of a chatbot count as one."""
    return "api" if actor.startswith("api:") else actor


def lock(request_id: UUID) -> ComplianceRequest:
    """Return a request, locked. Raises Refused(`not_found`)."""
    # Without its chatbot, which would be read before the lock is waited for.
    request = ComplianceRequest.objects.select_for_update().filter(pk=request_id).first()
    if request is None:
        raise Refused("not_found", "There is no such request.")
    return request


@contextmanager
def _decide(
    decision: Decision, request_id: UUID, actor: str, reason: str | None, note: str, *, event: str
) -> Iterator[ComplianceRequest]:
    """Yield the request, locked, in a transaction. If its state changes, log the decision and notify the workers."""
    _check_reason(decision, reason)
    text = _checked_note(note)
    with transaction.atomic():
        policy.lock_chatbot_of(request_id)
        request = lock(request_id)
        before = request.status, [*request.approved_holds], request.extended_at
        yield request
        if (request.status, request.approved_holds, request.extended_at) == before:
            return
        entry_id = changelog.record(
            event,
            chatbot_id=request.chatbot_id,
            request_id=request.pk,
            actor=actor,
            data={"reason": reason} if reason else {},
        )
        if text:
            RequestNote.objects.create(chatbot_id=request.chatbot_id, request=request, entry_id=entry_id, text=text)
        notify.after_commit(notify.notify_workers)
    request.refresh_from_db()


def _check_reason(decision: Decision, reason: str | None) -> None:
    """Raise Refused(`invalid`) unless the reason is one of the decision's, or none is given and none is needed."""
    known = REASONS[decision].values
    is_needed = decision in {Decision.REJECT, Decision.EXTEND}  # the person is told it
    if (is_needed or reason is not None) and reason not in known:
        raise Refused("invalid", f"The reason must be one of {', '.join(known)}.", pointer="/reason")


def _checked_note(text: str) -> str:
    """Return a note without spaces around it, as it is stored. Raises Refused(`invalid`)."""
    text = text.replace("\r\n", "\n").strip()
    if len(text) > MOST_CHARACTERS_OF_NOTE:
        raise Refused("invalid", f"A note may have {MOST_CHARACTERS_OF_NOTE:,} characters.", pointer="/note")
    if "\0" in text:
        raise Refused("invalid", "A note must not hold NUL characters.", pointer="/note")
    return text


def _require_staff(request: ComplianceRequest, actor: str) -> None:
    """Refuse a key where only staff decide.

    A retention run applies a period that officers have set, or restores the former one. A request that was filed
    again after a restore can have been filed by a key, which four eyes would not detect.
    """
    if party(actor) != "api":
        return
    if request.kind == Kind.RETENTION:
        raise Refused("officers_only", "Officers decide on a retention run in the console, as on its period.")
    if request.hold_reason == HoldReason.RESTORED:
        raise Refused("officers_only", _RESTORED)


def _require_held(request: ComplianceRequest) -> None:
    if request.status != Status.ON_HOLD:
        raise Refused("not_held", f"The request is {request.get_status_display().lower()}, not on hold.")


def _end(request: ComplianceRequest, status: Status, actor: str) -> None:
    """Set a final state of a request that is not carried out, and clear the value."""
    request.status, request.hold_reason, request.uci_value = status, None, None
    field = "rejected_at" if status == Status.REJECTED else "cancelled_at"
    setattr(request, field, Now())
    request.save(update_fields=["status", "hold_reason", "uci_value", field])
    if request.kind == Kind.RETENTION:
        policy.restore_period(request, actor=actor)
    announce([request.pk])
