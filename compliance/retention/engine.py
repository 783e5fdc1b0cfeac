"""Carry out a retention run: close the due conversations and erase them, slice by slice, by the steps of a deletion.

A run can name millions of conversations. So it closes at most `due.SLICE` at a time; each slice is erased in chunks
and verified at every store before the next one is closed, and no statement grows with the run
(`compliance.work.scope`). The conversations of the slice are stored in the request, the progress in the run's row,
both written with the mark: after a kill the next claim continues there. Attempts are counted for each slice: a run of
hours may meet several short faults. The conversations of a slice are written to the ledger after they were closed and
before any of their data is erased. A replayed run has examined everything: it erases the conversations with its mark,
which are those of the ledger.

Intake is not excluded: a document locks the row of its conversation before any of it is stored. So either it comes
first, and the conversation is not due any more, or it finds the mark and is refused. Intake's lock is shared, so that
no legal hold is placed while conversations are closed.
"""

import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from chatbots import locks
from common.db import array, fetch
from compliance.erasure import marking, rows
from compliance.erasure.engine import Erased, ErasureRun, Found, enter
from compliance.erasure.marking import MarkedRequests
from compliance.erasure.verify import EXTRACTS
from compliance.errors import StepFailed
from compliance.ledger import journal, lines
from compliance.models import ComplianceRequest
from compliance.retention import due, policy
from compliance.work.claims import HeldClaim
from compliance.work.outbox import log
from compliance.work.transitions import completion, requeue
from conversations.locks import share_with_intake

HoldReason = ComplianceRequest.HoldReason
Status = ComplianceRequest.Status
WaitingFor = ComplianceRequest.WaitingFor

_COUNT_SECONDS = 20.0


def run(held: HeldClaim, *, deadline: float) -> None:
    """Carry out the claim's retention run until `deadline`, a `time.monotonic()` value; then it is requeued.

    Raises ClaimLost.
    """
    [request_id] = held.request_ids
    request = ComplianceRequest.objects.select_related("chatbot", "retention_run").get(pk=request_id)
    if request.cutoff_at is None:
        reason = _reason_to_hold(request)
        if reason and _is_held(held, request, reason):
            return
        _begin(held, request)
    else:
        with held.transaction():
            ComplianceRequest.objects.filter(pk=request_id).update(status=Status.PROCESSING)
    # Nothing is closed while the ledger cannot be written. After a kill it is not known whether the ledger has the
    # slice.
    is_new = not request.retention_run.examined_number
    if (is_new or request.slice) and not enter(held, [request_id], lambda _: _write_slice(request, request.slice)):
        return
    marked = MarkedRequests([request_id], new={request_id}, leaves_rows=True, chatbot_ids={request.chatbot_id})
    _RetentionErasure(held, marked, deadline).run()


def _reason_to_hold(request: ComplianceRequest) -> HoldReason | None:
    """Return why a run must not begin: the first one, or one of a period that a restore has brought back.

    All others need no approval, since the period was approved. A replayed run was carried out before.
    """
    run = request.retention_run
    if request.chatbot.retention_set_at is None and request.origin != ComplianceRequest.Origin.REPLAY:
        return HoldReason.RESTORED
    if run.announced is not None:
        if HoldReason.TOO_MANY_CONVERSATIONS not in request.approved_holds:
            found = due.count(request.chatbot, run.older_than, seconds=_COUNT_SECONDS)
            if not found.is_whole or found.number > run.announced * (1 + policy.TOLERANCE):
                return HoldReason.TOO_MANY_CONVERSATIONS
        if request.chatbot.four_eyes and HoldReason.AWAITING_APPROVAL not in request.approved_holds:
            return HoldReason.AWAITING_APPROVAL
    return None


def _is_held(held: HeldClaim, request: ComplianceRequest, reason: HoldReason) -> bool:
    """Hold the run, and return True, unless its period was changed meanwhile: then it ends once it begins."""
    with transaction.atomic():
        chatbot = locks.locked(request.chatbot_id)
        if policy.is_replaced(request.retention_run, chatbot):
            return False
        requeue.hold(held, {request.pk: reason}, pending={})
    return True


def _begin(held: HeldClaim, request: ComplianceRequest) -> None:
    """Fix the scope: conversations that are stored by now. Later ones are for the next run."""
    with held.transaction() as now:
        [(_, _, newest, _)] = fetch(marking.CUTOFF, {"chatbots": array([request.chatbot_id])})
        ComplianceRequest.objects.filter(pk=request.pk).update(
            status=Status.PROCESSING,
            started_at=Coalesce("started_at", now),
            cutoff_at=now,
            cutoff_number=newest,
            slice=[],
        )
        log("request.started", [(request.pk, request.chatbot_id, {})])


