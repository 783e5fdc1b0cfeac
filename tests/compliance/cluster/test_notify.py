"""Tasks: one waiting task is enough, a taken one is not, and callers do not wait for each other.

Only names of our own tasks are taken from the table, whatever it contains.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection, transaction
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from chatbots.models import Chatbot
from compliance import tasks
from compliance.cluster import broker, notify
from compliance.models import Occurrence
from tests.factories import deletion_of

pytestmark = pytest.mark.django_db(transaction=True)


def take_all() -> list[str]:
    """Take tasks one by one, as a cluster does; return the names of their functions."""
    taken = []
    while task := broker.Broker().dequeue():
        [(_, signed)] = task
        taken.append(SignedPackage.loads(signed)["func"])
    return taken


def test_a_task_that_was_taken_is_not() -> None:
    notify.notify_workers()
    assert take_all() == ["compliance.tasks.drain"]
    notify.notify_workers()
    assert OrmQ.objects.count() == 1


def test_a_caller_that_sees_a_waiting_task_takes_no_lock() -> None:
    notify.notify_workers()
    with ThreadPoolExecutor(1) as pool, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [notify._TASKS_LOCK])
        pool.submit(_notify).result(timeout=10)
    assert OrmQ.objects.count() == 1


def test_eight_concurrent_notifications_enqueue_one_task() -> None:
    barrier = Barrier(8)

    def together() -> None:
        barrier.wait()
        _notify()

    for _round in range(5):
        with ThreadPoolExecutor(8) as pool:
            for one in [pool.submit(together) for _ in range(8)]:
                one.result(timeout=10)
        assert len(take_all()) == 1


def test_a_task_that_somebody_holds_is_taken_later_and_is_not_doubled() -> None:
    notify.notify_workers()
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert len(OrmQ.objects.select_for_update()) == 1
            assert pool.submit(_take).result(timeout=10) is None
            pool.submit(_notify).result(timeout=10)
        assert pool.submit(_take).result(timeout=10) == "compliance.tasks.drain"
    assert not OrmQ.objects.exists()


def test_a_lost_task_is_inserted_again_while_a_request_waits(chatbot: Chatbot) -> None:
    deletion_of(chatbot, "42")
    notify.notify_workers()
    OrmQ.objects.all().delete()
    tasks.enqueue_what_is_due()
    assert "drain" in OrmQ.objects.values_list("payload", flat=True)


def _notify() -> None:
    try:
        notify.notify_workers()
    finally:
        connection.close()


def test_a_task_is_deleted_when_taken_and_taken_once() -> None:
    notify.enqueue_callbacks()
    notify.notify_workers()
    with ThreadPoolExecutor(4) as pool:
        taken = [one.result(timeout=10) for one in [pool.submit(_take) for _ in range(4)]]
    assert sorted(filter(None, taken)) == ["compliance.tasks.deliver_callbacks", "compliance.tasks.drain"]
    assert not OrmQ.objects.exists()


def test_dequeuing_reconnects_after_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_WAIT_SECONDS", 0)
    notify.notify_workers()
    taker = broker.Broker()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [(backend,)] = cursor.fetchall()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_end, backend).result(timeout=10)

    assert taker.dequeue() is None
    assert take_all() == ["compliance.tasks.drain"]


def test_one_sweep_a_minute_is_granted() -> None:
    for _ in range(3):
        notify.enqueue_sweep()
    assert take_all() == ["compliance.tasks.sweep"]

    Occurrence.objects.update(asked_at=timezone.now() - timedelta(seconds=61))
    notify.enqueue_sweep()
    notify.enqueue_sweep()
    assert take_all() == ["compliance.tasks.sweep"]


def _end(backend: int) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
    finally:
        connection.close()


def _take() -> str | None:
    try:
        task = broker.Broker().dequeue()
        return SignedPackage.loads(task[0][1])["func"] if task else None
    finally:
        connection.close()


def test_a_worker_is_recycled_once_its_threads_are_idle_or_at_a_limit(monkeypatch) -> None:
    monkeypatch.setattr(Conf, "RECYCLE", 3)
    life = broker.WorkerLife()
    replaced = []
    for number, is_needed in enumerate([True] * 4 + [False], start=1):
        life.count_task(is_needed=is_needed)
        replaced.append(number == Conf.RECYCLE)
    assert replaced == [False] * 4 + [True]

    monkeypatch.setattr(Conf, "RECYCLE", 3)
    life = broker.WorkerLife()
    for _ in range(3 * broker.LONGEST_LIFE):
        life.count_task(is_needed=True)
    assert Conf.RECYCLE == 3 * broker.LONGEST_LIFE
