"""Threads with a database connection each that run step by step.

A step is a statement, or a call to the storage.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from queue import SimpleQueue
from typing import Any
from unittest.mock import patch

from django.db import DatabaseError, connection

Work = Callable[[], Any]

# The actor of the current call; none for observers.
ACTING: "ContextVar[Actor | None]" = ContextVar("acting", default=None)


class Killed(BaseException):
    """The process is killed: nothing catches this, and its thread does nothing more."""


class Actor:
    """A thread that does one piece of work after another. `watch` is called before each step outside a transaction.

    `report` is called with an error that ended a piece of work, and with SQLSTATEs of statements that failed.
    """

    def __init__(self, name: str, *, watch: Work, report: Callable[[str], None]) -> None:
        self.name = name
        self.pid: int | None = None
        self._watch, self._report = watch, report
        self._changed = threading.Condition()
        self._left: int | None = None
        self._is_dead = self._is_busy = self._is_stopped = self._was_inside = False
        self._jobs: SimpleQueue[Work | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        return self._is_busy

    @property
    def is_stopped(self) -> bool:
        return self._is_busy and self._is_stopped

    def begin(self, work: Work, *, steps: int | None = None) -> None:
        """Begin a piece of work; with `steps`, stop after this number of steps."""
        with self._changed:
            assert not self._is_busy
            self._is_busy, self._is_dead, self._left = True, False, steps
        self._jobs.put(work)

    def resume(self, steps: int | None = None) -> None:
        with self._changed:
            self._left, self._is_stopped = steps, False
            self._changed.notify_all()

    def kill(self) -> None:
        """Let it do no further step."""
        with self._changed:
            self._is_dead, self._is_stopped = True, False
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until it is done or stopped; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_busy or self._is_stopped, seconds)

    def end(self) -> None:
        self._jobs.put(None)
        self._thread.join(10)

    def step(self) -> None:
        """Wait before a step until it is allowed, also for a thread that works for this actor."""
        with self._changed:
            while self._left == 0 and not self._is_dead:
                self._is_stopped = True
                self._changed.notify_all()
                self._changed.wait()
            if self._is_dead:
                raise Killed
            if self._left is not None:
                self._left -= 1

    def _live(self) -> None:
        ACTING.set(self)
        connection.execute_wrappers.append(self._statement)
        while work := self._jobs.get():
            try:
                work()
            except Killed:
                connection.close()
            except BaseException as error:  # reported to the story's runner
                self._report(f"{type(error).__name__}: {error}")
                connection.close()
            with self._changed:
                self._is_busy = self._is_stopped = False
                self._changed.notify_all()
        connection.close()

    def _statement(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        # The data visible to others changes when a transaction has ended.
        if self._was_inside and not connection.in_atomic_block:
            self._watch()
        self._was_inside = connection.in_atomic_block
        self.step()
        self.pid = connection.connection.info.backend_pid
        try:
            return execute(sql, params, many, context)
        except DatabaseError as error:
            self._report(f"SQLSTATE {getattr(error.__cause__, 'sqlstate', None)}")
            raise


@contextmanager
def acting_in_pools() -> Iterator[None]:
    """Let the threads of a pool act for the actor that submitted their work."""
    submit = ThreadPoolExecutor.submit

    def submit_in_context(self: ThreadPoolExecutor, work: Any, /, *args: Any, **options: Any) -> "Future[Any]":
        return submit(self, copy_context().run, work, *args, **options)

    with patch.object(ThreadPoolExecutor, "submit", submit_in_context):
        yield


class ErrorsLogged(logging.Handler):
    """Reports each line that a worker logs as an error."""

    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        # Without its values: the first word is the event, or a sentence up to a status.
        kind = f" {record.exc_info[0].__name__}" if record.exc_info and record.exc_info[0] else ""
        words = record.getMessage().split()
        self._report(f"logged {' '.join(words[: 6 if words[0] == 'A' else 1])}{kind}")
