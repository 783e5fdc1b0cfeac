"""Every change of a request's state that a person or a client asks for.

API, console and commands each make one call into here. Each operation is one transaction: the request, its
change-log entry, and after commit a nudge to the workers. What workers report is in `compliance/progress.py`.

    accepted -> processing -> completed | failed       (workers)
    accepted -> on_hold -> accepted | rejected         (workers hold; approve, reject)
    accepted, on_hold -> cancelled                     (cancel; never once a deletion has marked)
    failed -> accepted                                 (retry, at the end of the line)
"""

import re
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chatbots import changelog
from chatbots.buckets import hosted_storage
from chatbots.models import Bucket, Chatbot, Variable
from chatbots.secrets import digest
from compliance import filing, queue, replays
from compliance.erasure import extracts
from compliance.errors import Refused
from compliance.models import ComplianceRequest, Export

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

_REFERENCE = re.compile(r"[A-Za-z0-9._:-]{1,64}")

# A second attempt is made when what is remembered of a variable is no longer so, or when the answer to the same
# call was gone by the time it was looked for.
_ATTEMPTS = 5

# Chatbot and name -> the id of a variable that is or was the UCI, as this process has read it. `filing` asks the
# database again, so an entry that is no longer true costs a second look and nothing else.
_VARIABLES: dict[tuple[int, str], int] = {}

# A person who files in the console can always think again for this long.
CONSOLE_GRACE = timedelta(minutes=15)


def submit(
    *,
    chatbot: Chatbot,
    kind: Kind,
    uci_key: str,
    uci_value: str,
    origin: ComplianceRequest.Origin,
    actor: str,
    reference: str = "",
    erase_exports: bool = False,
    include_shared: bool = False,
    include_files: bool = False,
    replay: replays.ReplayKey | None = None,
) -> ComplianceRequest:
    """File a request about one chatter and return it; with `replay`, the same call returns the same request.

    `actor` is kind and id, as in the change log (`api:<key prefix>`, `command`). Raises Refused with the codes
    `compliance_disabled`, `uci_not_designated`, `unknown_uci_key`, `invalid`, `export_destination_missing`,
    `idempotency_conflict`; nothing is stored then.
    """
    for _ in range(_ATTEMPTS):
        try:
            variable_id = _variable_to_search(chatbot, uci_key)
            check_uci_value(uci_value)
            _check_reference(reference, uci_value)
        except Refused:
            # A call that was answered is answered alike whatever has changed since.
            if replay and (answered := replays.recall(chatbot, replay)):
                return answered
            raise
        request = ComplianceRequest(
            id=uuid7(),
            chatbot=chatbot,
            kind=kind,
            origin=origin,
            filed_by=actor,
            variable_id=variable_id,
            uci_value=uci_value,
            uci_digest=digest("chatter", variable_id, uci_value),
            reference=reference,
            erase_exports=erase_exports,
            include_shared=include_shared,
            include_files=include_files,
        )
        entry = changelog.entry(
            "request.accepted",
            chatbot_id=chatbot.pk,
            request_id=request.pk,
            actor=actor,
            data={"kind": kind.value, "origin": origin.value},
        )
        filed = filing.file(
            request,
            uci_key=uci_key,
            grace=_grace(chatbot, origin) or None,
            due_in=settings.DUE_DAYS,
            entry=entry,
            replay=replay,
        )
        if filed:
            queue.ring_after_commit()
            return request
        if replay and (answered := replays.recall(chatbot, replay)):
            return answered
        _forget_variable(chatbot, uci_key)
        if kind == Kind.EXPORT and not Bucket.objects.filter(chatbot=chatbot).exists():
            raise Refused("export_destination_missing", "This chatbot has no bucket for exports. Set one up first.")
    raise RuntimeError("A request could not be filed: what stood in its way was gone each time it was looked for.")


