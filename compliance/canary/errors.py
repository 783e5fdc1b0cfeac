"""What a step raises: it could not do or search something, which is neither clean nor a finding."""

from django.db import Error as DatabaseError

from common import outbound
from common.storage import StorageError
from compliance.canary.words import Unsearchable
from compliance.models import CanaryTurn

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


# What the search of one table, object or file can raise, while others can still be searched.
SEARCH_ERRORS = (Inconclusive, StorageError, Unsearchable, OSError, DatabaseError)


def inconclusive(error: Exception, where: str) -> Inconclusive:
    """Return one of SEARCH_ERRORS as a new error: the text of the original can contain a key, or quote a row."""
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


def check_time(where: str) -> None:
    """Raise Inconclusive if the step has no time for another call. Call it before each."""
    if outbound.seconds_left(STEP_SECONDS) < CALL_SECONDS:
        raise Inconclusive(Trouble.TOO_LONG, where)
