"""A circuit breaker for storages that do not answer.

A call to an unreachable storage takes long to fail. Without a breaker a worker would wait for each object of each
request. Each process has its own; workers share its state (`chatbots.buckets.silence`).
"""

import math
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from common.storage import errors

# The number of calls in a row without an answer that open it.
FAILURES = 3
# How long it stays open. Doubled each time that the trial call after a rest has no answer either.
FIRST_REST_SECONDS = 30.0
LONGEST_REST_SECONDS = 300.0
# Where calls fail at once (connection refused), a trial costs nothing and can come soon.
QUICK_SECONDS = 5.0
QUICK_REST_SECONDS = 5.0


class Last(NamedTuple):
    """Whether the last completed call was answered, and when, by the breaker's clock."""

    answered: bool
    at: float


class _Trial(NamedTuple):
    thread: int
    ends: datetime


class Breaker:
    """Closed, calls pass. Open, they are refused until the rest is over; then a trial call decides."""

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
        self.was_quick = False  # whether the last call without an answer failed at once
        self._trial: _Trial | None = None

    @property
    def may_try(self) -> bool:
        """Whether `allow_trial` was called, and no call has passed since."""
        return self._trial is not None

    @property
    def unused_trial(self) -> datetime | None:
        """The end of the trial that `allow_trial` gave this thread, if no call has passed since."""
        trial = self._trial
        return trial.ends if trial and trial.thread == threading.get_ident() else None

    @property
    def is_resting(self) -> bool:
        return self._rests_until is not None

    @property
    def seconds_left(self) -> float:
        """The seconds for which no call should be made; 0 if one may."""
        return 0.0 if self._rests_until is None else max(0.0, self._rests_until - self._clock())

    @property
    def refuses(self) -> bool:
        return self.seconds_left > 0

    def open_for(self, seconds: float) -> None:
        """Open it for this long, as if its calls had failed; then a trial call passes."""
        with self._lock:
            self._open(seconds)

    def allow_trial(self, *, ends: datetime) -> None:
        """Let the next call pass, as the trial. `unused_trial` returns `ends`, the time from which others may try."""
        with self._lock:
            self._open(0)
            self._trial = _Trial(threading.get_ident(), ends)

    def close_if_resting(self) -> None:
        """Close it: another process got an answer."""
        with self._lock:
            if self._rests_until is not None:
                self.reset()

    def pop_last(self) -> Last | None:
        """Return the last call completed since the previous `pop_last`, or None."""
        with self._lock:
            last, self._last = self._last, None
            return None if last is None else Last(last, self._last_at)

    def seconds_since(self, at: float) -> float:
        return self._clock() - at

    def check(self) -> None:
        """Raise StorageError(`storage_resting`) unless a call may pass now."""
        with self._lock:
            if self._rests_until is None:
                return
            if self.refuses:
                raise errors.resting()
            # This call is the trial. If its end is never recorded, another may pass after a rest.
            self._trial = None
            self._rests_until = self._clock() + self._rest

    def answered(self) -> None:
        """Record an answer of the storage, whatever it was."""
        with self._lock:
            if self._failures or self._rests_until is not None:
                self.reset()
            self._last, self._last_at = True, self._clock()

    def failed(self, *, after: float = math.inf) -> None:
        """Record that a call had no answer after this many seconds."""
        with self._lock:
            self._failures += 1
            self._last, self._last_at = False, self._clock()
            self.was_quick = after < QUICK_SECONDS
            is_open = self._rests_until is not None
            if not is_open and self._failures < FAILURES:
                return
            if self.was_quick:
                self._rests_until = self._clock() + QUICK_REST_SECONDS
                return
            if is_open:
                self._rest = min(self._rest * 2, LONGEST_REST_SECONDS)
            self._rests_until = self._clock() + self._rest

    def _open(self, seconds: float) -> None:
        self._failures = FAILURES
        self._rests_until = self._clock() + seconds
        self._trial = None
