"""Concurrent work: a function in a thread, on its own database connection."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

from conversations.placement import is_distributed

PATIENCE = 20


class Elsewhere:
    """A function that runs in a thread, on its own database connection."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=[work], daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self.result = work()
        except BaseException as error:  # raised again in the test
            self._error = error
        finally:
            connection.close()

    @property
    def waits(self) -> bool:
        return not self.ends_within(0.3)

    def ends_within(self, seconds: float) -> bool:
        """Wait for at most this time, and return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def end(self) -> Any:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it still waits"
        if self._error:
            raise self._error
        return self.result


_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
# A transaction that waits on a machine does not wait for a lock here.
_WAITING_ANYWHERE = """
SELECT count(DISTINCT w.waiting_gpid) FROM citus_lock_waits w
  JOIN pg_stat_activity a ON a.pid = citus_pid_for_gpid(w.waiting_gpid) AND a.datname = current_database()
"""


def number_of_blocked() -> int:
    """Return how many sessions of this database wait for a lock, here or on a machine of Citus."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # a transaction reads the same state again and again
        cursor.execute(_WAITING_ANYWHERE if is_distributed() else _WAITING)
        return int(cursor.fetchone()[0])


def wait_until_blocked(number: int = 1) -> None:
    """Wait until so many sessions of this database wait for a lock."""
    end = time.monotonic() + PATIENCE
    while number_of_blocked() < number:
        assert time.monotonic() < end, "No caller waited."
        time.sleep(0.02)


class Gate:
    """Stops threads until it is opened, and signals when one has arrived."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Event(), threading.Event()

    def passed(self) -> None:
        self._reached.set()
        assert self._open.wait(PATIENCE)

    def wait_for_caller(self) -> None:
        assert self._reached.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()


@contextmanager
def uncommitted(work: Callable[[], object]) -> Iterator[None]:
    """Do something in another transaction, which is committed at the end of the context."""
    gate = Gate()

    def begin() -> None:
        with transaction.atomic():
            work()
            gate.passed()

    other = Elsewhere(begin)
    gate.wait_for_caller()
    try:
        yield
    finally:
        gate.open()
    other.end()
