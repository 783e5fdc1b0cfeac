"""Carry out a redaction: empty its messages and CSAT comment, then remove other copies, by the steps of a deletion.

    hold? -> ledger -> empty the texts, flag days, expire exports and file them again (one transaction)
          -> verify -> files, exports -> verify -> ledger -> verify and complete
               |
               +-> daily extracts to be rebuilt: requeue until they are

The transaction that empties holds intake's lock alone, as a deletion's mark does, and sets `cutoff_at`. So an export
shares the lock either before, and its conversations are recorded and found here; or after, and it finds that it began
before the redaction (`compliance.export.records`). A first daily extract waits for it.

Within it the conversation's row is locked, as by intake and uploads: a document with a redacted text changes
nothing, and an upload of its file finds it redacted, whenever it began (`conversations.uploads`).
"""

from collections import Counter
from collections.abc import Collection, Sequence
from uuid import UUID

from django.db.models.functions import Coalesce
from uuid_utils.compat import uuid7

from chatbots.models import Bucket
from common.db import fetch
from compliance.cluster import notify
from compliance.deadlines import deadline_from
from compliance.erasure import exports, marking
from compliance.erasure.engine import Erased, ErasureRun, enter
from compliance.erasure.marking import MarkedRequests
from compliance.ledger import journal, lines
from compliance.models import ComplianceRequest, Redaction, RepeatedExport
from compliance.redaction import messages
from compliance.requests import insert, results
from compliance.work import legal_holds
from compliance.work.claims import HeldClaim
from compliance.work.outbox import log
from compliance.work.scope import REDACTIONS
from compliance.work.transitions import completion, requeue
from conversations import locks
from conversations.models import Identity

HoldReason = ComplianceRequest.HoldReason
Status = ComplianceRequest.Status
WaitingFor = ComplianceRequest.WaitingFor

_NOW = "SELECT clock_timestamp()"
# What a repeated export has of the removed one.
_OF_REPEAT = (
    *("seq", "chatbot_id", "kind", "variable_id", "uci_digest", "reference", "callback_url", "include_shared"),
    *("include_files", "csv_dialect", "formats", "archive"),
)


def run(held: HeldClaim, *, deadline: float) -> None:
    """Carry out the claim's redaction until `deadline`, a `time.monotonic()` value; then it is requeued.

    Raises ClaimLost.
    """
    [request_id] = held.request_ids
    request = ComplianceRequest.objects.select_related("chatbot", "redaction").get(pk=request_id)
    is_new = request.cutoff_at is None
    if is_new:
        if reason := _reason_to_hold(request):
            requeue.hold(held, {request_id: reason}, pending={})
            return
        if not enter(held, [request_id], journal.write_accepted):
            return
        has_begun = _begin(held, request)
        if not has_begun:
            if has_begun is None:
                requeue.requeue(held, [request_id], waiting_for=WaitingFor.ROWS, wait=marking.WAIT_FOR_ROWS)
            return
    else:
        with held.transaction():
            ComplianceRequest.objects.filter(pk=request_id).update(status=Status.PROCESSING)
    new = {request_id} if is_new else set()
    marked = MarkedRequests([request_id], new=new, leaves_rows=True, chatbot_ids={request.chatbot_id})
    _RedactionErasure(held, marked, deadline).run()


def _reason_to_hold(request: ComplianceRequest) -> HoldReason | None:
    """Return the reason to hold the redaction, unless it was approved. Legal holds are checked with the mark."""
    reason = HoldReason.AWAITING_APPROVAL
    return reason if request.chatbot.four_eyes and reason not in request.approved_holds else None


