"""Search the operator's log files (`CANARY_LOG_FILES`) for words written since the last search.

A file is identified by digests of its first and its last bytes. So a file that rotation renamed or copied is read on
from its former end, and another file with the same beginning is not taken for it. Any other file is read whole if it
has changed since. If a used file and every copy of it are gone, it cannot be searched: the patterns have to match the
names that rotation gives.
"""

import glob
import gzip
import hashlib
import os
import time
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from django.conf import settings

from compliance.canary.report import Inconclusive, Report, Trouble, UnderWay, check_time
from compliance.canary.work import Work
from compliance.models.canary import Left, Place

# Lines written between two turns are read too, unless they have more bytes.
_MOST_BETWEEN_BYTES = 32 * 1024 * 1024
# The number of bytes at the beginning and the end by which a file is identified.
_HEAD_BYTES = 256
# The tolerance between the clock of the database and the time of a file.
_CLOCKS_SECONDS = 300
# A file that was written to within this time can have been written to since.
_IN_USE_SECONDS = 3600


class _Known(NamedTuple):
    """The former state of a file that was not empty. A turn's row stores it as a list."""

    path: str
    size: int
    head: str
    tail: str
    is_in_use: bool

    def begins(self, head: bytes) -> bool:
        """Return whether a file with this beginning is this one, or a copy of it."""
        return _digest(head[: self.size]) == self.head

    def is_in(self, file: BinaryIO) -> bool:
        """Return whether a file continues this one. Moves its position."""
        file.seek(0)
        return self.begins(file.read(_HEAD_BYTES)) and _digest(_last_bytes(file, self.size)) == self.tail


def positions() -> dict[str, Any]:
    """Return the present length of each readable log file, or nothing if there is none."""
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
    """Return the length of each file at the search of the turn `before`: the next turn reads on from there.

    Returns the present lengths if that turn did not read all, or if very much was written since. A process that reads
    no logs leaves them to another process.
    """
    now, is_read = positions(), before.pop("is_read", False)
    sizes = [sum(_Known(*one).size for one in each.get("files", ())) for each in (before, now)]
    return before if before and is_read and sizes[1] - sizes[0] <= _MOST_BETWEEN_BYTES else now


def scan(work: Work) -> None:
    """Report the log files that contain a word. Raises UnderWay if another process reads some, and this one none."""
    turn, report, since, now = work.turn, work.report, work.turn.logs, positions()
    if since and not settings.CANARY_LOG_FILES:
        raise UnderWay(Trouble.LOG_MISSING, "CANARY_LOG_FILES")
    at = since.get("at", turn.began_at.timestamp())
    known = [_Known(*one) for one in since.get("files", ())]
    left = [one for one in known if one.is_in_use]
    for path in _files(report):
        with report.capture_failure(path), Path(path).open("rb") as file:
            here, packed = [one for one in known if one.is_in(file)], _packed_head(path)
            left = [one for one in left if not (one in here or one.begins(packed))]
            start = min((one.size for one in here), default=0)
            if start or os.fstat(file.fileno()).st_mtime > at - _CLOCKS_SECONDS:
                file.seek(start)
                if work.search.is_in_file(file, partial(check_time, path)):
                    report.add_finding(Place.LOGS, Left.TEXT_LEFT, path)
    for one in left:
        report.add_failure(Inconclusive(Trouble.LOG_MISSING, one.path))
    if not report.trouble:
        turn.logs = now | {"is_read": True}  # the next turn continues there


def _files(report: Report) -> list[str]:
    """Return the files that fit the patterns. Reports a pattern that fits none."""
    files: dict[str, None] = {}
    for pattern in settings.CANARY_LOG_FILES:
        # Other files, such as a named pipe, have no end.
        fitting = [path for path in sorted(glob.iglob(pattern)) if Path(path).is_file()]  # noqa: PTH207  (absolute)
        files |= dict.fromkeys(fitting)
        if not fitting:
            report.add_failure(Inconclusive(Trouble.LOG_MISSING, pattern))
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
