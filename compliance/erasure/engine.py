"""Carry out a claim of deletions, set-wise, from the second question to completion.

DANGER: what this module does cannot be undone. What keeps it right:

- nothing is touched before `admit` has asked again whether it may be, and the mark is one transaction;
- each piece of work is one chunk: it holds the claim, is bounded, and commits with its counts;
- each step finds its work by what is still there, so it can be killed at any instant and run again;
- only what is in a deletion's scope is erased (`scope`), whoever has marked or half erased it;
- nothing is reported from the plan: completion follows a second look at every store (`verify`).

    admit -> mark + first chunk -> what is left? -> chunks, files, exports -> what is left? -> ledger -> complete
                                        |
                                        +-> days that others make again: put back until they are made

What a small claim has marked and erased in one transaction has mostly left nothing anywhere: then the look that
completes is the only one.

A deletion waits for nobody: what another one has marked it erases itself, and is not complete before that is gone. It
is put back where a row is locked just now, and while daily extracts are made again.
"""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

from compliance.erasure import exports, extracts, ledger, marking, objects, rows, verify
from compliance.erasure.marking import Marked
from compliance.erasure.verify import VerificationResult
from compliance.errors import StepFailed
from compliance.models import ComplianceRequest
from compliance.work import transitions
from compliance.work.claims import HeldClaim
from compliance.work.sizes import Size

logger = logging.getLogger(__name__)

WaitingFor = ComplianceRequest.WaitingFor

# Whoever makes the last of its chatbot's days again lets it go on; this is for when nobody told.
_WAIT_FOR_EXTRACTS = timedelta(seconds=60)

Found = dict[UUID, VerificationResult]


def run(held: HeldClaim, sizes: Mapping[UUID, Size], *, deadline: float) -> None:
    """Erase what the claim's requests name and complete them. `sizes` is how much that is (`sizes.measure`).

    `deadline` is a `time.monotonic()` value: past it, between two chunks, the requests are requeued so that
    others are served; the next claim goes on where this one stopped. Raises ClaimLost.
    """
    # Whoever has to approve is asked before a large one waits for its lane.
    admitted = {one.request_id: one for one in marking.admit(held, sizes)}
    going = transitions.move_large(held, list(admitted), sizes)
    if going:
        fits = rows.fits_one_chunk(sizes[each] for each in going if each in sizes)
        marked = marking.mark(held, [admitted[each] for each in going], erases=fits)
        _Work(held, marked, deadline).run()


