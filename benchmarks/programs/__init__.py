"""One module for each thing that is measured. `run(run)` measures it and adds its rows to the run's results.

The first line of a module's docstring is what `--list` shows. Each is imported only when it is to run, so that
one which no longer fits the product stops no other.
"""

# In the order in which they run: the quick ones first.
NAMES = (
    "deletions",
    "latency",
    "small_exports",
    "accepting",
    "fairness",
    "log",
    "clusters",
    "days_again",
    "filed_again",
    "large_export",
    "daily_extract",
    "importing",
    "growth",
    "oversized",
    "retention",
    "replay",
    "citus",
)
