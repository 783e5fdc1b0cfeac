"""The folder of the benchmarks' own copy. Does not import Django, whose settings create files there."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("VAR_DIR", ROOT / "var")).resolve() / "bench"


class Busy(Exception):
    """Another run of the benchmarks uses the same folder."""


@contextmanager
def exclusive_folder() -> Iterator[None]:
    """Lock the empty folder for this process, and remove it at the end. Raises Busy."""
    VAR_DIR.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(VAR_DIR.parent, os.O_RDONLY)
    try:
        _lock(lock)
        shutil.rmtree(VAR_DIR, ignore_errors=True)  # of a run that was killed
        try:
            yield
        finally:
            shutil.rmtree(VAR_DIR, ignore_errors=True)
    finally:
        os.close(lock)


def _lock(lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Busy from None
