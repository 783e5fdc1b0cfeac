"""Look in log files that an operator names (`CANARY_LOG_FILES`): what was written since the turn began.

A file is known by its inode, so what is renamed by rotation is read on from where it was. One that is not known is
read whole if it has changed since, as is one that is shorter than before. One that was in use and is not found any
more cannot be looked at: the patterns have to fit the names that rotation gives.
"""

import glob
import os
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from common import proc
from compliance.canary.api import Code, Sighting
from compliance.canary.trouble import Budget, CannotTell, Doubts, Trouble
from compliance.canary.words import Search, Unsearchable

# Of all patterns together.
_MOST_FILES = 1_000
_PIECE_BYTES = 1024 * 1024
# The clock of the database, and the time of a file.
_CLOCKS = timedelta(minutes=5)
# What was written to so lately when the turn began can have been written to since.
_IN_USE = timedelta(hours=1)


def positions() -> dict[str, Any]:
    """Return how long each log file of this machine is now. Says nothing of a file that cannot be read."""
    try:
        files = {_identity(found): [found.st_size, int(found.st_mtime)] for _, found in _files()[0]}
    except CannotTell:
        files = {}
    return {"machine": proc.pid_scope(), "files": files}


def look(search: Search, since: dict[str, Any], began_at: datetime, *, budget: Budget) -> Iterator[Sighting]:
    """Yield the log files in which a word is, then raise CannotTell if one is missing, or cannot be read."""
    # Inodes are of one machine; on another, or after a restart of it, nothing is known of the files.
    known = since.get("files", {}) if since.get("machine") == proc.pid_scope() else {}
    recent = (began_at - _IN_USE).timestamp()
    in_use = {identity for identity, (_, changed) in known.items() if changed > recent}
    files, missing = _files()
    if since.get("files") and not settings.CANARY_LOG_FILES:
        # It is set for another machine, whose worker did not take this step.
        raise CannotTell(Trouble.LOG_MISSING, "CANARY_LOG_FILES")
    doubts = Doubts()
    for path, found in files:
        identity = _identity(found)
        in_use.discard(identity)
        if identity not in known and found.st_mtime < (began_at - _CLOCKS).timestamp():
            continue
        before = known[identity][0] if identity in known else 0
        with doubts.passing():
            budget.check(path)
            if _is_in(path, before if before <= found.st_size else 0, search, budget):
                yield Sighting(Code.TEXT_LEFT, path)
    doubts.tell()
    if missing or in_use:
        raise CannotTell(Trouble.LOG_MISSING, missing or "rotated")


def _is_in(path: str, start: int, search: Search, budget: Budget) -> bool:
    code = Trouble.LOG_MISSING
    try:
        return search.is_in_any(_pieces(path, start, budget))
    except Unsearchable:
        code = Trouble.TOO_MUCH
    except OSError:
        pass
    raise CannotTell(code, path)


def _pieces(path: str, start: int, budget: Budget) -> Iterator[bytes]:
    with Path(path).open("rb") as file:
        file.seek(start)
        while piece := file.read(_PIECE_BYTES):
            budget.check(path)
            yield piece


def _files() -> tuple[list[tuple[str, os.stat_result]], str]:
    """Return the files that fit the patterns, each once, and a pattern that fits none, or "". Raises CannotTell."""
    files: dict[str, tuple[str, os.stat_result]] = {}
    missing = ""
    for pattern in settings.CANARY_LOG_FILES:
        is_missing = True
        for path in sorted(glob.iglob(pattern)):  # noqa: PTH207  (absolute patterns)
            try:
                found = os.stat(path)  # noqa: PTH116  (its inode, with what was asked)
            except OSError:
                continue  # rotated away meanwhile
            # Others, such as a named pipe, could not be read to an end.
            if not stat.S_ISREG(found.st_mode):
                continue
            is_missing = False
            files[_identity(found)] = (path, found)
            if len(files) > _MOST_FILES:
                raise CannotTell(Trouble.TOO_MUCH, pattern)
        if is_missing:
            missing = missing or pattern
    return list(files.values()), missing


def _identity(found: os.stat_result) -> str:
    return f"{found.st_dev}:{found.st_ino}"
