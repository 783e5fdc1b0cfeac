"""Read one instant of the database, on a connection of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection, transaction

# The snapshot keeps PostgreSQL from cleaning up what is deleted meanwhile, so a slow bucket must not hold it
# for ever. A gigabyte at a megabyte a second takes 17 minutes.
SNAPSHOT_MINUTES = 30

# Everything is found by index. Without statistics (a table just filled) the planner may turn to reading whole tables.
_BY_INDEX = {"statement_timeout": f"{SNAPSHOT_MINUTES}min", "enable_seqscan": "off"}


@contextmanager
def snapshot(**settings: str) -> Iterator[psycopg.Connection[Any]]:
    """Open a connection that reads one instant of the database, and close it at the end.

    Not Django's: the caller goes on working with that one. `settings` are PostgreSQL's, for the reading. Raises
    psycopg's errors.
    """
    params = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    with psycopg.connect(**params) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.read_only = True
        for name, value in (_BY_INDEX | settings).items():
            reader.execute("SELECT set_config(%s, %s, TRUE)", [name, value])
        yield reader


@contextmanager
def one_instant() -> Iterator[None]:
    """Let all that the caller reads meanwhile be of one instant, on Django's connection; writing is refused.

    For what takes moments. Within a transaction, what that one sees is seen, as it is.
    """
    if connection.in_atomic_block:
        yield
        return
    connection.ensure_connection()
    reader = connection.connection
    before = reader.isolation_level, reader.read_only
    reader.isolation_level, reader.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('enable_seqscan', 'off', TRUE)")
            yield
    finally:
        if not reader.closed:
            reader.isolation_level, reader.read_only = before
