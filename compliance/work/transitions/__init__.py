"""Every change of a request's state by a worker, each in a transaction that holds the claim.

Counters are added in the transaction that did the work they count, so a kill neither loses nor repeats any. Final
states clear the chatter's value.
"""

from compliance.work.transitions.completion import blocked_by_exports, complete_deletions, failed_by_ids
from compliance.work.transitions.counters import COUNTERS, Counts, Left, add_counts, add_late_counts, note_left
from compliance.work.transitions.exports import Delivered, complete_exports, start_exports
from compliance.work.transitions.requeue import (
    hold,
    move_large,
    move_to_client_lane,
    release_export_pending,
    requeue,
    requeue_isolated,
    step_failed,
    try_again,
)

__all__ = [
    "COUNTERS",
    "Counts",
    "Delivered",
    "Left",
    "add_counts",
    "add_late_counts",
    "blocked_by_exports",
    "complete_deletions",
    "complete_exports",
    "failed_by_ids",
    "hold",
    "move_large",
    "move_to_client_lane",
    "note_left",
    "release_export_pending",
    "requeue",
    "requeue_isolated",
    "start_exports",
    "step_failed",
    "try_again",
]
