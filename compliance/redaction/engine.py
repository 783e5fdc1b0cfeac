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
from common.db import array, execute, fetch
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
from compliance.work.sql import OPEN
from compliance.work.transitions import completion, requeue
from conversations import locks
from conversations.models import Identity

HoldReason = ComplianceRequest.HoldReason
Status = ComplianceRequest.Status
WaitingFor = ComplianceRequest.WaitingFor

_NOW = "SELECT clock_timestamp()"
_OPEN = (Status.ACCEPTED, Status.ON_HOLD, Status.PROCESSING, Status.FAILED)
# What a repeated export has of the removed one.
_OF_REPEAT = (
    *("seq", "chatbot_id", "kind", "variable_id", "uci_digest", "reference", "callback_url", "include_shared"),
    *("include_files", "csv_dialect", "formats", "archive"),
)

# Open deletions that these removed exports have overtaken: of the same subject, or of a conversation in an export, by
# its id or by a person in it.
_OVERTAKEN = f"""
WITH e AS MATERIALIZED (
    SELECT r.seq, r.variable_id, r.uci_digest, x.id AS export_id
      FROM compliance_compliancerequest r JOIN compliance_export x ON x.request_id = r.id
     WHERE r.id = ANY(%(removed)s::uuid[])
), held AS MATERIALIZED (
    SELECT e.seq, h.conversation_id FROM e JOIN compliance_exportconversation h ON h.export_id = e.export_id
), c AS MATERIALIZED (
    SELECT held.seq, c.external_id_digest, i.variable_id, i.digest
      FROM held
     CROSS JOIN LATERAL (
           SELECT id, external_id_digest FROM conversations_conversation
            WHERE id = held.conversation_id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS c
      LEFT JOIN LATERAL (
           SELECT variable_id, digest FROM conversations_identity
            WHERE conversation_id = c.id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS i ON TRUE
), met AS (
    SELECT e.seq, d.id FROM e JOIN compliance_compliancerequest d USING (variable_id, uci_digest)
     UNION
    SELECT c.seq, d.id
      FROM c JOIN compliance_compliancerequest d ON d.variable_id = c.variable_id AND d.uci_digest = c.digest
     UNION
    SELECT c.seq, s.request_id FROM c JOIN compliance_requestsubject s ON s.digest = c.external_id_digest
)
SELECT DISTINCT d.id
  FROM met JOIN compliance_compliancerequest d ON d.id = met.id
 WHERE d.kind = 'deletion' AND d.status IN {OPEN} AND d.cutoff_at IS NULL AND d.seq < met.seq
"""
_MOVE_BEHIND = """
UPDATE compliance_compliancerequest r SET seq = moved.seq
  FROM (SELECT id, nextval('compliance_request_seq') AS seq
          FROM (SELECT id FROM compliance_compliancerequest WHERE id = ANY(%s) ORDER BY seq FOR UPDATE) AS each
       ) AS moved
 WHERE r.id = moved.id
"""


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
    the export. So do deletions that the originals have overtaken while they were on hold: they get later places. None
    is filed if the chatbot has no bucket any more: they would fail, and hold the chatter's deletion.
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
        _move_behind(redaction.chatbot_id, removed_ids)
        notify.after_commit(notify.notify_workers)


def _move_behind(chatbot_id: int, removed_ids: Collection[UUID]) -> None:
    """Let deletions that these exports have overtaken come after the repeats. Under intake's lock, none marks."""
    of_chatbot = ComplianceRequest.objects.filter(chatbot=chatbot_id, cutoff_at=None)
    # Nearly always there is none, and an export can have very many conversations.
    if of_chatbot.filter(kind=ComplianceRequest.Kind.DELETION, status__in=_OPEN).exists():
        values = {"removed": array(removed_ids), "chatbots": array([chatbot_id])}
        if overtaken := [request_id for (request_id,) in fetch(_OVERTAKEN, values)]:
            execute(_MOVE_BEHIND, [array(overtaken)])


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