def check_uci_value(value: str) -> None:
    """Raise Refused(`invalid`) unless the value can name a chatter; the detail never quotes it."""
    pointer = "/unique_chatter_identifier_value"
    if value in settings.UCI_PLACEHOLDERS:
        raise Refused("invalid", "This value is a placeholder that identifies nobody.", pointer=pointer)
    if len(value) > 512 or any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value):
        raise Refused(
            "invalid", "The value must be 1 to 512 characters, without NUL or unpaired surrogates.", pointer=pointer
        )


def _check_reference(reference: str, uci_value: str) -> None:
    if reference and not _REFERENCE.fullmatch(reference):
        raise Refused("invalid", "The reference may have 1 to 64 of A-Z a-z 0-9 . _ : -", pointer="/reference")
    if reference and uci_value in reference:
        raise Refused(
            "invalid", "The reference must not contain the chatter's value: it is kept.", pointer="/reference"
        )


def _grace(chatbot: Chatbot, origin: ComplianceRequest.Origin) -> timedelta:
    grace = timedelta(minutes=chatbot.grace_minutes)
    return max(grace, CONSOLE_GRACE) if origin == ComplianceRequest.Origin.CONSOLE else grace


def _variable_to_search(chatbot: Chatbot, uci_key: str) -> int:
    """Return the id of the variable; from memory, where it was read before."""
    if not chatbot.compliance_enabled:
        raise Refused(
            "compliance_disabled",
            "Data compliance is switched off for this chatbot. Switch it on in its settings.",
        )
    known = _VARIABLES.get((chatbot.pk, uci_key))
    if known is None:
        known = _VARIABLES[chatbot.pk, uci_key] = _read_variable(chatbot, uci_key)
    return known


def _forget_variable(chatbot: Chatbot, uci_key: str) -> None:
    _VARIABLES.pop((chatbot.pk, uci_key), None)


def _read_variable(chatbot: Chatbot, uci_key: str) -> int:
    ucis = {
        variable.name: variable.pk
        for variable in Variable.objects.filter(Q(is_uci=True) | Q(was_uci=True), chatbot=chatbot)
    }
    if not ucis:
        raise Refused(
            "uci_not_designated",
            "This chatbot has no Unique Chatter Identifier. Designate one of its variables first.",
        )
    if uci_key not in ucis:
        raise Refused(
            "unknown_uci_key",
            "The key is neither the present nor a former Unique Chatter Identifier of this chatbot.",
            pointer="/unique_chatter_identifier_key",
        )
    return ucis[uci_key]


def approve(*, request_id: UUID, actor: str) -> ComplianceRequest:
    """Let a held request go on, past what held it. What else there is to hold it is asked about anew.

    Raises Refused (`not_found`, `not_held`, `own_request`).
    """
    with transaction.atomic():
        request = _lock(request_id)
        _require_held(request)
        if request.chatbot.four_eyes and request.filed_by == actor:
            raise Refused("own_request", "Four eyes are asked for here: another person than who filed must approve.")
        request.approved_holds.append(str(request.hold_reason))
        request.status, request.hold_reason = Status.ACCEPTED, None
        request.approved_by, request.approved_at = actor, Now()
        request.save(update_fields=["status", "hold_reason", "approved_by", "approved_at", "approved_holds"])
        _record("request.approved", request, actor)
        queue.ring_after_commit()
    request.refresh_from_db()
    return request


def reject(*, request_id: UUID, actor: str) -> ComplianceRequest:
    """End a held request without carrying it out. Raises Refused (`not_found`, `not_held`)."""
    with transaction.atomic():
        request = _lock(request_id)
        _require_held(request)
        _end(request, Status.REJECTED)
        _record("request.rejected", request, actor)
        queue.ring_after_commit()
    request.refresh_from_db()
    return request


