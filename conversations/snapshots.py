"""Read one instant of the database, on a connection of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection

# The snapshot keeps PostgreSQL from cleaning up what is deleted meanwhile, so a slow bucket must not hold it
# for ever. A gigabyte at a megabyte a second takes 17 minutes.
SNAPSHOT_MINUTES = 30

# Everything is found by index. Without statistics (a table just filled) the planner may turn to reading whole
# tables, or to reading what belongs together once for each row. So rows are looked up where a LATERAL says so, and
# joined by hashing elsewhere. In 4 MB, PostgreSQL's default, a day is sorted on disk in many small runs.
_SET_UP = """
SELECT set_config('statement_timeout', %s, TRUE), set_config('enable_seqscan', 'off', TRUE),
       set_config('enable_nestloop', 'off', TRUE), set_config('work_mem', '64MB', TRUE)
"""


@contextmanager
def snapshot() -> Iterator[psycopg.Connection[Any]]:
    """Open a connection that reads one instant of the database, and close it at the end.

    Not Django's: the caller goes on working with that one. Raises psycopg's errors.
    """
    params = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    with psycopg.connect(**params) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.read_only = True
        reader.execute(_SET_UP, [f"{SNAPSHOT_MINUTES}min"])
        yield reader