def _write_slice(request: ComplianceRequest, numbers: Collection[int] | None) -> None:
    """Write the run, and the conversations that it erases next, to the ledger. Raises StepFailed."""
    named = lines.retention_slice(request.pk, chatbot_id=request.chatbot_id, numbers=numbers or ())
    journal.conclude(named).confirm()


class _RetentionErasure(ErasureRun):
    """An ErasureRun of one request that closes the next slice each time that nothing of the last one is left."""

    def _read_ledger(self, clean: Sequence[UUID]) -> Erased:
        return lines.retention(clean)

    def _erase_chunk(self) -> bool:
        # A replay has marked all conversations of the run. Each slice is verified before the next one.
        [numbers] = ComplianceRequest.objects.filter(pk__in=self._active).values_list("slice", flat=True)
        counts = rows.erase_marked_chunk(self._active, of=numbers or ())
        completion.add_counts(counts)
        return bool(counts)

    def _note(self, found: Found) -> None:
        """Store the counts as for any request, but add up the daily extracts that were rebuilt for each slice."""
        ours = ComplianceRequest.objects.filter(pk__in=[each for each in self._active if each in found])
        before = dict(ours.values_list("pk", "extracts"))
        waited_for = dict(ours.values_list("pk", "extracts_left"))
        super()._note(found)
        for request_id, rebuilt in before.items():
            gone = max(waited_for[request_id] - found[request_id].rows[EXTRACTS], 0)
            ComplianceRequest.objects.filter(pk=request_id).update(extracts=rebuilt + gone)
        if any(left.is_nothing and left.digests_left for left in found.values()):
            rows.forget_names(self._active)

    def _requeue(self, request_ids: Sequence[UUID], waiting_for: WaitingFor, wait: timedelta = timedelta()) -> None:
        """Requeue as any request, but with a wait from now: a run of hours has not waited since it was filed."""
        if not request_ids:
            return
        with self._held.transaction() as now:
            ComplianceRequest.objects.filter(pk__in=request_ids).update(queued_at=now)
            super()._requeue(request_ids, waiting_for, wait)

    def _complete(self, entries: Erased) -> Found:
        if not entries or self._close_next():
            return {}
        try:
            written = journal.conclude(entries)
        except StepFailed as failure:
            self._fail(dict.fromkeys(entries, failure))
            return {}
        with self._held.transaction() as now:
            written.confirm()
            ComplianceRequest.objects.filter(pk__in=entries).update(slice=None)
            completion.complete(self._held, list(entries), now)
            self._drop(list(entries))
            self._held.release()
        return {}

    def _close_next(self) -> bool:
        """Close the next slice, or requeue the run past the deadline; return False if nothing is left to close.

        Returns False too if the period was lengthened or turned off meanwhile, or is a backup's: then the run has
        examined less than all.
        """
        [request_id] = self._active
        request = ComplianceRequest.objects.select_related("retention_run").get(pk=request_id)
        run, last = request.retention_run, request.cutoff_number or 0
        of_run: dict[str, Any] = {"chatbot_id": request.chatbot_id, "older_than": run.older_than}
        if numbers := due.next_marked(request_id, chatbot_id=request.chatbot_id):
            with self._held.transaction():
                self._begin_slice(request_id, numbers)
        while not numbers:
            examined = due.examine(after=run.examined_number, last=last, **of_run)
            with self._held.transaction():
                # Before any row is locked.
                share_with_intake(request.chatbot_id)
                if examined and not policy.holds(run):
                    return False
                closed = due.close(examined.due, request_id=request_id, **of_run) if examined else due.Closed([])
                run.examined_number = examined.last if examined else last
                run.left_out += closed.left_out
                if closed.withheld:
                    ComplianceRequest.objects.filter(pk=request_id).update(withheld=F("withheld") + closed.withheld)
                run.save(update_fields=["examined_number", "left_out"])
                if examined is None:
                    return False
                self._begin_slice(request_id, closed.numbers)
            numbers = closed.numbers
            if not numbers and time.monotonic() > self._deadline:
                self._requeue([request_id], WaitingFor.TURN)
                return True
        # Before any of its data is erased.
        if not enter(self._held, [request_id], lambda _: _write_slice(request, numbers)):
            self._drop([request_id])
        return True

    def _begin_slice(self, request_id: UUID, numbers: Sequence[int]) -> None:
        ComplianceRequest.objects.filter(pk=request_id).update(
            slice=list(numbers),
            conversations_total=F("conversations_total") + len(numbers),
            # The last one may have called a client's bucket.
            lane=ComplianceRequest.Lane.LARGE,
            extracts_left=0,
            attempts=0,
            error_code="",
            error_detail="",
        )