def cancel(*, request_id: UUID, actor: str) -> ComplianceRequest:
    """Withdraw a request that has not begun. Raises Refused (`not_found`, `not_cancellable`)."""
    with transaction.atomic():
        request = _lock(request_id)
        waiting = request.status in {Status.ACCEPTED, Status.ON_HOLD} and request.claim_id is None
        has_marked = request.kind == Kind.DELETION and request.cut_at is not None
        if not waiting or has_marked:
            raise Refused("not_cancellable", "The request has begun or is already final.")
        _end(request, Status.CANCELLED)
        _record("request.cancelled", request, actor)
        queue.ring_after_commit()
    request.refresh_from_db()
    return request


def retry(*, request_id: UUID, actor: str) -> ComplianceRequest:
    """Put a failed request at the end of the line, with fresh attempts, and so the extracts that it waits for.

    Raises Refused (`not_found`, `not_retryable`: not failed, or the chatter was erased since).
    """
    with transaction.atomic():
        request = _lock(request_id)
        if not is_retryable(request):
            raise Refused(
                "not_retryable",
                "Only a failed request whose chatter has not been erased since can be retried.",
            )
        request.status, request.attempts = Status.ACCEPTED, 0
        if request.lane == ComplianceRequest.Lane.NORMAL:
            request.lane = ComplianceRequest.Lane.ALONE
        request.queued_at, request.not_before = Now(), None
        request.error_code = request.error_detail = ""
        request.failed_at = None
        request.save(
            update_fields=[
                "status",
                "attempts",
                "lane",
                "queued_at",
                "not_before",
                "error_code",
                "error_detail",
                "failed_at",
            ]
        )
        extracts.try_again(request.pk)
        _record("request.retried", request, actor)
        queue.ring_after_commit()
    request.refresh_from_db()
    return request


def is_retryable(request: ComplianceRequest) -> bool:
    return request.status == Status.FAILED and request.uci_value is not None


def kept_exports(request: ComplianceRequest) -> list[Export]:
    """Return the exports that a deletion met and left where they are, those that have gone since included.

    Besides, as long as they lie there, the chatter's hosted ones that an earlier deletion had left already.
    """
    left = Export.objects.filter(left_by=request.pk)
    lying = Export.objects.filter(
        request__variable=request.variable_id,
        request__uci_digest=request.uci_digest,
        request__seq__lt=request.seq,
        hosting=Bucket.Hosting.HOSTED,
        finished_at__isnull=False,
        key__isnull=False,
    ).exclude(request__uci_digest=None)
    found = {export.pk: export for exports in (left, lying) for export in exports}
    return sorted(found.values(), key=lambda export: (export.finished_at is None, export.finished_at, export.pk))


def download_link(request: ComplianceRequest, *, file_id: int | None = None) -> str:
    """Return an address of minutes for an export's file, or for the copy of an uploaded file beside it.

    It bears the chatter's value. Raises Refused (`not_found`, `not_ready`, `in_client_bucket`, `export_expired`).
    """
    if request.kind != Kind.EXPORT:
        raise Refused("not_found", "This request makes no export.")
    export = Export.objects.filter(request=request).first()
    if export is None or export.finished_at is None:
        raise Refused("not_ready", "The export is not finished. Ask for its status.")
    if export.hosting == Bucket.Hosting.CLIENT:
        raise Refused("in_client_bucket", "The export was written into your own bucket. Fetch it there.")
    if export.key is None or export.doomed_by:
        raise Refused("export_expired", "The export's time is over, or a deletion has removed it.")
    if file_id is None:
        return hosted_storage().link(export.key, filename=export.key.rpartition("/")[2])
    copy = export.copies.filter(file_id=file_id).first()
    if copy is None:
        raise Refused("not_found", "There is no copy of this file beside the export.")
    # Its name is stored with it, and so stands in no address.
    return hosted_storage().link(copy.key)


def _lock(request_id: UUID) -> ComplianceRequest:
    request = (
        ComplianceRequest.objects.select_for_update(of=("self",))
        .select_related("chatbot")
        .filter(pk=request_id)
        .first()
    )
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


def _record(event: str, request: ComplianceRequest, actor: str) -> None:
    changelog.record(event, chatbot_id=request.chatbot_id, request_id=request.pk, actor=actor)
