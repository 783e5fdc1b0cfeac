"""Carry out a claim of deletions, set-wise, from the last check to completion.

DANGER: what this module does cannot be undone. What keeps it right:

- nothing is touched before `admit` has checked again whether it may be, and the mark is one transaction;
- nothing is touched before the ledger, outside of the database, names the request;
- each piece of work is one chunk: it holds the claim, is bounded, and commits with its counts;
- each step finds its work in the data that is left, so it can be killed at any time and run again;
- only what is in a deletion's scope is erased (`scope`), even if another deletion has marked or half erased it;
- a deletion completes only after every store was searched again (`verify`), never by what was planned.

    admit -> ledger -> mark + first chunk -> verify -> chunks, files, exports -> verify
                                               |                                   +-> ledger -> verify and complete
                                               +-> daily extracts to be rebuilt: requeue until they are

A small claim is marked and erased in one transaction. That mostly leaves nothing, so it is verified only once.

A deletion never waits for another one. It erases what others have marked, and completes when that is gone too. It is
requeued while a row is locked, and while daily extracts are rebuilt.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import ClassVar
from uuid import UUID

from compliance.erasure import exports, extracts, marking, objects, rows, verify
from compliance.erasure.marking import MarkedRequests
from compliance.erasure.verify import EXPORTS, EXTRACTS, FILES, VerificationResult
from compliance.errors import StepFailed
from compliance.ledger import journal, lines
from compliance.ledger.content import Line
from compliance.models import ComplianceRequest
from compliance.work.claims import HeldClaim
from compliance.work.scope import DELETIONS, Scope
from compliance.work.sizes import Size
from compliance.work.sql import chatbots_of
from compliance.work.transitions import completion, requeue

logger = logging.getLogger(__name__)

WaitingFor = ComplianceRequest.WaitingFor

# Rebuilding the last of a chatbot's extracts requeues at once; this is the fallback.
_WAIT_FOR_EXTRACTS = timedelta(seconds=60)

Found = dict[UUID, VerificationResult]
# The ledger's lines of requests that have left nothing.
Erased = Mapping[UUID, Sequence[Line]]


def run(held: HeldClaim, sizes: Mapping[UUID, Size], *, deadline: float) -> None:
    """Erase the data in the scope of the claim's requests, and complete them. `sizes` come from `sizes.measure`.

    `deadline` is a `time.monotonic()` value. Past it the requests are requeued between two chunks, and the next claim
    continues. Raises ClaimLost.
    """
    # Approval comes before a large request waits for its lane, or another one for its turn.
    admitted = {one.request_id: one for one in marking.admit(held, sizes)}
    active = requeue.keep_light(held, list(admitted), sizes)
    if active and enter(held, active, journal.write_accepted):
        fits = rows.fits_one_chunk(sizes[each] for each in active if each in sizes)
        marked = marking.mark(held, [admitted[each] for each in active], erases=fits)
        ErasureRun(held, marked, deadline).run()


def enter(held: HeldClaim, request_ids: Sequence[UUID], write: Callable[[Sequence[UUID]], None]) -> bool:
    """Write these requests to the ledger. Return False if that fails: they have left the claim. Raises ClaimLost."""
    try:
        write(request_ids)
    except StepFailed as failure:
        requeue.step_failed(held, dict.fromkeys(request_ids, failure))
        return False
    return True


class ErasureRun:
    """The marked requests of a claim. `_active` are those that have not left it."""

    of: ClassVar[Scope] = DELETIONS

    def __init__(self, held: HeldClaim, marked: MarkedRequests, deadline: float) -> None:
        self._held = held
        self._active = list(marked.request_ids)
        self._new = marked.new
        self._leaves_rows = marked.leaves_rows
        self._chatbot_ids = marked.chatbot_ids
        self._deadline = deadline
        # Requests that the ledger records as begun or erased.
        self._written: set[UUID] = set()

    def run(self) -> None:
        """Repeat until no request is active. Each round erases something, or ends the work."""
        # Requests that were erased with the mark have mostly left nothing, unless there are daily extracts: try to
        # complete.
        if self._active and not self._leaves_rows and not extracts.has_any(self._chatbot_ids):
            with self._held.transaction():
                entries = self._read_ledger(self._active)
            self._complete(entries)
        while self._active:
            if self._leaves_rows and not self._erase_rows():
                return
            self._leaves_rows = True
            found, entries = self._verify()
            self._fail_stuck(found)
            found |= self._complete(entries)
            self._wait_for_extracts(found)
            self._erase_objects(found)

    def _erase_rows(self) -> bool:
        """Erase what can be locked. Returns False if the deadline came first."""
        while True:
            with self._held.transaction():
                more = self._erase_chunk()
            if not more:
                return True
            # After a chunk, so that each claim makes progress.
            if time.monotonic() > self._deadline:
                self._requeue(self._active, WaitingFor.TURN)
                return False

    def _verify(self) -> tuple[Found, Erased]:
        """Return the remaining data, and the ledger's lines of requests that left nothing."""
        with self._held.transaction():
            found = verify.find_leftovers(self._active, of=self.of)
            at_clients = [request_id for request_id, left in found.items() if left.at_clients]
            # A client's bucket may be slow or dead; the rest of the claim must not wait for it.
            self._active = requeue.move_to_client_lane(self._held, self._active, at_clients)
            self._note(found)
            clean = [request_id for request_id in self._active if _is_clean(found, request_id)]
            return found, self._read_ledger(clean) if clean else {}

    def _read_ledger(self, clean: Sequence[UUID]) -> Erased:
        return lines.exact(clean)

    def _note(self, found: Found) -> None:
        """Store the counts of the remaining data, in the caller's transaction."""
        ours = {each: found[each] for each in self._active if each in found}
        completion.record_remainders(
            {
                each: completion.Remainder(left.erased_before, left.extracts_clean, left.rows[EXTRACTS])
                for each, left in ours.items()
            }
        )

    def _complete(self, entries: Erased) -> Found:
        """Write the ledger, verify again, and complete in that transaction the requests that left nothing.

        Returns the remaining data of the others.
        """
        if not entries:
            return {}
        try:
            written = journal.conclude(entries)
        except StepFailed as failure:
            self._fail(dict.fromkeys(entries, failure))
            return {}
        self._written |= entries.keys()
        with self._held.transaction():
            written.confirm()
            met = completion.begin(self._held, list(entries))
            self._requeue(met.blocked, WaitingFor.TURN)
            clean = [each for each in entries if each not in met.blocked]
            found = verify.verify(clean, of=self.of, clears_notes=True)
            self._note(found)
            done = [request_id for request_id in clean if _is_clean(found, request_id)]
            if leaving := [each for each in done if each in found and found[each].copies_kept]:
                exports.record_remaining(leaving, of=self.of)
            if naming := [each for each in done if each in found and found[each].digests_left]:
                rows.forget_names(naming)
            self._fail_stuck(found)
            self._complete_clean(done, met)
        return found

    def _complete_clean(self, done: Sequence[UUID], met: completion.Obstacles) -> None:
        """Complete requests without remaining data, as this transaction has found."""
        failed = completion.failed_by_ids(self._held, set(done).intersection(met.by_ids))
        still_left = verify.find_leftovers(failed) if failed else {}
        completion.complete_deletions(
            self._held, done, met, done_by_ids=[each for each in failed if _is_clean(still_left, each)]
        )
        self._drop(done)
        if not self._active:
            self._held.release()

    def _fail_stuck(self, found: Found) -> None:
        """Fail requests that left rows which no step removes: a bug, or a restored backup."""
        stuck = {each: found[each] for each in self._active if each in found and found[each].is_stuck}
        if stuck:
            logger.error("erasure.incomplete requests=%s", ",".join(map(str, stuck)))
        self._fail(
            {
                request_id: StepFailed("erasure_incomplete", f"Verification still found rows: {left}.")
                for request_id, left in stuck.items()
            }
        )

    def _wait_for_extracts(self, found: Found) -> None:
        """Requeue requests with only daily extracts left.

        If an extract has failed, the requests that wait for it fail.

        A newly marked request has the extract tried again first: the cause may be over.
        """
        waiting = {each: found[each] for each in self._active if each in found and found[each].only_extracts_left}
        failures = {each: left.failure for each, left in waiting.items() if left.failure and each not in self._new}
        if again := [each for each, left in waiting.items() if left.failure and each in self._new]:
            with self._held.transaction():
                extracts.retry(again, of=self.of)
        self._fail(failures)
        if unbuilt := [each for each in waiting if each not in failures]:
            self._requeue(unbuilt, WaitingFor.EXTRACTS, _WAIT_FOR_EXTRACTS)
            # Another worker may have built the last of them since they were found.
            extracts.release(chatbots_of(unbuilt))

    def _erase_objects(self, found: Found) -> None:
        """Erase files and exports; requeue if that and another chunk erased nothing, since then rows are locked.

        Past the deadline, requeue everything.
        """
        left = {each: found.get(each, VerificationResult()) for each in self._active}
        # A client's bucket can be tried for days, and has no file that a restore would miss.
        destroying = {each for each in left if left[each].has_our_objects} - self._written
        if destroying and not enter(self._held, list(destroying), journal.intend):
            self._drop(destroying)
        self._written |= destroying
        # Exports in a client's bucket are in the client lane by now, unless this claim may call it.
        erase_exports = partial(objects.erase_exports, at_clients=self._held.bucket_of is not None)
        gone = 0
        for store, erase in ((FILES, objects.erase_files), (EXPORTS, erase_exports)):
            having = [each for each in self._active if left[each].rows[store]]
            if having:
                failures = erase(self._held.transaction, having, of=self.of)
                self._fail(failures)
                gone += len(having) - len(failures)
        if self._active and not gone:
            with self._held.transaction():
                gone = int(self._erase_chunk())
        if not gone:
            self._requeue(self._active, WaitingFor.ROWS, marking.WAIT_FOR_ROWS)
        elif time.monotonic() > self._deadline:
            self._requeue(self._active, WaitingFor.TURN)

    def _erase_chunk(self) -> bool:
        """Erase a chunk of rows in the caller's transaction; return False if none is left that can be locked."""
        return bool(rows.erase_chunk(self._active))

    def _fail(self, failures: Mapping[UUID, StepFailed]) -> None:
        if failures:
            requeue.step_failed(self._held, failures)
            self._drop(failures)

    def _requeue(self, request_ids: Sequence[UUID], waiting_for: WaitingFor, wait: timedelta = timedelta()) -> None:
        if request_ids:
            requeue.requeue(self._held, request_ids, waiting_for=waiting_for, wait=wait)
            self._drop(request_ids)

    def _drop(self, request_ids: Collection[UUID]) -> None:
        gone = set(request_ids)
        self._active = [request_id for request_id in self._active if request_id not in gone]


def _is_clean(found: Found, request_id: UUID) -> bool:
    return request_id not in found or found[request_id].is_nothing
