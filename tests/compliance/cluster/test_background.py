"""The threads that call clients' buckets: their number, their jobs and their end."""

import threading
from collections.abc import Iterator

import pytest

from compliance.cluster.background import THREADS, THREADS_WITH_CHECK, BackgroundJobs, Job
from tests.patches import failing

PATIENCE = 30

# Each thread has a connection of its own.
pytestmark = pytest.mark.django_db(transaction=True)


class Work:
    """A job that runs until it is released."""

    def __init__(self, chatbot_id: int = 1) -> None:
        self.goes_on = threading.Event()
        self.requeued = 0
        self.job = Job(chatbot_id, run=self._run, requeue=self._requeue)

    def _run(self) -> None:
        self.goes_on.wait(PATIENCE)

    def _requeue(self) -> None:
        self.requeued += 1


@pytest.fixture
def notified() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture
def background(notified: threading.Semaphore) -> Iterator[BackgroundJobs]:
    background = BackgroundJobs(notified.release)
    yield background
    background.end(PATIENCE)


def test_it_runs_a_limited_number_and_one_check_more_and_notifies_when_one_ends(background, notified) -> None:
    works = [Work(number) for number in range(THREADS_WITH_CHECK)]
    for number, work in enumerate(works):
        assert background.has_room is (number < THREADS)
        assert background.has_room_for_check
        background.begin(work.job)
    assert not background.has_room_for_check
    assert set(background.busy) == set(range(THREADS_WITH_CHECK))

    for work in works[2:4]:
        work.goes_on.set()
        assert notified.acquire(timeout=PATIENCE)

    assert background.has_room
    assert set(background.busy) == {0, 1, 4}
    for work in works:
        work.goes_on.set()


def test_a_failed_job_makes_room_and_is_requeued(background: BackgroundJobs, notified: threading.Semaphore) -> None:
    requeued = threading.Event()
    background.begin(Job(1, run=failing(ValueError("unforeseen")), requeue=requeued.set))
    assert notified.acquire(timeout=PATIENCE)
    assert not background.busy
    assert requeued.is_set()


def test_a_job_without_a_thread_is_requeued_at_once(background, monkeypatch) -> None:
    work = Work()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", failing(RuntimeError("can't start new thread")))
        with pytest.raises(RuntimeError):
            background.begin(work.job)
    assert work.requeued == 1
    assert background.has_room
    assert not background.busy


def test_ending_waits_a_while_and_requeues_unfinished_jobs(background, notified) -> None:
    ends, stays = Work(1), Work(2)
    for work in (ends, stays):
        background.begin(work.job)
    ends.goes_on.set()

    assert not background.end(seconds=0.5)

    assert (ends.requeued, stays.requeued) == (0, 1)
    assert not background.has_room
    assert not background.has_room_for_check
    # Nor does it notify once it has requeued.
    while notified.acquire(blocking=False):
        pass
    stays.goes_on.set()
    assert background.wait(PATIENCE)
    assert not notified.acquire(timeout=0.5)
