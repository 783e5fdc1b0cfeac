"""Hashing of passwords, which takes a processor for itself for a while: one at a time in each process.

Whoever asks for it need not be logged in, and could keep all processors busy. So one thread does it, with little
claim to the processors that others want, and one call waits for it at most: more would hold the threads that serve
the API. Here, below everything that checks or sets a password, no page can go around it.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache

from django.contrib.auth.hashers import PBKDF2PasswordHasher

# One that is hashed and one that waits.
_AT_ONCE = 2
_NICENESS = 10


class TooBusy(Exception):
    """So many passwords are being checked that this one was not looked at. It can be sent again after a moment."""


class OneAtATime(PBKDF2PasswordHasher):
    """Django's own hasher; what it stores is Django's, too. Raises TooBusy."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        pool, places = _of_process(os.getpid())
        if not places.acquire(blocking=False):
            raise TooBusy
        try:
            return pool.submit(super().encode, password, salt, iterations).result()
        finally:
            places.release()


def has_a_place() -> bool:
    """Say whether a password could be hashed now. Another may be faster: then it is TooBusy all the same."""
    _, places = _of_process(os.getpid())
    if not places.acquire(blocking=False):
        return False
    places.release()
    return True


@cache
def _of_process(_pid: int) -> tuple[ThreadPoolExecutor, threading.BoundedSemaphore]:
    """Return thread and places of a process; one that was forked has lost its parent's thread."""
    return ThreadPoolExecutor(1, "hashing", _yield_to_others), threading.BoundedSemaphore(_AT_ONCE)


def _yield_to_others() -> None:
    # Of a thread, on Linux. Elsewhere there is no such thread, or it is the whole process: then it stays as it is.
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
