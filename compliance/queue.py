"""Nudge the workers, and declare what runs on a schedule. The only module that knows django-q2.

The rows of ComplianceRequest are the queue. A django-q2 task only says "there is work" and carries no data, so
one that is lost, repeated, late or out of order loses and repeats nothing; a sweep says it again every minute.
"""

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from django_q.models import OrmQ, Schedule
from django_q.tasks import async_task

_BELL_LOCK = 0x6463_6162  # "dcab": the advisory lock that one ringer at a time holds

# Name -> what runs and how often. `sync_schedules` makes the table of django-q2 equal to this.
SCHEDULES = {
    "sweep": {"func": "compliance.tasks.sweep", "schedule_type": Schedule.MINUTES, "minutes": 1},
}


def ring_after_commit() -> None:
    """Nudge the workers once the caller's transaction has committed. Never fails the caller."""
    transaction.on_commit(ring, robust=True)


def ring() -> None:
    """Insert one drain task, unless one that no worker has taken yet is waiting.

    Ten thousand calls in a breath make a handful of tasks. One caller at a time looks and inserts. The waiting
    task it sees was not taken yet, and our rows are committed, so the drain that takes it sees them.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_BELL_LOCK])
        if not OrmQ.objects.filter(key=settings.Q_CLUSTER["name"], lock__lte=timezone.now()).exists():
            async_task("compliance.tasks.drain")


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
