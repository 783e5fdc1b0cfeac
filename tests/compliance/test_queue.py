"""The bell: a waiting task is enough, a task that was taken is not, and callers do not wait for each other."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection, transaction
from django.utils import timezone
from django_q.models import OrmQ

from compliance import queue

pytestmark = pytest.mark.django_db(transaction=True)


def take_all() -> None:
    """As django-q2 takes tasks: it locks them until later."""
    OrmQ.objects.update(lock=timezone.now() + timedelta(hours=2))


def test_one_waiting_task_is_enough() -> None:
    queue.ring()
    queue.ring()
    assert OrmQ.objects.count() == 1


def test_a_task_that_was_taken_is_not() -> None:
    queue.ring()
    take_all()
    queue.ring()
    assert OrmQ.objects.count() == 2


def test_whoever_sees_a_waiting_task_waits_for_nobody() -> None:
    queue.ring()
    with ThreadPoolExecutor(1) as pool, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [queue._BELL_LOCK])
        pool.submit(_ring).result(timeout=10)
    assert OrmQ.objects.count() == 1


def test_eight_at_once_call_one_worker() -> None:
    barrier = Barrier(8)

    def together() -> None:
        barrier.wait()
        _ring()

    for round_ in range(1, 6):
        with ThreadPoolExecutor(8) as pool:
            for one in [pool.submit(together) for _ in range(8)]:
                one.result(timeout=10)
        assert OrmQ.objects.count() == round_
        take_all()


def _ring() -> None:
    try:
        queue.ring()
    finally:
        connection.close()
