"""Carry out a claim of deletions, set-wise, from the second question to completion.

DANGER: what this module does cannot be undone. What keeps it right:

- nothing is touched before `admit` has asked again whether it may be, and the mark is one transaction;
- each piece of work is one bite: it holds the claim, is bounded, and commits with its counts;
- each step finds its work by what is still there, so it can be killed at any instant and run again;
- only what is marked with a request's id is erased, and the mark is set only through the chatter's identity;
- nothing is reported from the plan: completion follows a second look at every store (`verify`).

    admit -> mark + first bite -> bites -> objects -> days made again (by others) -> ledger -> second look -> complete

Where several people were in a conversation that has files, the files go first: its identities are how the deletion of
each of them finds it, and none may complete while a file is there.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from compliance import notes, progress
from compliance.claims import HeldClaim
from compliance.erasure import extracts, ledger, marking, objects, rows, verify
from compliance.errors import StepFailed
from compliance.sizes import Size

logger = logging.getLogger(__name__)

# How long a deletion waits for another that is at work on a conversation they share.
_WAIT_FOR_OTHERS = timedelta(seconds=5)
# Whoever makes the last of its days again lets it go on; this is for when nobody told.
_WAIT_FOR_EXTRACTS = timedelta(seconds=60)


def run(held: HeldClaim, sizes: Mapping[UUID, Size], *, deadline: float) -> None:
    """Erase what the claim's requests name and complete them. `sizes` is how much that is (`sizes.measure`).

    `deadline` is a `time.monotonic()` value: past it, between two bites, the requests are given back so that
    others are served; the next claim goes on where this one stopped. Raises ClaimLost.
    """
    # Whoever has to approve is asked before a large one waits for its lane.
    going = progress.divert_large(held, marking.admit(held, sizes), sizes)
    if not going:
        return
    if not _erase_rows(held, going, [sizes[each] for each in going if each in sizes], deadline=deadline):
        progress.give_back(held, going, code="turn_over")
        return
    with held.bite():
        has_objects = objects.has_any(going)
        if has_objects:
            # A client's bucket may be slow or dead: the others of the claim do not wait for it.
            going = progress.set_apart(held, going, objects.in_clients_buckets(going))
        days = extracts.look(going)
        erased = ledger.read(going)
    if has_objects:
        for step in (objects.erase_files, objects.erase_exports):
            going = _drop_failed(held, going, step(held.bite, going))
        # The rows of conversations that several people were in go after their files.
        if not _erase_marked(held, going, deadline=deadline):
            progress.give_back(held, going, code="turn_over")
            return
        with held.bite():
            days = extracts.look(going)
    if days:
        going = _drop_what_waits(held, going, days)
    if going and _write_ledger(held, going, erased):
        objects.forget_copies_left(held.bite, going)
        _complete_what_is_clean(held, going)


def _erase_rows(held: HeldClaim, request_ids: Sequence[UUID], sizes: Sequence[Size], *, deadline: float) -> bool:
    """Mark and erase; return False when the time was over first."""
    with held.bite():
        if rows.fits_one_bite(sizes):
            more = marking.mark_and_erase(held, request_ids)
        else:
            more = True
            marking.mark(held, request_ids)
    return not more or _erase_marked(held, request_ids, deadline=deadline)


def _erase_marked(held: HeldClaim, request_ids: Sequence[UUID], *, deadline: float) -> bool:
    """Erase what may be erased of what is marked; return False when the time was over first."""
    more = True
    while more:
        with held.bite():
            more = rows.erase_bite(request_ids)
        # After a bite: each turn gets on.
        if more and time.monotonic() > deadline:
            return False
    return True


def _write_ledger(held: HeldClaim, request_ids: Sequence[UUID], erased: Mapping[UUID, ledger.Line]) -> bool:
    try:
        ledger.write([erased[request_id] for request_id in request_ids])
    except StepFailed as failure:
        progress.step_failed(held, dict.fromkeys(request_ids, failure))
        return False
    return True


def _complete_what_is_clean(held: HeldClaim, request_ids: Sequence[UUID]) -> None:
    """Look again, and complete in the same transaction what left nothing. The last bite: the claim is over."""
    with held.bite():
        notes.empty(request_ids)
        left = verify.look_again(request_ids)
        waiting = [request_id for request_id, leftovers in left.items() if leftovers.under_way]
        # A deletion that shares a conversation has erased it since we looked, and noted its days for us too.
        flagged = [request_id for request_id, leftovers in left.items() if leftovers.is_days_alone]
        failures = {
            request_id: StepFailed("erasure_incomplete", f"The second look still found rows: {leftovers}.")
            for request_id, leftovers in left.items()
            if request_id not in {*waiting, *flagged}
        }
        clean = [request_id for request_id in request_ids if request_id not in left]
        if failures:
            logger.error("erasure.incomplete requests=%s", ",".join(map(str, failures)))
            progress.step_failed(held, failures)
        if waiting:
            progress.give_back(held, waiting, code="shared_conversation", wait=_WAIT_FOR_OTHERS)
        if flagged:
            progress.give_back(held, flagged, code="extracts_pending", wait=_WAIT_FOR_EXTRACTS)
        if clean:
            objects.forget_left(clean)
            progress.add_counts(extracts.counts(extracts.look(clean)))
            progress.complete_deletions(held, clean)
        held.let_go()


def _drop_failed(held: HeldClaim, request_ids: Sequence[UUID], failures: objects.Failures) -> list[UUID]:
    if failures:
        progress.step_failed(held, failures)
    return [request_id for request_id in request_ids if request_id not in failures]


def _drop_what_waits(held: HeldClaim, request_ids: Sequence[UUID], days: Mapping[UUID, extracts.Days]) -> list[UUID]:
    """Put aside what has a day to be made again; what waits for one that failed fails by the same code."""
    waiting = [request_id for request_id in request_ids if request_id in days and days[request_id].waits]
    failures = {each: failure for each in waiting if (failure := days[each].failure)}
    if failures:
        progress.step_failed(held, failures)
    waiting = [request_id for request_id in waiting if request_id not in failures]
    if waiting:
        progress.give_back(held, waiting, code="extracts_pending", wait=_WAIT_FOR_EXTRACTS)
    return [request_id for request_id in request_ids if request_id not in {*waiting, *failures}]
