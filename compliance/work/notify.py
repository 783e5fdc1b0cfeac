"""Nudge the workers, and tell of the nudges. With `compliance.work.cluster`, all that knows django-q2.

The rows of ComplianceRequest and of Callback are the queues. A nudge only says "there is work" and carries no data,
so one that is lost, repeated, late or out of order loses and repeats nothing; the guard of a cluster says it again.

django-q2 would keep a signed pickle of any function with any arguments in its table, and make one of any row of its
schedules. Here a row of the table holds the name of one of our tasks and nothing else: what a worker is to run is
looked up by that name. So who can write into the tables can ask for work that is due anyway, and for nothing more.
"""

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from django.db import Error, connection, transaction
from django.utils import timezone
from django_q import brokers
from django_q.conf import Conf
from django_q.models import Task
from django_q.signing import SignedPackage

from common.db import fetch, fetch_one
from common.logs import describe_kind
from compliance.work import occurrences

logger = logging.getLogger(__name__)

# All that a worker runs, by the names that stand in the table.
TASKS = {name: f"compliance.tasks.{name}" for name in ("drain", "sweep", "deliver_callbacks", "send_mails")}
# Which rows of the table are ours. Versions before had another, and signed pickles under it.
KEY = "nudges"

SWEEP_SECONDS = 60.0
# So long a cluster waits before it asks a database again that did not answer.
_WAIT_SECONDS = 1.0

_NUDGE_LOCK = 0x6463_6162  # "dcab": the advisory lock that one who inserts a nudge at a time holds

# A handful wait at most. Whoever finds more inserts one too many, which does no harm.
_WAITING = "SELECT payload FROM django_q_ormq WHERE key = %s LIMIT 20"
_INSERT = "INSERT INTO django_q_ormq (key, payload, lock) VALUES (%s, %s, clock_timestamp())"
# Gone when it is taken: nobody has to live on to acknowledge it.
_TAKE = """
DELETE FROM django_q_ormq
 WHERE id = (SELECT id FROM django_q_ormq WHERE key = %s ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, payload
"""
_HOW_MANY = """
SELECT count(*), statement_timestamp() - min(lock)
  FROM (SELECT lock FROM django_q_ormq WHERE key = %s ORDER BY id LIMIT 1000) AS waiting
"""
# What no worker takes. The versions before had their sweep, and signed nudges, there.
_DROP_SCHEDULES = "DELETE FROM django_q_schedule RETURNING id, func = 'compliance.tasks.sweep'"
_DROP_TASKS = "DELETE FROM django_q_ormq WHERE key <> %s RETURNING id"


def notify_workers_after_commit() -> None:
    """Nudge the workers once the caller's transaction has committed. Never fails the caller."""
    transaction.on_commit(notify_workers, robust=True)


def enqueue_callbacks_after_commit() -> None:
    """Have callbacks sent once the caller's transaction has committed. Never fails the caller."""
    transaction.on_commit(enqueue_callbacks, robust=True)


def enqueue_callbacks() -> None:
    """Insert one task that sends callbacks, unless one that no worker has taken yet is waiting."""
    _insert_unless_waiting("deliver_callbacks")


def enqueue_emails() -> None:
    """Insert one task that sends mails, unless one that no worker has taken yet is waiting."""
    _insert_unless_waiting("send_mails")


def notify_workers() -> None:
    """Insert one drain task, unless one that no worker has taken yet is waiting; a sweep drains too.

    Ten thousand calls in a breath make a handful of tasks. Most callers only look, and need no lock for it: a
    task that is seen waiting was not taken when we looked, our rows were committed before we looked, so the drain
    that takes it, later than our look, sees them. Who sees none goes in one after the other and looks again,
    for the one before may have inserted the task that both missed; else each of them would insert one.
    """
    _insert_unless_waiting("drain", or_else={"sweep"})


