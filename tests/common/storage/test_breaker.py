"""The circuit breaker alone, with its own clock."""

import pytest

from common.storage import StorageError
from common.storage.breaker import FAILURES, FIRST_REST_SECONDS, LONGEST_REST_SECONDS, QUICK_REST_SECONDS, Breaker


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def is_open(breaker: Breaker) -> bool:
    try:
        breaker.check()
    except StorageError:
        return True
    return False


def open_it(breaker: Breaker) -> None:
    for _ in range(FAILURES):
        assert not is_open(breaker)
        breaker.failed()


def test_it_opens_after_failures_in_a_row_only(breaker: Breaker) -> None:
    for _ in range(3):
        for _ in range(FAILURES - 1):
            breaker.failed()
        breaker.answered()
    assert not is_open(breaker)
    open_it(breaker)
    with pytest.raises(StorageError) as caught:
        breaker.check()
    assert (caught.value.code, caught.value.retryable) == ("storage_resting", True)


def test_one_call_tries_again_after_the_rest(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += FIRST_REST_SECONDS - 1
    assert is_open(breaker)
    clock.now += 1
    assert not is_open(breaker)
    assert is_open(breaker)
    breaker.answered()
    assert not is_open(breaker)
    open_it(breaker)


def test_it_rests_longer_each_time_up_to_a_limit(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker)
    rests = []
    for _ in range(6):
        began = clock.now
        while is_open(breaker):
            clock.now += 1
        rests.append(clock.now - began)
        breaker.failed()
    assert rests == [30, 60, 120, 240, 300, 300]
    assert rests[-1] == LONGEST_REST_SECONDS


def test_a_trial_that_never_reports_its_end_does_not_block_forever(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += FIRST_REST_SECONDS
    assert not is_open(breaker)
    clock.now += FIRST_REST_SECONDS
    assert not is_open(breaker)


def test_refused_connections_are_always_retried_soon(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += FIRST_REST_SECONDS
    for _ in range(5):
        assert not is_open(breaker)
        breaker.failed(after=1)
        assert is_open(breaker)
        clock.now += QUICK_REST_SECONDS
    assert not is_open(breaker)
