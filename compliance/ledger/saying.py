"""Say in the log of each process that the service is closed.

`service.trip` says it once, in the log of whatever process was first: mostly a command, such as `migrate`, whose
output nobody watches.
"""

import logging
import time

from compliance.ledger.service import State

logger = logging.getLogger(__name__)

_EVERY_SECONDS = 60.0

_said_at: float | None = None


def say_closed(found: State) -> None:
    """Log that the service is closed, at most once a minute for each process."""
    global _said_at  # noqa: PLW0603  (of this process)
    now = time.monotonic()
    if _said_at is None or now - _said_at >= _EVERY_SECONDS:
        _said_at = now
        logger.error("service.closed state=%s", found)
