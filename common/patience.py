"""Writes that must not be lost because the database is away for a moment, as while it is started again."""

import time
from collections.abc import Callable

from django.db import Error, connection


def patiently(write: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Write over a connection that lives, and again each second while the database refuses, for so long at most.

    Not for use in a transaction. Raises the last error of the database, and at once what else `write` raises.
    """
    end = time.monotonic() + seconds
    while True:
        # What failed before may have been the connection.
        connection.close_if_unusable_or_obsolete()
        try:
            write()
        except Error:
            connection.close()
            if time.monotonic() > end:
                raise
            time.sleep(1)
        else:
            return
