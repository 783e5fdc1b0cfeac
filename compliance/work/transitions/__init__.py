"""Every change of a request's state that a worker reports. Each happens in a transaction that holds the claim.

The counters are added in the transaction that did what they count, so that a kill can neither lose nor repeat
one. Final states forget the chatter's value.
"""

from compliance.work.transitions.completion import blocked_by_exports, complete_deletions, failed_by_ids
from compliance.work.transitions.counters import COUNTERS, Counts, Left, add_counts, add_late_counts, note_left
from compliance.work.transitions.exports import Delivered, complete_exports, start_exports
from compliance.work.transitions.failures import step_failed
from compliance.work.transitions.holds import hold, release_export_pending
from compliance.work.transitions.requeues import move_large, move_to_client_lane, requeue, requeue_isolated, try_again

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
