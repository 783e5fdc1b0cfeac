"""A circuit breaker: a storage that does not answer is left alone for a while.

A call to a storage that is gone takes long to fail. Without a breaker a worker would spend that on each object of
each request, while others wait. Each process counts for itself; what workers learn so is shared (`silence`).
"""

import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from common.storage import errors

# So many calls in a row without an answer open it.
FAILURES = 3
# Then no call is made for so many seconds; twice as long each time that the call after a rest has no answer either.
FIRST_REST_SECONDS = 30.0
LONGEST_REST_SECONDS = 300.0
# Where calls fail at once (nobody listens), a trial costs nothing, and work goes on soon after the storage is back.
QUICK_SECONDS = 5.0
QUICK_REST_SECONDS = 5.0


class Last(NamedTuple):
    """How the last call that has ended went, and how many seconds ago that was."""

    answered: bool
    seconds_ago: float


class Breaker:
    """Closed, calls pass. Open, they are refused until the rest is over; then one passes, and its end decides."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self._failures = 0
        self._rest = FIRST_REST_SECONDS
        self._rests_until: float | None = None
        self._last: bool | None = None
        self._last_at = 0.0
        self._was_quick = False

    @property
    def is_resting(self) -> bool:
        """Say whether it is open."""
        return self._rests_until is not None

    @property
    def refuses(self) -> bool:
        """Say whether a call would be refused now."""
        return self._rests_until is not None and self._clock() < self._rests_until

    @property
    def was_quick(self) -> bool:
        """Say whether the last call that had no answer failed at once: nobody listens there."""
        return self._was_quick

    def rest(self, seconds: float) -> None:
        """Open it for so long, as if its calls had failed: then one call tries."""
        with self._lock:
            self._failures = FAILURES
            self._rests_until = self._clock() + seconds

    def close_if_resting(self) -> None:
        """Close it: others know that the storage answers."""
        with self._lock:
            if self._rests_until is not None:
                self.reset()

    def take_last(self) -> Last | None:
        """Return how the last call went that has ended since the last asking, or None without any."""
        with self._lock:
            last, self._last = self._last, None
            return None if last is None else Last(last, self._clock() - self._last_at)

    def check(self) -> None:
        """Let the caller's call pass, or raise StorageError(`storage_resting`)."""
        with self._lock:
            if self._rests_until is None:
                return
            if self.refuses:
                raise errors.resting()
            # This one call is the trial. Should its end never be told, another may pass after a rest.
            self._rests_until = self._clock() + self._rest

    def answered(self) -> None:
        """Note that the storage answered, whatever it said."""
        with self._lock:
            if self._failures or self._rests_until is not None:
                self.reset()
            self._last, self._last_at = True, self._clock()

    def failed(self, *, after: float = math.inf) -> None:
        """Note that a call had no answer, and after how many seconds that was known."""
        with self._lock:
            self._failures += 1
            self._last, self._last_at = False, self._clock()
            self._was_quick = after < QUICK_SECONDS
            is_open = self._rests_until is not None
            if not is_open and self._failures < FAILURES:
                return
            if self._was_quick:
                self._rests_until = self._clock() + QUICK_REST_SECONDS
                return
            if is_open:
                self._rest = min(self._rest * 2, LONGEST_REST_SECONDS)
            self._rests_until = self._clock() + self._rest
