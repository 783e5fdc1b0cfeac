"""Concurrent work: a function in a thread, on its own database connection."""

import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import connection

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


def wait_until_blocked() -> None:
    """Wait until another session waits for a lock of this one."""
    waits = "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    if is_distributed():
        waits = "SELECT 1 FROM citus_lock_waits"
    with connection.cursor() as cursor:
        for _ in range(200):
            cursor.execute(waits)
            if cursor.fetchall():
                return
            time.sleep(0.05)
    raise AssertionError("Nobody waited.")


class Gate:
    """Stops threads until it is opened, and signals when one has arrived."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Event(), threading.Event()

    def passed(self) -> None:
        self._reached.set()
        assert self._open.wait(PATIENCE)

    def wait_for_someone(self) -> None:
        assert self._reached.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()
