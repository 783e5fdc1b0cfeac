"""Watch the database while other processes work on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread

from django.db import connection

from benchmarks import world

# All sessions except ours and that of the floor.
_OLDEST = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND application_name <> 'benchmark' AND pid <> %s
"""


@dataclass
class OldestTransaction:
    """The age of the oldest transaction seen so far, in seconds."""

    seconds: float = 0.0


@contextmanager
def longest_transaction() -> Iterator[OldestTransaction]:
    """Read the age of the workers' open transactions every 20 milliseconds."""
    connection.ensure_connection()
    ours = connection.connection.info.backend_pid
    longest, over = OldestTransaction(), Event()

    def watch() -> None:
        with world.plain_connection(autocommit=True) as plain:
            while not over.wait(0.02):
                row = plain.execute(_OLDEST, [ours]).fetchone()
                longest.seconds = max(longest.seconds, row[0] if row else 0.0)

    thread = Thread(target=watch)
    thread.start()
    try:
        yield longest
    finally:
        over.set()
        thread.join()
