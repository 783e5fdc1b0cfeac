"""The findings of a step, and the failures of its search, which are neither clean nor a finding."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from django.db import Error as DatabaseError

from common import outbound
from common.storage import StorageError
from compliance.canary.words import Unsearchable
from compliance.models import CanaryTurn
from compliance.models.canary import Left, Place

Trouble = CanaryTurn.Trouble

STEP_SECONDS = 20.0
# The longest time of a call to the service or of a statement. None begins in a step with less time left.
CALL_SECONDS = 5.0

_DATABASE = {"42501": Trouble.RIGHTS_MISSING, "57014": Trouble.TOO_LONG}


class Inconclusive(Exception):
    """Something could not be done or searched, for now or for good. `where` is a name of ours."""

    def __init__(self, code: Trouble, where: str = "") -> None:
        super().__init__(f"{code.value} {where}".rstrip())
        self.code = code
        self.where = where


class UnderWay(Inconclusive):
    """What a step waits for continues without the canary. The code is for when it takes too long."""


def check_time(where: str) -> None:
    """Raise Inconclusive if the step has no time for another call. Call it before each."""
    if outbound.seconds_left(STEP_SECONDS) < CALL_SECONDS:
        raise Inconclusive(Trouble.TOO_LONG, where)


class Finding(NamedTuple):
    """A leftover. A turn's row stores its fields."""

    place: str
    code: str
    where: str


class Report:
    """The findings of a step; `trouble` is its first failure."""

    def __init__(self) -> None:
        self.findings: set[Finding] = set()
        self.trouble: Inconclusive | None = None

    def add_finding(self, place: Place, code: Left, where: str) -> None:
        self.findings.add(Finding(place.value, code.value, where))

    def add_failure(self, failure: Inconclusive) -> None:
        self.trouble = self.trouble or failure

    @contextmanager
    def capture_failure(self, where: str) -> Iterator[None]:
        """Record a failure of the block, so that the search continues after it."""
        try:
            yield
        except (Inconclusive, StorageError, Unsearchable, OSError, DatabaseError) as error:
            self.add_failure(_trouble(error, where))


def _trouble(error: Exception, where: str) -> Inconclusive:
    """Return a new error: the text of the original can contain a key, or quote a row."""
    match error:
        case Inconclusive():
            return error
        case StorageError():
            return Inconclusive(Trouble.STORAGE_UNAVAILABLE, f"{where} ({error.code})")
        case Unsearchable():
            return Inconclusive(Trouble.TOO_MUCH, where)
        case OSError():
            return Inconclusive(Trouble.LOG_MISSING, where)
    return Inconclusive(_DATABASE.get(getattr(error.__cause__, "sqlstate", ""), Trouble.BROKEN), where)
