"""Leases: a worker holds a row by a token for a time, and renews it in passing while it reads, sends or waits.

No worker takes a row before its `next_attempt_at`. The worker that takes it moves that time to the end of the lease.
So one condition finds new rows, rows to be retried, and rows of killed workers. All times are the database's.
"""

import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from common.tables import Named

# A storage call with all its retries (common/outbound.py) must still fit in the lease with this.
SECONDS_BETWEEN_RENEWALS = 15.0

# In SQL: the end of a lease that begins now.
LEASE_END = "clock_timestamp() + make_interval(secs => %(lease)s)"

_AT_ONCE = timedelta()


class LeaseLost(Exception):
    """The lease ran out and another worker has the row, or it was released: stop, and write nothing."""


class Lease(Named):
    """A row that one worker at a time holds. A worker that has lost it writes nothing to it."""

    lease: ClassVar[timedelta]

    token = models.UUIDField(null=True, help_text="Fencing token of the worker that holds the row.")
    next_attempt_at = models.DateTimeField(
        db_default=Now(), help_text="When a worker may take it; while one holds it, when another may."
    )

    class Meta:
        abstract = True

    def write(self, **fields: Any) -> None:
        """Set fields of the row, and renew the lease. Raises LeaseLost."""
        if not self._held().update(**{"next_attempt_at": Now() + self.lease} | fields):
            raise LeaseLost

    def release(self, *, wait: timedelta = _AT_ONCE, **fields: Any) -> bool:
        """Set fields and end the lease; return whether it was still held. No worker takes the row within `wait`."""
        return bool(self._held().update(token=None, next_attempt_at=Now() + wait, **fields))

    def _held(self) -> "QuerySet[Lease]":
        return type(self)._default_manager.filter(pk=self.pk, token=self.token)


_Row = TypeVar("_Row", bound=Lease)


def take(rows: QuerySet[_Row], *, at_any_time: bool = False, **fields: Any) -> _Row | None:
    """Lease the first of the rows, in their order, that is due and not locked; return None if there is none.

    `at_any_time` also takes one that is not due yet, if no worker holds it. `fields` are further ones to set.
    """
    is_free = Q(next_attempt_at__lte=Now()) | Q(token=None) if at_any_time else Q(next_attempt_at__lte=Now())
    with transaction.atomic():
        row = rows.filter(is_free).select_for_update(skip_locked=True, no_key=True, of=["self"]).first()
        if row is not None:
            for name, value in {"token": uuid4(), **fields}.items():
                setattr(row, name, value)
            type(row)._default_manager.filter(pk=row.pk).update(
                token=row.token, next_attempt_at=Now() + row.lease, **fields
            )
    return row


def back_off(attempts: int, *, first: timedelta, longest: timedelta, factor: int = 2) -> timedelta:
    """Return the wait after an attempt that failed like this number of `attempts` before it."""
    return min(longest, first * int(factor ** min(attempts, 20)))


def random_wait(limit: timedelta) -> timedelta:
    """Return a random wait of a second at least, below the limit, so that rows that failed together retry apart."""
    return timedelta(seconds=random.uniform(1, limit.total_seconds()))  # noqa: S311  (nothing secret)


def max_long_workers() -> int:
    """Return how many workers of a cluster may do long work at a time: all but one, which stays free for requests."""
    return max(1, int(str(settings.Q_CLUSTER["workers"])) - 1)


class LeaseRenewer:
    def __init__(self, renew: Callable[[], object]) -> None:
        self._renew = renew
        self._renewed = time.monotonic()

    def renew_if_due(self) -> None:
        """Call `renew` if it is due. Raises its error for a lost lease."""
        if time.monotonic() - self._renewed >= SECONDS_BETWEEN_RENEWALS:
            self._renew()
            self._renewed = time.monotonic()
