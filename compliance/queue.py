"""Nudge the workers, declare what runs on a schedule, and tell of both. The only module that knows django-q2.

The rows of ComplianceRequest and of Callback are the queues. A django-q2 task only says "there is work" and carries
no data, so one that is lost, repeated, late or out of order loses and repeats nothing; a sweep says it again every
minute.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ, Schedule, Task
from django_q.signing import SignedPackage
from django_q.tasks import async_task

from compliance import heartbeats

_BELL_LOCK = 0x6463_6162  # "dcab": the advisory lock that one ringer at a time holds

_DRAIN = "compliance.tasks.drain"
_DELIVER = "compliance.tasks.deliver_callbacks"
_MAIL = "compliance.tasks.send_mails"

# A handful wait at most. Whoever finds more inserts one too many, which does no harm.
_WAITING = "SELECT payload FROM django_q_ormq WHERE key = %s AND lock <= %s LIMIT 20"

# Name -> what runs and how often. `sync_schedules` makes the table of django-q2 equal to this.
SCHEDULES = {
    "sweep": {"func": "compliance.tasks.sweep", "schedule_type": Schedule.MINUTES, "minutes": 1},
}


def ring_after_commit() -> None:
    """Nudge the workers once the caller's transaction has committed. Never fails the caller."""
    transaction.on_commit(ring, robust=True)


def call_messenger_after_commit() -> None:
    """Have callbacks sent once the caller's transaction has committed. Never fails the caller."""
    transaction.on_commit(call_messenger, robust=True)


def call_messenger() -> None:
    """Insert one task that sends callbacks, unless one that no worker has taken yet is waiting."""
    _insert_unless(_DELIVER, _is_messenger_waiting)


def call_postman() -> None:
    """Insert one task that sends mails, unless one that no worker has taken yet is waiting."""
    _insert_unless(_MAIL, _is_postman_waiting)


def ring() -> None:
    """Insert one drain task, unless one that no worker has taken yet is waiting; a sweep drains too.

    Ten thousand calls in a breath make a handful of tasks. Most callers only look, and need no lock for it: a
    task that is seen waiting was not taken when we looked, our rows were committed before we looked, so the drain
    that takes it, later than our look, sees them. Who sees none goes in one after the other and looks again,
    for the one before may have inserted the task that both missed; else each of them would insert one.
    """
    _insert_unless(_DRAIN, _is_drain_waiting)


def _insert_unless(task: str, is_waiting: Callable[[], bool]) -> None:
    if is_waiting():
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_BELL_LOCK])
        if not is_waiting():
            async_task(task)


def _is_drain_waiting() -> bool:
    return any(task not in {_DELIVER, _MAIL} for task in _waiting())


def _is_messenger_waiting() -> bool:
    return _DELIVER in _waiting()


def _is_postman_waiting() -> bool:
    return _MAIL in _waiting()


def _waiting() -> list[str]:
    """Return what the tasks that nobody has taken would run."""
    # In plain SQL, since every call that files a request asks it. django-q2 locks a task it takes until later.
    name = str(settings.Q_CLUSTER["name"])
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [name, timezone.now()])
        return [_task_in(payload) for (payload,) in cursor.fetchall()]


@lru_cache(maxsize=64)
def _task_in(payload: str) -> str:
    """Return what a task runs, or nothing of one whose signature does not fit. Each is looked into once a process."""
    return str(OrmQ(payload=payload).task.get("func", ""))


def sync_schedules() -> list[str]:
    """Make django-q2's schedules equal to SCHEDULES; return the names. Run after `migrate`, safe to repeat."""
    with transaction.atomic():
        Schedule.objects.exclude(name__in=SCHEDULES).delete()
        for name, declared in SCHEDULES.items():
            known = Schedule.objects.select_for_update().filter(name=name).order_by("pk")
            if known:
                # django-q2 has no unique name; a second row would run the sweep twice.
                Schedule.objects.filter(name=name).exclude(pk=known[0].pk).delete()
                Schedule.objects.filter(pk=known[0].pk).update(**declared, repeats=-1)
            else:
                Schedule.objects.create(name=name, **declared, repeats=-1)
    return list(SCHEDULES)


class Broker(ORM):  # type: ignore[misc]  # django-q2 has no types
    """django-q2's queue in the database. What it tells of a cluster is written where others can read it."""

    def set_stat(self, key: str, value: str, timeout: int) -> None:  # noqa: ARG002  (its signature)
        """Note a sign of life. django-q2 calls this twice a second, in the process that guards the workers."""
        stat = SignedPackage.loads(value)
        heartbeats.seen(
            cluster_id=stat.cluster_id,
            name=f"{socket.gethostname()}:{os.getpid()}",
            workers=Conf.WORKERS,
            stopped=stat.status == Conf.STOPPED,
        )


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


def tasks_waiting(most: int = 1_000) -> int:
    """Return how many tasks no worker has taken yet, counted up to `most`."""
    waiting = OrmQ.objects.filter(key=settings.Q_CLUSTER["name"], lock__lte=timezone.now())
    return len(waiting.values_list("pk", flat=True)[:most])


def next_sweep() -> datetime | None:
    """Return when the sweep is to run next, or None where it is on no schedule."""
    found: datetime | None = Schedule.objects.filter(name="sweep").values_list("next_run", flat=True).first()
    return found
