"""Rate limits: calls per key and minute, counted in the database for all processes together.

A key's minute begins with its first call, by the database's clock. Its row counts the permits taken in that minute. A
process takes a small block by one statement and spends it call by call, so most calls of a busy key need no query. Up
to 1,199 calls a minute a block is one permit and the count exact; above, each process can leave less than a 600th of
the limit unused. The limit is never exceeded.

Unspent permits expire with the minute, and are lost if the process dies. The statement commits by itself before the
view begins, so no row is locked while a call is served.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import NamedTuple

from django.conf import settings
from django.db import Error as DatabaseError

from chatbots.models import ApiKey
from common.database_errors import describe_database_error
from common.db import fetch

logger = logging.getLogger(__name__)

# A process takes at most this fraction of the limit at once.
BLOCKS = 600
# The time until a process queries again: for a key without permits (its limit may have been raised), and after an
# error.
ASK_AGAIN_SECONDS = 1.0

# A window that begins more than a minute from now was written while the database's clock was wrong.
_TAKE = """
INSERT INTO chatbots_ratelimitwindow AS kept (api_key_id, chatbot_id, began_at, taken)
VALUES (%s, %s, statement_timestamp(), %s)
    ON CONFLICT (api_key_id) DO UPDATE
   SET began_at = CASE WHEN abs(extract(epoch FROM excluded.began_at - kept.began_at)) < 60
                       THEN kept.began_at ELSE excluded.began_at END,
       taken = excluded.taken + CASE WHEN abs(extract(epoch FROM excluded.began_at - kept.began_at)) < 60
                                     THEN kept.taken ELSE 0 END
RETURNING began_at, taken, 60 - extract(epoch FROM statement_timestamp() - began_at)::float8
"""


class Allowance(NamedTuple):
    """The remaining calls of a key in its minute, after this call."""

    limit: int
    remaining: int
    reset_seconds: int
    allowed: bool

    def headers(self) -> dict[str, str]:
        headers = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
        }
        return headers if self.allowed else {**headers, "Retry-After": str(self.reset_seconds)}


@dataclass
class _Window:
    """The state of a key's minute in this process.

    `taken` are the permits of all processes at the last query, `ours` those that this process has not spent. `ends`
    and `next_check` are in monotonic time.
    """

    began_at: datetime
    ends: float
    taken: int
    ours: int
    next_check: float

    def allowance(self, limit: int, *, allowed: bool, now: float) -> Allowance:
        remaining = min(limit, self.ours + max(0, limit - self.taken))
        # Rounded up, so that the wait ends in the next minute by any clock.
        reset_seconds = max(0, int(self.ends - now)) + 1
        return Allowance(limit, remaining, reset_seconds, allowed)


class RateLimiter:
    """The windows of all keys in this process, shared by its threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._windows: dict[int, _Window] = {}
        self._blind_until = 0.0

    def take(self, api_key: ApiKey) -> Allowance | None:
        """Count one call, and return whether it is allowed; None if limits are off.

        None, which allows the call, also if it cannot be counted: a failing limit must not stop the API.
        """
        limit = limit_of(api_key)
        asked = self._clock()
        if limit is None or asked < self._blind_until:
            return None
        with self._lock:
            if known := self._decide_locally(api_key.pk, limit, asked):
                return known
        block = max(1, limit // BLOCKS)
        try:
            began_at, taken, left_seconds = _take(api_key, block)
        except DatabaseError as error:
            self._blind_until = asked + ASK_AGAIN_SECONDS
            logger.error("Calls are not counted for now: %s", describe_database_error(error))  # noqa: TRY400
            return None
        granted = max(0, min(block, limit - (taken - block)))
        # The database read its clock after we did, so its minute ends no earlier than this.
        window = _Window(began_at, asked + left_seconds, taken, granted, asked + ASK_AGAIN_SECONDS)
        with self._lock:
            return self._spend(api_key.pk, window, limit)

    def _decide_locally(self, key: int, limit: int, now: float) -> Allowance | None:
        window = self._windows.get(key)
        if window is None or now >= window.ends:
            return None
        if window.ours:
            window.ours -= 1
            return window.allowance(limit, allowed=True, now=now)
        if window.taken >= limit and now < window.next_check:
            return window.allowance(limit, allowed=False, now=now)
        return None

    def _spend(self, key: int, new: _Window, limit: int) -> Allowance:
        """Spend one permit of a new block, and keep the rest if its minute is the current one."""
        now = self._clock()
        allowed = new.ours > 0
        new.ours -= allowed
        known = self._windows.get(key)
        if known is None or now >= known.ends or known.began_at < new.began_at:
            self._windows[key] = known = new
        elif known.began_at == new.began_at:
            known.ours += new.ours
            known.taken = max(known.taken, new.taken)
            known.next_check = max(known.next_check, new.next_check)
        else:
            known = new
        return known.allowance(limit, allowed=allowed, now=now)


def limit_of(api_key: ApiKey) -> int | None:
    """Return the number of calls a minute that a key may make, or None if limits are off."""
    if settings.RATE_LIMIT_PER_MINUTE == 0:
        return None
    return int(api_key.rate_limit or settings.RATE_LIMIT_PER_MINUTE)


def _take(api_key: ApiKey, block: int) -> tuple[datetime, int, float]:
    """Take a block, even beyond the limit. Return the start of the minute, all taken permits, seconds left."""
    [(began_at, taken, left_seconds)] = fetch(_TAKE, [api_key.pk, api_key.chatbot_id, block])
    return began_at, taken, left_seconds


LIMITER = RateLimiter()