def _begin(held: HeldClaim, request: ComplianceRequest) -> bool | None:
    """Empty the texts, or return False: a legal hold keeps them, and the request is on hold.

    Return None if the conversation or intake's lock was not free in time.
    """
    try:
        with held.transaction():
            # No deletion marks between the search for one and the export that is filed before it.
            locks.exclude_intake(request.chatbot_id, number=None)
            if legal_holds.find_held([request.chatbot_id], [request.redaction.conversation_id]):
                requeue.hold(held, {request.pk: HoldReason.LEGAL_HOLD}, pending={})
                return False
            if not messages.lock(request.redaction):
                return None
            [(now,)] = fetch(_NOW)
            if request.origin == ComplianceRequest.Origin.REPLAY:
                messages.find_lost(request.redaction, now)
            if earlier := messages.redacted_at(request.redaction):
                # Exports that contain the texts began before then, and have expired. Later ones are clean.
                cutoff = earlier
            else:
                cutoff = now
                completion.add_counts({request.pk: messages.empty(request.redaction)})
                _file_again(request, exports.expire_redacted(request.redaction.conversation_id))
            ComplianceRequest.objects.filter(pk=request.pk).update(
                status=Status.PROCESSING,
                started_at=Coalesce("started_at", now),
                cutoff_at=cutoff,
            )
            log("request.started", [(request.pk, request.chatbot_id, {})])
    except locks.Busy:
        return None
    return True


def _file_again(redaction: ComplianceRequest, removed_ids: Collection[UUID]) -> None:
    """File these exports again, for the same subjects with the same options, in the caller's transaction.

    They take the places of the originals: a deletion that was filed since waits for the repeat, as it would have for
    the export. None is filed if the chatbot has no bucket any more: they would fail, and hold the chatter's deletion.
    """
    every = list(ComplianceRequest.objects.filter(pk__in=removed_ids).order_by("seq"))
    has_bucket = Bucket.objects.filter(chatbot=redaction.chatbot_id).exists()
    values = {subject: _value_of(*subject) for subject in {_subject(removed) for removed in every}}
    repeats = {
        removed.pk: _repeat_of(removed, values[_subject(removed)]) if has_bucket else None for removed in every
    }
    filed = ComplianceRequest.objects.bulk_create(repeat for repeat in repeats.values() if repeat)
    insert.store_subjects(filed)
    RepeatedExport.objects.bulk_create(
        RepeatedExport(chatbot_id=one.chatbot_id, redaction=redaction, removed=one, repeat=repeats[one.pk])
        for one in every
    )
    log(
        "request.accepted",
        [(one.pk, one.chatbot_id, {"kind": str(one.kind), "origin": str(one.origin)}) for one in filed],
    )
    if filed:
        notify.after_commit(notify.notify_workers)


def _subject(request: ComplianceRequest) -> tuple[int, int | None, bytes]:
    return request.chatbot_id, request.variable_id, bytes(request.uci_digest or b"")


def _value_of(chatbot_id: int, variable_id: int | None, digest: bytes) -> str | None:
    """Return a chatter's value from the chatter's conversations: a completed request does not contain it any more."""
    identities = Identity.objects.filter(
        chatbot=chatbot_id, variable=variable_id, variable__gt=0, digest=digest, value__isnull=False
    )
    return next(iter(identities.values_list("value", flat=True)[:1]), None) if variable_id is not None else None


def _repeat_of(removed: ComplianceRequest, value: str | None) -> ComplianceRequest | None:
    """Return a new request for an export, unsaved, or None if its subject is not known any more."""
    if value is None and removed.named_conversations is None:
        return None
    repeat = ComplianceRequest(
        id=uuid7(),
        origin=ComplianceRequest.Origin.SCHEDULE,
        filed_by=results.BY_WORKER,
        uci_value=value,
        **deadline_from(None, chatbot_id=removed.chatbot_id),
        **{name: getattr(removed, name) for name in _OF_REPEAT},
    )
    repeat.conversation_digests = removed.conversation_digests
    return repeat


class _RedactionErasure(ErasureRun):
    """An ErasureRun of one request that has emptied its texts."""

    of = REDACTIONS

    def _erase_chunk(self) -> bool:
        """Empty what still has a text, for example after a restored backup."""
        [redaction] = Redaction.objects.filter(request__in=self._active)
        locks.share_with_intake(redaction.chatbot_id)
        is_held = legal_holds.find_held([redaction.chatbot_id], [redaction.conversation_id])
        emptied = messages.empty(redaction) if not is_held and messages.lock(redaction) else Counter[str]()
        completion.add_counts({redaction.request_id: emptied})
        return bool(emptied)

    def _read_ledger(self, clean: Sequence[UUID]) -> Erased:
        return lines.redacted(clean)