class _Work:
    """The requests of a claim that have marked, until each has left the claim."""

    def __init__(self, held: HeldClaim, marked: Marked, deadline: float) -> None:
        self._held = held
        self._going = list(marked.request_ids)
        self._fresh = marked.fresh
        self._leaves_rows = marked.leaves_rows
        self._chatbot_ids = marked.chatbot_ids
        self._deadline = deadline

    def run(self) -> None:
        """Go round until nothing is left to be done here. Each round erases something, or ends the work."""
        # What was erased along with the mark has mostly left nothing, but a day's file mostly holds it. Of the others
        # the ledger is told before all of theirs is erased, as after a kill.
        if self._going and not self._leaves_rows and not extracts.has_any(self._chatbot_ids):
            with self._held.transaction():
                written = ledger.read(self._going)
            self._complete(written)
        while self._going:
            if self._leaves_rows and not self._erase_rows():
                return
            self._leaves_rows = True
            found, lines = self._look()
            self._fail_stuck(found)
            found |= self._complete(lines)
            self._wait_for_days(found)
            self._work_on(found)

    def _erase_rows(self) -> bool:
        """Erase what can be locked; return False when the time was over first."""
        while True:
            with self._held.transaction():
                more = bool(rows.erase_chunk(self._going))
            if not more:
                return True
            # After a chunk: each turn gets on.
            if time.monotonic() > self._deadline:
                self._put_back(self._going, WaitingFor.TURN)
                return False

    def _look(self) -> tuple[Found, Mapping[UUID, ledger.Line]]:
        """Ask what is left, and note it; return it, and the ledger's lines of those that left nothing."""
        with self._held.transaction():
            found = verify.ask(self._going)
            at_clients = [request_id for request_id, left in found.items() if left.at_clients]
            # A client's bucket may be slow or dead: the others of the claim do not wait for it.
            self._going = transitions.move_to_client_lane(self._held, self._going, at_clients)
            self._note(found)
            clean = [request_id for request_id in self._going if _is_clean(found, request_id)]
            return found, ledger.read(clean) if clean else {}

    def _note(self, found: Found) -> None:
        """Note how much was found, in the caller's transaction."""
        ours = [(request_id, found[request_id]) for request_id in self._going if request_id in found]
        transitions.note_left(
            {
                each: transitions.Left(left.erased_before, left.days_clean, left.rows[verify.DAYS])
                for each, left in ours
            }
        )

    def _complete(self, lines: Mapping[UUID, ledger.Line]) -> Found:
        """Look again, and complete in the same transaction what left nothing. `lines` are of those that may have.

        Return what is left after all: of what came in between.
        """
        if not lines or not self._write(lines):
            return {}
        with self._held.transaction():
            clean = self._without_behind(list(lines))
            again = verify.look_again(clean, empties=True)
            self._note(again)
            done = [request_id for request_id in clean if _is_clean(again, request_id)]
            if leaving := [each for each in done if each in again and again[each].stays]:
                exports.leave(leaving)
            if naming := [each for each in done if each in again and again[each].names]:
                rows.forget_names(naming)
            self._fail_stuck(again)
            self._conclude(done)
        return again

    def _write(self, lines: Mapping[UUID, ledger.Line]) -> bool:
        """Write these into the ledger; where that fails, so do they."""
        try:
            ledger.write(list(lines.values()))
        except StepFailed as failure:
            self._fail(dict.fromkeys(lines, failure))
            return False
        return True

    def _without_behind(self, request_ids: Sequence[UUID]) -> list[UUID]:
        """Requeue those that must wait for an export which was retried since; return the others."""
        behind = transitions.blocked_by_exports(self._held, request_ids)
        self._put_back(behind, WaitingFor.TURN)
        return [request_id for request_id in request_ids if request_id not in behind]

    def _conclude(self, done: Sequence[UUID]) -> None:
        """Complete these, of which the transaction has seen that nothing is left."""
        failed = transitions.failed_by_ids(self._held, done)
        still_left = verify.ask(failed) if failed else {}
        transitions.complete_deletions(
            self._held, done, done_by_ids=[each for each in failed if _is_clean(still_left, each)]
        )
        self._drop(done)
        if not self._going:
            self._held.release()

    def _fail_stuck(self, found: Found) -> None:
        """Fail what left rows that no step removes: a fault of ours, or of what a backup brought back."""
        stuck = {each: found[each] for each in self._going if each in found and found[each].is_stuck}
        if stuck:
            logger.error("erasure.incomplete requests=%s", ",".join(map(str, stuck)))
        self._fail(
            {
                request_id: StepFailed("erasure_incomplete", f"Verification still found rows: {left}.")
                for request_id, left in stuck.items()
            }
        )

    def _wait_for_days(self, found: Found) -> None:
        """Put aside what has nothing left but days; what waits for one that failed fails by the same code.

        Unless it has just begun: then the day is tried anew, since what failed it may be long over.
        """
        days = {each: found[each] for each in self._going if each in found and found[each].is_days_alone}
        failures = {each: left.failure for each, left in days.items() if left.failure and each not in self._fresh}
        anew = [each for each, left in days.items() if left.failure and each in self._fresh]
        if anew:
            with self._held.transaction():
                extracts.try_again(anew)
        self._fail(failures)
        self._put_back([each for each in days if each not in failures], WaitingFor.EXTRACTS, _WAIT_FOR_EXTRACTS)

    def _work_on(self, found: Found) -> None:
        """Remove files and exports. What is left and cannot be worked on is locked by somebody else.

        Past the deadline all are put back.
        """
        left = {each: found.get(each, VerificationResult()) for each in self._going}
        gone = 0
        # What a client's bucket has to be called for is in the client lane by now, unless this claim may call it.
        erase_exports = partial(objects.erase_exports, at_clients=self._held.bucket_of is not None)
        for store, remove in ((verify.FILES, objects.erase_files), (verify.EXPORTS, erase_exports)):
            having = [each for each in self._going if left[each].rows[store]]
            if having:
                failures = remove(self._held.transaction, having)
                self._fail(failures)
                gone += len(having) - len(failures)
        if self._going and not gone:
            with self._held.transaction():
                gone = len(rows.erase_chunk(self._going))
        if not gone:
            self._put_back(self._going, WaitingFor.ROWS, marking.WAIT_FOR_ROWS)
        elif time.monotonic() > self._deadline:
            self._put_back(self._going, WaitingFor.TURN)

    def _fail(self, failures: Mapping[UUID, StepFailed]) -> None:
        if failures:
            transitions.step_failed(self._held, failures)
            self._drop(failures)

    def _put_back(self, request_ids: Sequence[UUID], waiting_for: WaitingFor, wait: timedelta = timedelta()) -> None:
        if request_ids:
            transitions.requeue(self._held, request_ids, waiting_for=waiting_for, wait=wait)
            self._drop(request_ids)

    def _drop(self, request_ids: Collection[UUID]) -> None:
        gone = set(request_ids)
        self._going = [request_id for request_id in self._going if request_id not in gone]


def _is_clean(found: Found, request_id: UUID) -> bool:
    return request_id not in found or found[request_id].is_nothing
