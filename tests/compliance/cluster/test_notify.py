"""Tasks: one waiting task is enough, a taken one is not, callers do not wait for each other, and a task shows no row.

Only names of our own tasks are taken from the table, whatever it contains.
"""

import traceback
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from chatbots.models import Chatbot
from common.db import execute, fetch
from compliance import tasks, worker
from compliance.cluster import broker, notify
from compliance.cluster.broker import TaskFailed
from compliance.models import Occurrence
from tests.factories import ConversationFactory, deletion_of
from tests.functional.elsewhere import Elsewhere

pytestmark = pytest.mark.django_db(transaction=True)


def take() -> str | None:
    """Take a task, as a cluster does; return the name of its function."""
    task = broker.Broker().dequeue()
    return SignedPackage.loads(task[0][1])["func"] if task else None


def take_all() -> list[str]:
    taken = []
    while name := take():
        taken.append(name)
    return taken


def test_a_caller_that_sees_a_waiting_task_takes_no_lock() -> None:
    notify.notify_workers()
    with transaction.atomic():
        execute("SELECT pg_advisory_xact_lock(%s)", [notify._TASKS_LOCK])
        Elsewhere(notify.notify_workers).end()
    assert OrmQ.objects.count() == 1


def test_eight_concurrent_notifications_enqueue_one_task() -> None:
    barrier = Barrier(8)

    def together() -> None:
        barrier.wait()
        notify.notify_workers()

    for _round in range(5):
        for one in [Elsewhere(together) for _ in range(8)]:
            one.end()
        assert len(take_all()) == 1


def test_a_task_that_somebody_holds_is_taken_later_and_is_not_doubled() -> None:
    notify.notify_workers()
    with transaction.atomic():
        assert len(OrmQ.objects.select_for_update()) == 1
        assert Elsewhere(take).end() is None
        Elsewhere(notify.notify_workers).end()
    assert take_all() == ["compliance.tasks.drain"]


def test_a_lost_task_is_inserted_again_while_a_request_waits(chatbot: Chatbot) -> None:
    deletion_of(chatbot, "42")
    notify.notify_workers()
    OrmQ.objects.all().delete()
    tasks.enqueue_due_work()
    assert "drain" in OrmQ.objects.values_list("payload", flat=True)


def test_a_task_is_deleted_when_taken_and_taken_once() -> None:
    notify.enqueue_callbacks()
    notify.notify_workers()
    taken = [one.end() for one in [Elsewhere(take) for _ in range(4)]]
    assert sorted(filter(None, taken)) == ["compliance.tasks.deliver_callbacks", "compliance.tasks.drain"]
    assert not OrmQ.objects.exists()


def test_dequeuing_reconnects_after_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_WAIT_SECONDS", 0)
    notify.notify_workers()
    [(backend,)] = fetch("SELECT pg_backend_pid()")
    Elsewhere(lambda: execute("SELECT pg_terminate_backend(%s, 5000)", [backend])).end()

    assert take() is None
    assert take_all() == ["compliance.tasks.drain"]


def test_one_sweep_a_minute_is_granted() -> None:
    for seconds in (0, 61):
        Occurrence.objects.update(asked_at=timezone.now() - timedelta(seconds=seconds))
        for _ in range(3):
            notify.enqueue_sweep()
        assert take_all() == ["compliance.tasks.sweep"]


@pytest.mark.parametrize(
    ("is_needed", "done"),
    [([True] * 4 + [False], 5), ([True] * 50, 3 * broker.LONGEST_LIFE)],
    ids=["once its threads are idle", "at a limit"],
)
def test_a_worker_is_recycled(monkeypatch, is_needed: list[bool], done: int) -> None:
    monkeypatch.setattr(Conf, "RECYCLE", 3)
    life = broker.WorkerLife()
    for number, is_needed_now in enumerate(is_needed, start=1):
        life.count_task(is_needed=is_needed_now)
        if number == Conf.RECYCLE:  # django-q2 ends it then
            break
    assert number == done


def test_a_failed_task_contains_no_row_data(monkeypatch, caplog) -> None:
    """django-q2 keeps the text and traceback of a task's exception, and PostgreSQL quotes the row."""

    def fail(*_: object) -> None:
        ConversationFactory.create(user_name="Ada Lovelace", deletion_request_id=None)
        with transaction.atomic():
            execute("UPDATE conversations_conversation SET deleted_at = now()")

    monkeypatch.setattr(worker, "sweep", fail)

    with pytest.raises(TaskFailed) as caught:
        tasks.sweep()

    kept = "".join(traceback.format_exception(caught.value))
    # Citus does not say which constraint it was.
    assert str(caught.value) in {
        "django.db.utils.IntegrityError: SQLSTATE 23514 (conversation_erased_holds_nothing)",
        "django.db.utils.IntegrityError: SQLSTATE 23514",
    }
    assert "Ada" not in kept
    assert caught.value.__context__ is None
    assert IntegrityError.__name__ in caplog.text
