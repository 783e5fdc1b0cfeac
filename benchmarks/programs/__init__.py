"""One module for each measurement. `run(run)` measures and adds its rows to the run's results.

`--list` shows the first line of a module's docstring. Each is imported only for its run, so that an outdated one does
not stop the others.
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