def enqueue_sweep() -> None:
    """Have a sweep run if the last was asked for a minute ago. Of all clusters one asks."""
    with transaction.atomic():
        if occurrences.ask(occurrences.Name.SWEEP, every=SWEEP_SECONDS):
            _insert_unless_waiting("sweep")


def _insert_unless_waiting(task: str, *, or_else: frozenset[str] | set[str] = frozenset()) -> None:
    enough = {task, *or_else}
    if enough & _waiting():
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_NUDGE_LOCK])
        if not enough & _waiting():
            cursor.execute(_INSERT, [KEY, task])


def _waiting() -> set[str]:
    """Return the tasks that nobody has taken."""
    # In plain SQL, since every call that files a request asks it.
    return {payload for (payload,) in fetch(_WAITING, [KEY])}


class Broker(brokers.Broker):  # type: ignore[misc]  # django-q2 has no types
    """django-q2's queue, in the database. Acknowledges nothing: a task that is taken is no longer there."""

    def dequeue(self) -> list[tuple[None, str]] | None:
        """Take the next task, or wait a little and return None. Never raises for the database: it is asked again."""
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
        # The pusher, in this very process, unpacks at once what is signed here.
        return [(None, SignedPackage.dumps(task))]

    def set_stat(self, key: str, value: str, timeout: int) -> None:
        """Keep nothing: a cluster tells of itself in a table (`compliance.work.heartbeats`)."""


def _take() -> dict[str, object] | None:
    row = fetch_one(_TAKE, [KEY])
    if row is None:
        return None
    number, name = row
    if name not in TASKS:
        # Dropped by the same statement. What it held is not told: who wrote it may have wanted it in a log.
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
    """Remove what nothing here reads, all schedules and tasks under another key, and tell of it."""
    schedules = [number for number, was_ours in fetch(_DROP_SCHEDULES) if not was_ours]
    tasks = [number for (number,) in fetch(_DROP_TASKS, [KEY])]
    for table, numbers in (("schedule", schedules), ("queue", tasks)):
        if numbers:
            _log_unexpected(table, numbers)


def _log_unexpected(table: str, numbers: list[int]) -> None:
    logger.error("queue.unexpected_task table=%s rows=%s", table, ",".join(map(str, numbers[:20])))
    occurrences.note(occurrences.Name.UNEXPECTED_TASK, times=len(numbers))


def disable_unpickling() -> None:
    """Have no pickle read from django-q2's table of results, whoever asks: the admin, dumpdata, a shell.

    Nothing here wants what stands there: tasks take nothing and give nothing. And a pickle runs what it names.
    """
    for name in ("args", "kwargs", "result"):
        Task._meta.get_field(name).to_python = lambda _: None


class WorkerLifetime:
    """Of one worker: django-q2 replaces it when it has done its number of tasks, unless it is needed still."""

    LONGEST = 10  # times that number, whatever it has in hand

    def __init__(self) -> None:
        self._done = 0
        self._tasks = Conf.RECYCLE

    def count_task(self, *, is_needed: bool) -> None:
        """Call it at the end of each task, which is when django-q2 looks whether it was the last."""
        self._done += 1
        if is_needed and self._tasks <= self._done < self._tasks * self.LONGEST:
            Conf.RECYCLE = self._done + 1


@dataclass(frozen=True)
class FailedTask:
    """A task that ended with an error. What it was is in the worker's log of that time, at `task.failed`."""

    name: str
    started_at: datetime
    stopped_at: datetime


def failed_tasks(most: int = 50) -> list[FailedTask]:
    """Return the tasks that failed last. Their arguments and results, which are pickles, are not even read."""
    rows = Task.objects.filter(success=False).order_by("-started").values_list("func", "started", "stopped")[:most]
    return [FailedTask(func.rpartition(".")[2], started, stopped) for func, started, stopped in rows]


def tasks_waiting() -> tuple[int, timedelta | None]:
    """Return how many tasks no worker has taken yet, counted up to 1,000, and how long the first of them waits."""
    [(number, age)] = fetch(_HOW_MANY, [KEY])
    return number, age
