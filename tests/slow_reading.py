"""A table that cannot be read for a while, as though PostgreSQL sorted for long before its first line."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection

PATIENCE = 20


def waits(asking: psycopg.Connection[Any]) -> bool:
    """Whether somebody waits for a lock in this test's database."""
    found = asking.execute(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return found.fetchone() is not None


@contextmanager
def locked(table: str, *, until: Callable[[psycopg.Connection[Any]], bool]) -> Iterator[list[bool]]:
    """Lock a table until a question, asked on a connection of its own, is answered with yes; at most some seconds.

    In the list is then whether it was.
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
