"""Search the operator's log files (`CANARY_LOG_FILES`) that were written to since the last turn that searched all."""

import glob
import os
from pathlib import Path

from django.conf import settings

from compliance.canary.errors import Inconclusive, Trouble, UnderWay, check_time
from compliance.canary.words import GZIP
from compliance.canary.work import Work
from compliance.models.canary import Left, Place

# Of a longer file the end is read, unless it is packed.
_MOST_BYTES = 32 * 1024 * 1024
# The tolerance between the clock of the database and the time of a file.
_CLOCKS_SECONDS = 300


def scan(work: Work) -> None:
    """Report the log files that contain a word. Raises UnderWay if only another process reads any."""
    if not settings.CANARY_LOG_FILES and work.former and work.former[0].logs:
        raise UnderWay(Trouble.LOG_MISSING, "CANARY_LOG_FILES")
    work.turn.logs = {"are_read": True} if settings.CANARY_LOG_FILES else {}
    since = work.since.timestamp() - _CLOCKS_SECONDS
    for path in _files(work):
        with work.capture_failure(path), Path(path).open("rb") as file:
            check_time(path)
            state = os.fstat(file.fileno())
            if not file.peek().startswith(GZIP):
                file.seek(max(0, state.st_size - _MOST_BYTES))
            if state.st_mtime > since and work.search.is_in_file(file):
                work.add_finding(Place.LOGS, Left.TEXT_LEFT, path)


def _files(work: Work) -> list[str]:
    """Return the files that fit the patterns. Reports a pattern that fits none."""
    files: dict[str, None] = {}
    for pattern in settings.CANARY_LOG_FILES:
        # Other files, such as a named pipe, have no end.
        fitting = [path for path in sorted(glob.iglob(pattern)) if Path(path).is_file()]  # noqa: PTH207  (absolute)
        files |= dict.fromkeys(fitting)
        if not fitting:
            work.add_failure(Inconclusive(Trouble.LOG_MISSING, pattern))
    return list(files)
