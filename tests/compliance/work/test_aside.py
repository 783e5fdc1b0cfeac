"""The threads in which clients' buckets are called: how many, for whom, and what becomes of them in the end."""

import threading
from collections.abc import Iterator

import pytest

from compliance.work.aside import THREADS, THREADS_WITH_CHECK, Aside, Job

PATIENCE = 30


class Work:
    """A job that lasts until it is let go."""

    def __init__(self, chatbot_id: int = 1) -> None:
        self.goes_on = threading.Event()
        self.given_back = 0
        self.job = Job(chatbot_id, run=self._run, requeue=self._requeue)

    def _run(self) -> None:
        self.goes_on.wait(PATIENCE)

    def _requeue(self) -> None:
        self.given_back += 1


@pytest.fixture
def rung() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture
def aside(rung: threading.Semaphore) -> Iterator[Aside]:
    aside = Aside(rung.release)
    yield aside
    aside.end(PATIENCE)


def test_it_has_room_for_so_many_and_rings_when_one_has_ended(aside: Aside, rung: threading.Semaphore) -> None:
    works = [Work(number) for number in range(THREADS)]
    for work in works:
        assert aside.has_room
        aside.begin(work.job)
    assert not aside.has_room
    assert set(aside.busy) == set(range(THREADS))

    works[2].goes_on.set()

    assert rung.acquire(timeout=PATIENCE)
    assert aside.has_room
    assert set(aside.busy) == {0, 1, 3}
    for work in works:
        work.goes_on.set()


def test_a_job_that_fails_makes_room_too_and_is_given_back(aside: Aside, rung: threading.Semaphore) -> None:
    def fail() -> None:
        raise ValueError("unforeseen")

    given_back = threading.Event()
    aside.begin(Job(1, run=fail, requeue=given_back.set))
    assert rung.acquire(timeout=PATIENCE)
    assert not aside.busy
    assert given_back.is_set()


def test_a_job_for_which_there_is_no_thread_is_given_back_at_once(
    aside: Aside, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    work = Work()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            aside.begin(work.job)
    assert work.given_back == 1
    assert aside.has_room
    assert not aside.busy


def test_in_the_end_it_waits_for_a_while_and_gives_back_what_has_not_ended(aside: Aside) -> None:
    ends, stays = Work(1), Work(2)
    for work in (ends, stays):
        aside.begin(work.job)
    ends.goes_on.set()

    assert not aside.end(seconds=0.5)

    assert (ends.given_back, stays.given_back) == (0, 1)
    assert not aside.has_room
    stays.goes_on.set()


def test_checks_have_one_place_more_and_none_when_the_worker_ends(aside: Aside) -> None:
    works = [Work(number) for number in range(THREADS_WITH_CHECK)]
    for work in works:
        assert aside.has_room_for_check
        aside.begin(work.job)
    assert not aside.has_room_for_check
    for work in works:
        work.goes_on.set()
    assert aside.end(PATIENCE)
    assert not aside.has_room_for_check


def test_a_worker_that_ends_calls_nobody_for_what_it_has_given_back(aside: Aside, rung: threading.Semaphore) -> None:
    work = Work()
    aside.begin(work.job)
    assert not aside.end(seconds=0)
    work.goes_on.set()
    assert aside.wait(PATIENCE)
    assert not rung.acquire(timeout=0.5)
