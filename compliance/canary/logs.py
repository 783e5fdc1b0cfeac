"""Look in log files that an operator names (`CANARY_LOG_FILES`): what was written since the last look.

A file is known by its inode and a digest of its first bytes, so what is renamed by rotation is read on from where it
was, and one that was copied and emptied, or whose inode another has now, is not taken for it. Any other is read whole
if it has changed since. One that was in use and is nowhere any more, nor a copy of it, cannot be looked at: the
patterns have to fit the names that rotation gives.
"""

import glob
import hashlib
import os
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings

from common import proc
from compliance.canary.api import Code, Sighting
from compliance.canary.trouble import Budget, CannotTell, Doubts, NotHere, Trouble
from compliance.canary.words import GUNZIP, GZIP, Search, Unsearchable

# Of all patterns together.
_MOST_FILES = 1_000
_PIECE_BYTES = 1024 * 1024
# What was written between two turns is read too, unless it is more.
_MOST_BETWEEN_BYTES = 32 * 1024 * 1024
# By so many bytes a file is told from another.
_HEAD_BYTES = 256
_PACKED_HEAD_BYTES = 4096
# The clock of the database, and the time of a file.
_CLOCKS_SECONDS = 300
# What was written to so lately can have been written to since.
_IN_USE_SECONDS = 3600


class _Known(NamedTuple):
    """A file as it was. A turn's row has it as a list."""

    path: str
    size: int
    changed_at: float
    head: str

    def begins_as(self, head: bytes) -> bool:
        length = min(self.size, _HEAD_BYTES)
        return len(head) >= length and _digest(head[:length]) == self.head

    def is_in_use(self, at: float) -> bool:
        is_read = any(fnmatchcase(self.path, pattern) for pattern in settings.CANARY_LOG_FILES)
        return is_read and self.changed_at > at - _IN_USE_SECONDS


def positions() -> dict[str, Any]:
    """Return how long each log file of this machine is now. Says nothing of a file that cannot be read.

    `is_read` is for the caller to set: whether a turn has read everything up to there.
    """
    files: dict[str, _Known] = {}
    with suppress(CannotTell):
        for path, found in _files()[0]:
            with suppress(OSError):
                head = _digest(_head(path)[: found.st_size])
                files[_identity(found)] = _Known(path, found.st_size, found.st_mtime, head)
    return {"machine": proc.pid_scope(), "at": time.time(), "files": files, "is_read": False}


def positions_after(before: dict[str, Any]) -> dict[str, Any]:
    """Return how long each was when this machine last looked: from there the next turn reads on.

    Returns how long each is now where `before` was not read to its end, or very much was written since. A machine
    that reads no logs leaves them to the one that did.
    """
    if not before.get("is_read"):
        return positions()
    before = before | {"is_read": False}
    if before["files"] and not settings.CANARY_LOG_FILES:
        return before
    now = positions()
    if before.get("machine") != now["machine"]:
        return now
    known = _known(before)
    sizes = [(one.size, known[name].size if name in known else 0) for name, one in now["files"].items()]
    written = sum(max(0, size - former) for size, former in sizes)
    return before if written <= _MOST_BETWEEN_BYTES else now


def look(search: Search, since: dict[str, Any], began_at: datetime, *, budget: Budget) -> Iterator[Sighting]:
    """Yield the log files in which a word is, then raise CannotTell if one is missing, or cannot be read."""
    if since.get("files") and not settings.CANARY_LOG_FILES:
        # It is set for another machine, whose worker did not take this step.
        raise NotHere(Trouble.LOG_MISSING, "CANARY_LOG_FILES")
    # Inodes are of one machine; on another, or after a restart of it, nothing is known of the files.
    is_here = since.get("machine") == proc.pid_scope()
    known = _known(since) if is_here else {}
    at: float = since["at"] if is_here else began_at.timestamp()
    left = {name: one for name, one in known.items() if one.is_in_use(at)}
    files, missing = _files()
    doubts = Doubts()
    for path, found in files:
        with doubts.passing(), _readable(path):
            budget.check(path)
            name, head, start = _identity(found), _head(path), 0
            if name in known and found.st_size >= known[name].size and known[name].begins_as(head):
                left.pop(name, None)
                start = known[name].size
            else:
                # It can be a copy, as copytruncate makes one, also if it was packed at once.
                left = {name: one for name, one in left.items() if not (one.size and one.begins_as(head))}
                if found.st_mtime < at - _CLOCKS_SECONDS:
                    continue
            if search.is_in_any(_pieces(path, start, budget)):
                yield Sighting(Code.TEXT_LEFT, path)
    doubts.tell()
    if missing or left:
        raise CannotTell(Trouble.LOG_MISSING, missing or min(one.path for one in left.values()))


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Raise CannotTell for a file that cannot be read, or searched."""
    trouble: Trouble | None = None
    try:
        yield
    except Unsearchable:
        trouble = Trouble.TOO_MUCH
    except OSError:
        trouble = Trouble.LOG_MISSING
    if trouble is not None:
        raise CannotTell(trouble, path)


def _known(positions: dict[str, Any]) -> dict[str, _Known]:
    return {name: _Known(*one) for name, one in positions["files"].items()}


def _head(path: str) -> bytes:
    """Return the first bytes of a file, or of what it is the gzip of."""
    with Path(path).open("rb") as file:
        head = file.read(_PACKED_HEAD_BYTES)
    if head.startswith(GZIP):
        with suppress(zlib.error):
            return zlib.decompressobj(GUNZIP).decompress(head, _HEAD_BYTES)
    return head[:_HEAD_BYTES]


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()[:32]


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
