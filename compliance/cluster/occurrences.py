"""Record the time of the last occurrence of events that no other row records. All times are the database's.

One such event is that the database refused work (`common.database_errors.was_refused_temporarily`). The process then
pauses: the database would refuse other work as well, and each attempt adds to the log, which may be on the same disk.
"""

import logging
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import Error, connection
from django.db.models import F, Q
from django.db.models.functions import Now

from common.logs import describe_kind
from common.storage.breaker import Breaker
from compliance.models import Occurrence

logger = logging.getLogger(__name__)

Name = Occurrence.Name

REST_SECONDS = 5.0

_REFUSED = Breaker()


class Last(NamedTuple):
    """When it was last requested, when it last happened, and how often it has happened."""

    asked_at: datetime | None
    last_at: datetime | None
    times: int


def note(name: Name, *, times: int = 1) -> None:
    _write(name, last_at=Now(), times=F("times") + times)


def forget(name: Name) -> None:
    """Delete the time of the last occurrence, since its cause is over."""
    Occurrence.objects.filter(name=name).update(last_at=None)


def ask(name: Name, *, every: float) -> bool:
    """Return True to one caller only, once every `every` seconds."""
    near = timedelta(seconds=every)
    # A time far in the future is from another server with another clock: the database was restored, or moved.
    is_due = Q(asked_at=None) | Q(asked_at__lt=Now() - near) | Q(asked_at__gt=Now() + near)
    return _write(name, is_due, asked_at=Now())


def release(name: Name) -> None:
    """Let the next caller of `ask` have it at once."""
    Occurrence.objects.filter(name=name).update(asked_at=None)


def last() -> dict[Name, Last]:
    """Return the last of each, including those that never happened."""
    rows = Occurrence.objects.values_list("name", "asked_at", "last_at", "times")
    known = {Name(name): Last(asked_at, last_at, times) for name, asked_at, last_at, times in rows}
    return dict.fromkeys(Name, Last(None, None, 0)) | known


def _write(name: Name, condition: Q | None = None, **fields: Any) -> bool:
    """Set fields of a row, and create it if it is missing; return whether it met the condition."""
    Occurrence.objects.bulk_create([Occurrence(name=name)], ignore_conflicts=True)
    return bool(Occurrence.objects.filter(condition or Q(), name=name).update(**fields))


def pause_after_refusal() -> None:
    """Take no work for REST_SECONDS, and have health report it.

    Never fails. Not for use in a transaction.
    """
    _REFUSED.open_for(REST_SECONDS)
    try:
        note(Name.DATABASE_REFUSED)
    except Error as error:
        logger.warning("refusal.not_noted %s", describe_kind(error))
        connection.close()


def is_resting() -> bool:
    """Return whether the database refused this process within REST_SECONDS: then it takes no work."""
    return _REFUSED.refuses
