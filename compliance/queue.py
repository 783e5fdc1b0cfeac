"""Nudge the workers, and declare what runs on a schedule. The only module that knows django-q2.

The rows of ComplianceRequest are the queue. A django-q2 task only says "there is work" and carries no data, so
one that is lost, repeated, late or out of order loses and repeats nothing; a sweep says it again every minute.
"""

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from django_q.models import Schedule
from django_q.tasks import async_task

_BELL_LOCK = 0x6463_6162  # "dcab": the advisory lock that one ringer at a time holds

_IS_TASK_WAITING = "SELECT EXISTS (SELECT FROM django_q_ormq WHERE key = %s AND lock <= %s)"

# Name -> what runs and how often. `sync_schedules` makes the table of django-q2 equal to this.
SCHEDULES = {
    "sweep": {"func": "compliance.tasks.sweep", "schedule_type": Schedule.MINUTES, "minutes": 1},
}


def ring_after_commit() -> None:
    """Nudge the workers once the caller's transaction has committed. Never fails the caller."""
    transaction.on_commit(ring, robust=True)


def ring() -> None:
    """Insert one drain task, unless one that no worker has taken yet is waiting.

    Ten thousand calls in a breath make a handful of tasks. Most callers only look, and need no lock for it: a
    task that is seen waiting was not taken when we looked, our rows were committed before we looked, so the drain
    that takes it, later than our look, sees them. Who sees none goes in one after the other and looks again,
    for the one before may have inserted the task that both missed; else each of them would insert one.
    """
    if _is_task_waiting():
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_BELL_LOCK])
        if not _is_task_waiting():
            async_task("compliance.tasks.drain")


def _is_task_waiting() -> bool:
    # In plain SQL, since every call that files a request asks it. django-q2 locks a task it takes until later.
    name = str(settings.Q_CLUSTER["name"])
    with connection.cursor() as cursor:
        cursor.execute(_IS_TASK_WAITING, [name, timezone.now()])
        [(is_waiting,)] = cursor.fetchall()
    return bool(is_waiting)


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
