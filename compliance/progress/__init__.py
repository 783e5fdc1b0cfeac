"""Every change of a request's state that a worker reports. Each happens in a bite of the worker's claim.

The counters are added in the transaction that did what they count, so that a kill can neither lose nor repeat
one. Final states forget the chatter's value.
"""

from compliance.progress.completing import complete_deletions
from compliance.progress.counters import COUNTERS, Counts, add_counts
from compliance.progress.exporting import Delivered, complete_exports, overtaken, start_exports
from compliance.progress.failing import step_failed
from compliance.progress.giving_back import divert_large, give_back, give_back_alone, set_apart
from compliance.progress.holding import hold, release_export_pending

__all__ = [
    "COUNTERS",
    "Counts",
    "Delivered",
    "add_counts",
    "complete_deletions",
    "complete_exports",
    "divert_large",
    "give_back",
    "give_back_alone",
    "hold",
    "overtaken",
    "release_export_pending",
    "set_apart",
    "start_exports",
    "step_failed",
]
