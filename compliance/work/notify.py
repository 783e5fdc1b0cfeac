"""Notify the workers by tasks. With `compliance.work.cluster`, the only module that knows django-q2.

The tables of requests and callbacks are the queues. A task only says "there is work" and carries no data, so a lost,
repeated, late or reordered task loses and repeats nothing; the guard of a cluster inserts it again.

django-q2 would store a signed pickle of a function and its arguments, and run any row of its schedules. Here a row
holds only the name of one of our tasks, by which a worker looks up the function. So write access to the tables is
good for nothing but asking for work that is due anyway.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

from django.db import Error, connection, transaction
from django.utils import timezone
from django_q import brokers
from django_q.conf import Conf
from django_q.models import Task
from django_q.signing import SignedPackage

from common.db import execute, fetch, fetch_one, lock_until_commit
from common.logs import describe_kind
from compliance.work import occurrences

logger = logging.getLogger(__name__)

# All that a worker runs, by the name in the table.
_NAMES = ("drain", "sweep", "deliver_callbacks", "send_mails")
TASKS = {name: f"compliance.tasks.{name}" for name in _NAMES}
# Marks our rows.
KEY = "tasks"

SWEEP_SECONDS = 60.0
# The pause before a database that did not answer is asked again.
_WAIT_SECONDS = 1.0

_TASKS_LOCK = 0x6463_6162  # "dcab": taken to insert a task

# A handful wait at most. With more, one too many is inserted, which does no harm.
_WAITING = "SELECT payload FROM django_q_ormq WHERE key = %s LIMIT 20"
_INSERT = "INSERT INTO django_q_ormq (key, payload, lock) VALUES (%s, %s, clock_timestamp())"
# Deleted when taken, so no acknowledgement is needed.
_TAKE = """
DELETE FROM django_q_ormq
 WHERE id = (SELECT id FROM django_q_ormq WHERE key = %s ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, payload
"""
_HOW_MANY = """
SELECT count(*), statement_timestamp() - min(lock)
  FROM (SELECT lock FROM django_q_ormq WHERE key = %s ORDER BY id LIMIT 1000) AS waiting
"""
# Rows that no worker takes.
_DROP = {
    "schedule": ("DELETE FROM django_q_schedule RETURNING id", []),
    "queue": ("DELETE FROM django_q_ormq WHERE key <> %s RETURNING id", [KEY]),
}


def after_commit(notify: Callable[[], None]) -> None:
    """Call one of the functions below once the caller's transaction has committed. Never fails the caller."""
    transaction.on_commit(notify, robust=True)


def enqueue_callbacks() -> None:
    enqueue("deliver_callbacks")


def notify_workers() -> None:
    """Insert a drain task unless one is waiting; a sweep drains too. Ten thousand calls insert a handful."""
    enqueue("drain", "sweep")


@transaction.atomic
def enqueue_sweep() -> None:
    """Have a sweep run if the last was asked for a minute ago. One of all clusters does."""
    if occurrences.ask(occurrences.Name.SWEEP, every=SWEEP_SECONDS):
        enqueue("sweep")


def enqueue(task: str, *or_else: str) -> None:
    """Insert a task unless it, or one of the others, waits.

    Seeing one needs no lock: our rows were committed before we looked, so the worker that takes the task later sees
    them. If none is waiting, take the lock and check again, since another caller may have just inserted one.
    """
    enough = {task, *or_else}
    if enough & _waiting():
        return
    with transaction.atomic():
        lock_until_commit(_TASKS_LOCK)
        if not enough & _waiting():
            execute(_INSERT, [KEY, task])


def _waiting() -> set[str]:
    # In plain SQL, since each filing call asks this.
    return {payload for (payload,) in fetch(_WAITING, [KEY])}


class Broker(brokers.Broker):  # type: ignore[misc]  # django-q2 has no types
    """django-q2's queue in the database. Taking a task deletes it, so nothing is acknowledged."""

    def dequeue(self) -> list[tuple[None, str]] | None:
        """Take the next task, or wait a little and return None, also when the database fails."""
        try:
            task = _take()
        except Error as error:
            logger.warning("queue.unreachable %s", describe_kind(error))
            connection.close()
            time.sleep(_WAIT_SECONDS)
            return None
        if task is None:
            time.sleep(Conf.POLL)
            return None
        # The pusher, in this process, unpacks this at once.
        return [(None, SignedPackage.dumps(task))]

    def set_stat(self, key: str, value: str, timeout: int) -> None:
        """Store nothing: clusters have `compliance.work.heartbeats`."""


def _take() -> dict[str, object] | None:
    row = fetch_one(_TAKE, [KEY])
    if row is None:
        return None
    number, name = row
    if name not in TASKS:
        # Already deleted. Not logged by content, which its writer may have wanted in a log.
        _log_unexpected("queue", [number])
        return None
    return {
        "id": uuid4().hex,
        "name": name,
        "func": TASKS[name],
        "args": (),
        "kwargs": {},
        "started": timezone.now(),
    }


def drop_unexpected() -> None:
    """Delete and log all schedules, and tasks under another key."""
    for table, (statement, values) in _DROP.items():
        if numbers := [number for (number,) in fetch(statement, values)]:
            _log_unexpected(table, numbers)


def _log_unexpected(table: str, numbers: list[int]) -> None:
    logger.error("queue.unexpected_task table=%s rows=%s", table, ",".join(map(str, numbers[:20])))
    occurrences.note(occurrences.Name.UNEXPECTED_TASK, times=len(numbers))


def disable_unpickling() -> None:
    """Let nothing read a pickle from django-q2's results: neither the admin nor dumpdata nor a shell.

    Our tasks have no arguments and results, and a pickle runs what it names.
    """
    for name in ("args", "kwargs", "result"):
        Task._meta.get_field(name).to_python = lambda _: None


class WorkerLifetime:
    """Lets django-q2 replace a worker after its number of tasks, unless it is still needed."""

    LONGEST = 10  # times that number, needed or not

    def __init__(self) -> None:
        self._done = 0
        self._tasks = Conf.RECYCLE

    def count_task(self, *, is_needed: bool) -> None:
        """Call this at the end of each task, before django-q2 checks whether it was the last."""
        self._done += 1
        if is_needed and self._tasks <= self._done < self._tasks * self.LONGEST:
            Conf.RECYCLE = self._done + 1


class FailedTask(NamedTuple):
    """A task that ended with an error, which the worker's log has at `task.failed`."""

    name: str
    started_at: datetime
    stopped_at: datetime


def failed_tasks(most: int = 50) -> list[FailedTask]:
    """Return the latest failed tasks, without reading their arguments and results, which are pickles."""
    rows = Task.objects.filter(success=False).order_by("-started").values_list("func", "started", "stopped")[:most]
    return [FailedTask(func.rpartition(".")[2], started, stopped) for func, started, stopped in rows]


def tasks_waiting() -> tuple[int, timedelta | None]:
    """Return how many tasks wait, counted up to 1,000, and how long the first has waited."""
    [(number, age)] = fetch(_HOW_MANY, [KEY])
    return number, age
