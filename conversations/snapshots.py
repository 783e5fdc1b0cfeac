"""Read one instant of the database, on a connection of its own."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from itertools import islice
from typing import Any, TypeVar

import psycopg
from django.db import connection, transaction

from common.db import execute, local_settings

# The snapshot keeps PostgreSQL from vacuuming rows that are deleted meanwhile, so a slow bucket must not hold it for
# ever.
# A gigabyte at a megabyte a second takes 17 minutes.
SNAPSHOT_MINUTES = 30
# How often `meanwhile` is called during a wait for the next piece.
SECONDS_BETWEEN_CALLS = 5.0
# Pieces that are passed from thread to thread together, which takes as long as reading some kilobytes.
_PIECES_AT_ONCE = 16

# All rows are found by index. Without statistics (a table just filled) the planner might read whole tables.
_BY_INDEX = {"enable_seqscan": "off"}
# Many rows are joined by hashes, even if a worker's sessions look up each row.
_MANY = dict.fromkeys(("enable_hashjoin", "enable_mergejoin", "enable_material"), "on")


_Piece = TypeVar("_Piece")


@contextmanager
def snapshot(**settings: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection that reads one instant of the database.

    It is not Django's, which the caller keeps using. `settings` are PostgreSQL's. Raises psycopg's errors.
    """
    params = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    with psycopg.connect(**params) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.read_only = True
        # Between two statements a reader can wait long for a bucket. It has locked no row.
        limits = dict.fromkeys(("statement_timeout", "idle_in_transaction_session_timeout"), f"{SNAPSHOT_MINUTES}min")
        reader.execute(local_settings(**(limits | _BY_INDEX | _MANY | settings)))
        yield reader


def read_patiently(
    reader: psycopg.Connection[Any], pieces: Generator[_Piece], *, meanwhile: Callable[[], object]
) -> Generator[_Piece]:
    """Yield the pieces that are read on this connection, and call `meanwhile` regularly during a wait for one.

    Another thread reads, so the caller's can renew a lease while PostgreSQL sorts. If `meanwhile` raises, the
    statement is cancelled. Closes `pieces` at the end.
    """
    with closing(pieces), ThreadPoolExecutor(max_workers=1) as threads:
        while True:
            reading = threads.submit(lambda: list(islice(pieces, _PIECES_AT_ONCE)))
            try:
                while not wait([reading], timeout=SECONDS_BETWEEN_CALLS).done:
                    meanwhile()
            except BaseException:
                with suppress(psycopg.Error):
                    reader.cancel_safe()
                raise
            read = reading.result()
            yield from read
            if len(read) < _PIECES_AT_ONCE:
                return


@contextmanager
def one_instant() -> Iterator[None]:
    """Make Django's connection read one instant and refuse writes, for short reads.

    It has no effect within a transaction.
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
            execute(local_settings(**_BY_INDEX))
            yield
    finally:
        if not reader.closed:
            reader.isolation_level, reader.read_only = before
