"""A table that cannot be read for a while, as if PostgreSQL sorted for long before the first row."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection

PATIENCE = 20


def waits(asking: psycopg.Connection[Any]) -> bool:
    """Whether a session waits for a lock in this test's database."""
    found = asking.execute(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return found.fetchone() is not None


@contextmanager
def locked(table: str, *, until: Callable[[psycopg.Connection[Any]], bool]) -> Iterator[list[bool]]:
    """Lock a table until a query on a separate connection returns true; at most some seconds.

    The list then contains whether it did.
    """
    answers = list[bool]()
    params = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    is_locked = threading.Event()

    def hold() -> None:
        with psycopg.connect(**params) as locking, psycopg.connect(**params, autocommit=True) as asking:
            locking.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            is_locked.set()
            end = time.monotonic() + PATIENCE
            while not (is_so := until(asking)) and time.monotonic() < end:
                time.sleep(0.02)
            answers.append(is_so)

    holding = threading.Thread(target=hold)
    holding.start()
    assert is_locked.wait(PATIENCE)
    try:
        yield answers
    finally:
        holding.join()
