"""Take tasks from the table, and run them in django-q2's workers.

django-q2 would store a signed pickle of a function and its arguments, and run any row of its schedules. Here a row
holds only the name of one of our tasks, by which a worker looks up the function. So write access to the tables can
only cause work that is due anyway. Its results, which are pickles too, are not read either.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import NamedTuple
from uuid import uuid4

from django.db import Error, connection
from django.utils import timezone
from django_q import brokers
from django_q.conf import Conf
from django_q.models import Task
from django_q.signing import SignedPackage

from common.database_errors import was_refused_temporarily
from common.db import fetch, fetch_one
from common.isolation import PartsFailed
from common.logs import describe_kind
from compliance.cluster import heartbeats, occurrences
from compliance.cluster.background import JOBS
from compliance.cluster.notify import KEY, TASKS

logger = logging.getLogger(__name__)

# The pause before the next query to a database that did not answer.
_WAIT_SECONDS = 1.0
# A worker that is still needed is replaced after this many times its number of tasks.
LONGEST_LIFE = 10

# Deleted when taken, so no acknowledgement is needed.
_TAKE = """
DELETE FROM django_q_ormq
 WHERE id = (SELECT id FROM django_q_ormq WHERE key = %s ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, payload
"""
# Rows that no worker takes.
_DROP = {
    "schedule": ("DELETE FROM django_q_schedule RETURNING id", []),
    "queue": ("DELETE FROM django_q_ormq WHERE key <> %s RETURNING id", [KEY]),
}


class Broker(brokers.Broker):  # type: ignore[misc]  # django-q2 has no types
    """django-q2's queue in the database. Taking a task deletes it, so nothing is acknowledged."""

    def dequeue(self) -> list[tuple[None, str]] | None:
        """Take the next task, or wait a little and return None, also when the database fails."""
        try:
            name = _take()
        except Error as error:
            logger.warning("queue.unreachable %s", describe_kind(error))
            connection.close()
            time.sleep(_WAIT_SECONDS)
            return None
        if name is None:
            time.sleep(Conf.POLL)
            return None
        task = {"id": uuid4().hex, "name": name, "func": f"compliance.tasks.{name}", "args": (), "kwargs": {}}
        # The pusher, in this process, unpacks the tuple at once.
        return [(None, SignedPackage.dumps(task | {"started": timezone.now()}))]

    def set_stat(self, key: str, value: str, timeout: int) -> None:
        """Store nothing: clusters have `compliance.cluster.heartbeats`."""


def _take() -> str | None:
    row = fetch_one(_TAKE, [KEY])
    if row is None:
        return None
    number, name = row
    if name not in TASKS:
        # Already deleted. The content is not logged: its writer may have wanted it in a log.
        _log_unexpected("queue", [number])
        return None
    return str(name)


def drop_unexpected() -> None:
    """Delete and log all schedules, and tasks under another key."""
    for table, (statement, values) in _DROP.items():
        if numbers := [number for (number,) in fetch(statement, values)]:
            _log_unexpected(table, numbers)


def _log_unexpected(table: str, numbers: list[int]) -> None:
    logger.error("queue.unexpected_task table=%s rows=%s", table, ",".join(map(str, numbers[:20])))
    occurrences.note(occurrences.Name.UNEXPECTED_TASK, times=len(numbers))


class TaskFailed(Exception):
    """A task stopped with an error. Contains only the error's kind; the log has the frames."""


def task(run: Callable[[], None]) -> Callable[[], None]:
    """Make a task of a function: no error leaves it with its own text.

    django-q2 stores and logs the text and traceback of a failed task, and database errors quote rows.
    """

    @wraps(run)
    def run_quietly() -> None:
        failure = ""
        heartbeats.record_work()
        try:
            run()
        except Exception as error:
            if was_refused_temporarily(error):
                logger.warning("task.refused task=%s %s", run.__name__, describe_kind(error))
                occurrences.pause_after_refusal()
            else:
                logger.exception("task.failed task=%s", run.__name__)
                failure = str(error) if isinstance(error, PartsFailed) else describe_kind(error)
        # Jobs of its threads would start over in another worker, and perhaps never finish.
        _LIFE.count_task(is_needed=bool(JOBS.busy))
        # Raised outside the except block: its context would bring the error's text back.
        if failure:
            raise TaskFailed(failure)

    return run_quietly


class WorkerLife:
    """Lets django-q2 replace this worker after its number of tasks, unless it is still needed."""

    def __init__(self) -> None:
        self._done = 0
        self._tasks = Conf.RECYCLE

    def count_task(self, *, is_needed: bool) -> None:
        """Call this at the end of each task, before django-q2 checks whether it was the last."""
        self._done += 1
        if is_needed and self._tasks <= self._done < self._tasks * LONGEST_LIFE:
            Conf.RECYCLE = self._done + 1


_LIFE = WorkerLife()


class FailedTask(NamedTuple):
    """A task that ended with an error, which the worker's log has at `task.failed`."""

    name: str
    started_at: datetime
    stopped_at: datetime


def failed_tasks(most: int = 50) -> list[FailedTask]:
    """Return the latest failed tasks, without reading their arguments and results, which are pickles."""
    rows = Task.objects.filter(success=False).order_by("-started").values_list("func", "started", "stopped")[:most]
    return [FailedTask(func.rpartition(".")[2], started, stopped) for func, started, stopped in rows]
