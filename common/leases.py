"""Leases: a worker holds a row by a token for a time, and renews it in passing while it reads, sends or waits."""

import time
from collections.abc import Callable

from django.conf import settings

# A storage call with all its retries (common/outbound.py) must still fit in the lease with this.
SECONDS_BETWEEN_RENEWALS = 15.0

# In SQL: the end of a lease that begins now, and the condition for a row that no worker holds.
LEASE_END = "clock_timestamp() + make_interval(secs => %(lease)s)"
IS_FREE = "(claimed_until IS NULL OR claimed_until < clock_timestamp())"


def take_first(table: str, key: str, condition: str, *, order: str, returning: str, also: str = "") -> str:
    """Return the statement that takes the first free row `d` of a table under a lease, skipping locked ones.

    `also` are further columns to set.
    """
    changes = f", {also}" if also else ""
    return f"""
UPDATE {table}
   SET token = %(token)s, owner = %(owner)s, claimed_until = {LEASE_END}{changes}
 WHERE {key} = (
       SELECT {key} FROM {table} AS d
        WHERE {condition} AND {IS_FREE}
        ORDER BY {order} LIMIT 1
          FOR NO KEY UPDATE SKIP LOCKED)
RETURNING {returning}
"""  # noqa: S608  (names from code)


def most_workers() -> int:
    """Return how many workers of a cluster may do long work at a time: all but one, which stays free for requests."""
    return max(1, int(str(settings.Q_CLUSTER["workers"])) - 1)


class LeaseRenewer:
    def __init__(self, renew: Callable[[], object]) -> None:
        self._renew = renew
        self._renewed = time.monotonic()

    def renew_if_due(self) -> None:
        """Raises whatever `renew` raises for a lost lease."""
        if time.monotonic() - self._renewed >= SECONDS_BETWEEN_RENEWALS:
            self._renew()
            self._renewed = time.monotonic()
