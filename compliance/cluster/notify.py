"""Notify the workers by tasks: rows that contain nothing but the name of one of our tasks.

The tables of requests and callbacks are the queues. So a lost, repeated, late or reordered task loses and repeats
nothing; the guard of a cluster inserts it again.
"""

from collections.abc import Callable
from datetime import timedelta

from django.db import transaction

from common.db import execute, fetch, lock_until_commit
from compliance.cluster import occurrences

# All tasks that a worker runs (`compliance.tasks`).
TASKS = ("drain", "sweep", "deliver_callbacks", "send_mails")
# Marks our rows.
KEY = "tasks"

SWEEP_SECONDS = 60.0

_TASKS_LOCK = 0x6463_6162  # "dcab": taken to insert a task

# At most a handful wait. If more do, one too many is inserted, which does no harm.
_WAITING = "SELECT payload FROM django_q_ormq WHERE key = %s LIMIT 20"
_INSERT = "INSERT INTO django_q_ormq (key, payload, lock) VALUES (%s, %s, clock_timestamp())"
_HOW_MANY = """
SELECT count(*), statement_timestamp() - min(lock)
  FROM (SELECT lock FROM django_q_ormq WHERE key = %s ORDER BY id LIMIT 1000) AS waiting
"""


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


def tasks_waiting() -> tuple[int, timedelta | None]:
    """Return how many tasks wait, counted up to 1,000, and how long the first has waited."""
    [(number, age)] = fetch(_HOW_MANY, [KEY])
    return number, age
