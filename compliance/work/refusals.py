"""What a process does when the database refuses work (`common.database_errors.was_refused_for_now`): it rests.

Whatever it took meanwhile would be refused as well, and each attempt adds to the log, which may be on the same disk.
"""

import logging

from django.db import Error, connection

from common.logs import describe_kind
from common.storage.breaker import Breaker
from compliance.work import occurrences

logger = logging.getLogger(__name__)

REST_SECONDS = 5.0

_BREAKER = Breaker()


def rest() -> None:
    """Take nothing for REST_SECONDS, and have health report it. Never fails; not for use in a transaction."""
    _BREAKER.rest(REST_SECONDS)
    try:
        occurrences.note(occurrences.Name.DATABASE_REFUSED)
    except Error as error:
        logger.warning("refusal.not_noted %s", describe_kind(error))
        connection.close()


def is_resting() -> bool:
    """Return whether this process has been refused within REST_SECONDS: then it takes nothing."""
    return _BREAKER.refuses


def forget() -> None:
    """Take up work at once, in tests."""
    _BREAKER.reset()
