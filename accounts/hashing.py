"""Password hashing, one at a time in each process.

Hashing takes a processor for a while and needs no log-in, so it could be used to keep all processors busy. One thread
of low priority does it, and one request at most waits for it: more would block the threads that serve the API.
Every check and change of a password goes through this hasher.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache

from django.contrib.auth.hashers import PBKDF2PasswordHasher

# One password that is being hashed, and one that waits.
_AT_ONCE = 2
_NICENESS = 10


class TooBusy(Exception):
    """Too many passwords are being checked, so this one was not. It can be retried in a moment."""


class SerialHasher(PBKDF2PasswordHasher):
    """Django's hasher and format, one password at a time. Raises TooBusy."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        pool, places = _of_process(os.getpid())
        if not places.acquire(blocking=False):
            raise TooBusy
        try:
            return pool.submit(super().encode, password, salt, iterations).result()
        finally:
            places.release()


def has_capacity() -> bool:
    """Return whether a password could be hashed now. It may still be TooBusy a moment later."""
    _, places = _of_process(os.getpid())
    if not places.acquire(blocking=False):
        return False
    places.release()
    return True


@cache
def _of_process(_pid: int) -> tuple[ThreadPoolExecutor, threading.BoundedSemaphore]:
    """Return the thread and its semaphore for a process, since a forked one loses its parent's thread."""
    return ThreadPoolExecutor(1, "hashing", _yield_to_others), threading.BoundedSemaphore(_AT_ONCE)


def _yield_to_others() -> None:
    # Only Linux has priorities of threads.
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
