"""The state of a silent storage, shared by all processes."""

import time
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from chatbots.buckets import location_of, silence
from chatbots.models import Bucket, Chatbot, SilentStorage
from common.db import execute
from common.storage import StorageError
from common.storage.breaker import FAILURES, FIRST_REST_SECONDS, LONGEST_REST_SECONDS, Breaker
from tests.clients import use_bucket_at
from tests.hostile import behaving, drips_a_head
from tests.patches import failing

pytestmark = pytest.mark.django_db

FIRST_REST = timedelta(seconds=FIRST_REST_SECONDS)
LONGEST_REST = timedelta(seconds=LONGEST_REST_SECONDS)


def passes(breaker: Breaker) -> bool:
    try:
        breaker.check()
    except StorageError:
        return False
    return True


def silent(chatbot: Chatbot, since: timedelta = timedelta()) -> Breaker:
    breaker = Breaker()
    breaker.failed()
    silence.record(chatbot.pk, breaker)
    SilentStorage.objects.update(since=timezone.now() - since)
    return breaker


def end_rest() -> None:
    SilentStorage.objects.update(rests_until=timezone.now())


def test_another_process_stops_calling_a_silent_storage_at_once(chatbot: Chatbot, neighbour: Chatbot) -> None:
    silent(chatbot)
    another, others = Breaker(), Breaker()
    silence.apply_state(chatbot.pk, another)
    silence.apply_state(neighbour.pk, others)
    assert (passes(another), passes(others)) == (False, True)


def test_after_the_pause_one_call_tries_and_a_response_lets_all_continue(chatbot: Chatbot) -> None:
    silent(chatbot, since=timedelta(seconds=5))
    end_rest()
    tries, waits = Breaker(), Breaker()
    silence.apply_state(chatbot.pk, tries)
    silence.apply_state(chatbot.pk, waits)
    assert [passes(tries), passes(tries), passes(waits)] == [True, False, False]

    tries.answered()
    silence.record(chatbot.pk, tries)

    assert not SilentStorage.objects.exists()
    silence.apply_state(chatbot.pk, waits)
    assert passes(waits)


def test_a_process_that_did_not_try_leaves_it_to_another(chatbot: Chatbot) -> None:
    silent(chatbot)
    end_rest()
    idle, another = Breaker(), Breaker()
    silence.apply_state(chatbot.pk, idle)
    silence.record(chatbot.pk, idle)
    silence.apply_state(chatbot.pk, another)
    assert passes(another)

    # Only its own: the other one's is under way.
    silence.record(chatbot.pk, idle)
    third = Breaker()
    silence.apply_state(chatbot.pk, third)
    assert not passes(third)


@pytest.mark.parametrize(
    ("since", "after", "rest"),
    [
        (timedelta(), 20, FIRST_REST),
        (timedelta(seconds=70), 20, timedelta(seconds=70)),
        (timedelta(days=1), 20, LONGEST_REST),
        (timedelta(), 0.1, timedelta(seconds=5)),
        (timedelta(seconds=250), 0.1, timedelta(seconds=25)),
        (timedelta(days=1), 0.1, LONGEST_REST),
    ],
)
def test_the_pause_grows_with_the_silence_and_is_short_for_refused_connections(chatbot, since, after, rest) -> None:
    breaker = silent(chatbot, since)
    breaker.failed(after=after)
    silence.record(chatbot.pk, breaker)
    known = SilentStorage.objects.get()
    assert known.rests_until is not None
    assert abs(known.rests_until - timezone.now() - rest) < timedelta(seconds=3)
    assert abs(timezone.now() - known.since - since) < timedelta(seconds=5)


def test_work_continues_if_the_database_does_not_return_the_known_state(chatbot, monkeypatch) -> None:
    """The work uses the same database, and is requeued once that is back."""

    monkeypatch.setattr(silence, "_breaker_of", failing(OperationalError("made up")))
    worked = []
    with silence.calling_bucket_of(chatbot.pk):
        worked.append(True)
    assert worked


def test_a_block_without_calls_does_not_clear_a_silence(chatbot: Chatbot) -> None:
    silent(chatbot)
    silence.record(chatbot.pk, Breaker())
    assert SilentStorage.objects.exists()


def test_the_operators_storage_is_paused_after_the_third_failure() -> None:
    breaker = Breaker()
    for rests in [False] * (FAILURES - 1) + [True]:
        breaker.failed()
        silence.record(None, breaker)
        assert (SilentStorage.objects.get(chatbot=None).rests_until is not None) is rests


def test_the_state_of_a_former_bucket_is_not_recorded_for_the_present_one(chatbot: Chatbot) -> None:
    with behaving(drips_a_head) as server:
        use_bucket_at(chatbot, server.url())
        with silence.calling_bucket_of(chatbot.pk):
            location_of(Bucket.objects.get(chatbot=chatbot)).storage.calls.breaker.failed()
            Bucket.objects.filter(chatbot=chatbot).update(bucket="another")
    assert not SilentStorage.objects.exists()


def test_an_earlier_response_does_not_hide_later_silence(chatbot: Chatbot) -> None:
    now = 0.0
    answered = Breaker(clock=lambda: now)
    answered.answered()
    silent(chatbot)
    now = 60.0
    silence.record(chatbot.pk, answered)
    assert SilentStorage.objects.exists()


def test_an_answer_from_just_before_is_no_newer_where_the_database_is_slow(chatbot, monkeypatch) -> None:
    answered = Breaker()
    answered.answered()
    silent(chatbot)

    def slow(statement: str, values: list[object]) -> int:
        time.sleep(0.2)
        return execute(statement, values)

    monkeypatch.setattr(silence, "execute", slow)
    time.sleep(0.05)
    SilentStorage.objects.update(since=timezone.now())
    silence.record(chatbot.pk, answered)
    assert SilentStorage.objects.exists()
