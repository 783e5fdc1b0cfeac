"""Bounds the long calls of one chatbot in a web process, so that threads are left for the calls of others.

Calls are counted in memory: a query for each call would cost more than the bound is worth.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from django.conf import settings

from common.problems import Problem

# Not all but one: long calls compete for the interpreter, so that with a single thread left, others' calls and the
# refusals wait for seconds.
MOST = max(1, settings.WEB_THREADS // 2)
# The longest wait of a call for one that has just begun, which may be short: clients send single documents in
# parallel. The waiting call occupies another thread.
PATIENCE_SECONDS = 0.1

_TOO_MANY = "Too many long calls of this chatbot at a time. Wait for Retry-After, and send fewer in parallel."


class LongCalls:
    """The long calls of this process, by chatbot: MOST of each."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._began: defaultdict[int, list[float]] = defaultdict(list)

    @contextmanager
    def limit(self, chatbot_id: int) -> Iterator[None]:
        """Count a call until it ends. Raises Problem(`rate_limited`), after PATIENCE_SECONDS at most."""
        with self._changed:
            began, now = self._began[chatbot_id], time.monotonic()
            patience = max(began, default=now) + PATIENCE_SECONDS - now
            if not self._changed.wait_for(lambda: len(began) < MOST, timeout=max(0.0, patience)):
                raise Problem("rate_limited", _TOO_MANY)
            began.append(now := time.monotonic())
        try:
            yield
        finally:
            with self._changed:
                began.remove(now)
                self._changed.notify_all()


LONG_CALLS = LongCalls()
