"""Look in log files that an operator names (`CANARY_LOG_FILES`): what was written since the last look.

A file is known by digests of its first and its last bytes, so what is renamed or copied by rotation is read on from
where it was, and another one that only begins alike is not. Any other is read whole if it has changed since. One that
was in use and is nowhere any more, nor a copy of it, cannot be looked at: the patterns have to fit the names that
rotation gives.
"""

import glob
import gzip
import hashlib
import os
import time
import zlib
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from django.conf import settings

from compliance.canary.report import Inconclusive, Report, Trouble, check_time
from compliance.canary.words import Search
from compliance.models.canary import Left, Place

# What was written between two turns is read too, unless it is more.
_MOST_BETWEEN_BYTES = 32 * 1024 * 1024
# By so many bytes, at its beginning and its end, a file is told from another.
_HEAD_BYTES = 256
# The clock of the database, and the time of a file.
_CLOCKS_SECONDS = 300
# What was written to so lately can have been written to since.
_IN_USE_SECONDS = 3600


class _Known(NamedTuple):
    """A file as it was, with something in it. A turn's row has it as a list."""

    path: str
    size: int
    head: str
    tail: str
    is_in_use: bool

    def begins(self, head: bytes) -> bool:
        """Return whether a file that begins so is this one, or a copy of it."""
        return _digest(head[: self.size]) == self.head

    def is_in(self, file: BinaryIO) -> bool:
        """Return whether a file goes on from where this one ended. Moves its position."""
        file.seek(0)
        return self.begins(file.read(_HEAD_BYTES)) and _digest(_last_bytes(file, self.size)) == self.tail


def positions() -> dict[str, Any]:
    """Return how long each log file is now, or nothing without any. Says nothing of one that cannot be read."""
    if not settings.CANARY_LOG_FILES:
        return {}
    now, files = time.time(), []
    for path in _files(Report()):
        with suppress(OSError), Path(path).open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_size:
                head, tail = file.read(_HEAD_BYTES)[: found.st_size], _last_bytes(file, found.st_size)
                is_in_use = found.st_mtime > now - _IN_USE_SECONDS
                files.append(_Known(path, found.st_size, _digest(head), _digest(tail), is_in_use))
    return {"at": now, "files": files}


def positions_after(before: dict[str, Any]) -> dict[str, Any]:
    """Return how long each was when the turn `before` looked: from there the next turn reads on.

    Returns how long each is now if that did not read all, or very much was written since. A process that reads no
    logs leaves them to one that does.
    """
    now, is_read = positions(), before.pop("is_read", False)
    sizes = [sum(_Known(*one).size for one in each.get("files", ())) for each in (before, now)]
    return before if before and is_read and sizes[1] - sizes[0] <= _MOST_BETWEEN_BYTES else now


def scan(search: Search, since: dict[str, Any], began_at: datetime, report: Report) -> None:
    """Report the log files that contain a word.

    Raises Inconclusive if this process reads none, and another process reads some.

    `since` are positions of when the turn began, at `began_at`, or before.
    """
    if since and not settings.CANARY_LOG_FILES:
        raise Inconclusive(Trouble.LOG_MISSING, "CANARY_LOG_FILES")
    at = since.get("at", began_at.timestamp())
    known = [_Known(*one) for one in since.get("files", ())]
    left = [one for one in known if one.is_in_use]
    for path in _files(report):
        with report.capture_failure(path), Path(path).open("rb") as file:
            here, packed = [one for one in known if one.is_in(file)], _packed_head(path)
            left = [one for one in left if not (one in here or one.begins(packed))]
            start = min((one.size for one in here), default=0)
            if start or os.fstat(file.fileno()).st_mtime > at - _CLOCKS_SECONDS:
                file.seek(start)
                if search.is_in_file(file, partial(check_time, path)):
                    report.add_finding(Place.LOGS, Left.TEXT_LEFT, path)
    for one in left:
        report.add_failure(Trouble.LOG_MISSING, one.path)


def _files(report: Report) -> list[str]:
    """Return the files that fit the patterns. Reports a pattern that fits none."""
    files: dict[str, None] = {}
    for pattern in settings.CANARY_LOG_FILES:
        # Others, such as a named pipe, could not be read to an end.
        fitting = [path for path in sorted(glob.iglob(pattern)) if Path(path).is_file()]  # noqa: PTH207  (absolute)
        files |= dict.fromkeys(fitting)
        if not fitting:
            report.add_failure(Trouble.LOG_MISSING, pattern)
    return list(files)


def _packed_head(path: str) -> bytes:
    """Return the first bytes of what a file is the gzip of, or none."""
    with suppress(OSError, EOFError, zlib.error), gzip.open(path) as file:
        return file.read(_HEAD_BYTES)
    return b""


def _last_bytes(file: BinaryIO, size: int) -> bytes:
    """Return the last of the first `size` bytes of a file."""
    file.seek(max(0, size - _HEAD_BYTES))
    return file.read(min(size, _HEAD_BYTES))


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()[:32]
