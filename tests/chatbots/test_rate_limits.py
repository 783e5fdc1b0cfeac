"""The calls per minute of a key: counted exactly and cheaply, by all processes together."""

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import F

from chatbots import rate_limits
from chatbots.models import ApiKey, ChangeLogEntry, Chatbot, RateLimitWindow
from chatbots.operations.keys import create_api_key
from chatbots.rate_limits import RateLimiter
from compliance.models import ComplianceRequest, Replay
from compliance.requests.submit import submit
from tests import factories
from tests.calls import ALICE, Caller, SigningCaller, TokenCaller, problem

DELETION = "data-deletion"


class Clock:
    """This process's clock, stopped; the database's clock continues."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def pass_minute(self) -> None:
        """Let a minute pass, for this process and for the rows in the database."""
        self.now += 60
        RateLimitWindow.objects.update(began_at=F("began_at") - timedelta(minutes=1))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def web(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> RateLimiter:
    """The process that serves the calls of this test."""
    limiter = RateLimiter(clock)
    monkeypatch.setattr("chatbots.api.views.LIMITER", limiter)
    return limiter


def key_of(chatbot: Chatbot, rate_limit: int | None = None) -> ApiKey:
    return create_api_key(
        chatbot=chatbot,
        type=ApiKey.Type.TOKEN,
        label="test",
        actor="command",
        scopes=["requests:read"],
        rate_limit=rate_limit,
    ).api_key


def limits(response: Any) -> tuple[int, int, int]:
    """Return limit, remaining calls and seconds until the reset, from the headers of a response."""
    names = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
    limit, remaining, reset = (int(response.headers[name]) for name in names)
    return limit, remaining, reset


def allowed(limiter: RateLimiter, key: ApiKey, calls: int) -> int:
    taken = [limiter.take(key) for _ in range(calls)]
    return sum(one is None or one.allowed for one in taken)


def test_a_key_may_make_exactly_its_calls_and_gets_retry_after(chatbot, settings, clock):
    settings.RATE_LIMIT_PER_MINUTE = 3
    caller = SigningCaller(chatbot)
    answers = [caller.post(DELETION, ALICE) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [limits(answer)[:2] for answer in answers] == [(3, 2), (3, 1), (3, 0)]

    for _ in range(2):
        refused = caller.post(DELETION, ALICE)
        problem(refused, 429, "rate_limited")
        limit, remaining, reset = limits(refused)
        assert (limit, remaining, int(refused.headers["Retry-After"])) == (3, 0, reset)
        assert 0 < reset <= 61

    clock.pass_minute()
    again = caller.post(DELETION, ALICE)
    assert (again.status_code, limits(again)[:2]) == (200, (3, 2))
    assert "Retry-After" not in again.headers


def test_a_refused_call_stores_nothing(chatbot, settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    caller = TokenCaller(chatbot)
    caller.get("requests/018f0000-0000-7000-8000-000000000000")
    before = ChangeLogEntry.objects.count()

    problem(caller.post(DELETION, ALICE, Idempotency_Key="k"), 429, "rate_limited")

    assert (ComplianceRequest.objects.count(), Replay.objects.count()) == (0, 0)
    assert ChangeLogEntry.objects.count() == before


def test_a_key_at_its_limit_does_not_affect_other_keys(chatbot, neighbour, settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    busy, beside, other = TokenCaller(chatbot), SigningCaller(chatbot), TokenCaller(neighbour)
    assert [busy.post(DELETION, ALICE).status_code for _ in range(2)] == [200, 429]

    assert limits(beside.post(DELETION, ALICE))[:2] == (1, 0)
    assert limits(other.post(DELETION, ALICE))[:2] == (1, 0)


def test_every_response_to_an_authenticated_call_contains_the_limits(chatbot):
    caller = TokenCaller(chatbot, scopes=["deletions:write", "requests:read"])
    answers = [
        (200, caller.post(DELETION, ALICE)),
        (400, caller.post(DELETION, b"{")),
        (403, caller.post("data-export", ALICE)),
        (404, caller.get("requests/018f0000-0000-7000-8000-000000000000")),
        (415, caller.post(DELETION, ALICE, Content_Type="text/plain")),
        (200, caller.post(DELETION, ALICE, Idempotency_Key="k")),
        (200, caller.post(DELETION, ALICE, Idempotency_Key="k")),
    ]
    assert [answer.status_code for _, answer in answers] == [status for status, _ in answers]
    remaining = [limits(answer)[1] for _, answer in answers]
    assert remaining == [6_000 - calls for calls in range(1, len(answers) + 1)]


def test_unauthenticated_calls_get_no_limits_and_are_not_counted(chatbot):
    answer = Caller(chatbot).post(DELETION, ALICE)
    problem(answer, 401, "not_authenticated")
    assert not [name for name in answer.headers if name.startswith("RateLimit")]
    assert not RateLimitWindow.objects.exists()


def test_a_raised_limit_takes_effect_at_once(chatbot):
    caller = TokenCaller(chatbot)
    ApiKey.objects.update(rate_limit=1)
    assert [caller.post(DELETION, ALICE).status_code for _ in range(2)] == [200, 429]
    ApiKey.objects.update(rate_limit=10)
    assert caller.post(DELETION, ALICE).status_code == 200


def test_limits_can_be_switched_off(chatbot, settings):
    caller = TokenCaller(chatbot)
    ApiKey.objects.update(rate_limit=1)
    settings.RATE_LIMIT_PER_MINUTE = 0
    answers = [caller.post(DELETION, ALICE) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert not RateLimitWindow.objects.exists()
    assert "RateLimit-Limit" not in answers[0].headers


def test_a_limit_out_of_range_is_refused(chatbot):
    key = key_of(chatbot)
    for rate_limit in (0, -1, 1_000_001):
        with pytest.raises(ValidationError):
            key_of(chatbot, rate_limit)
        with pytest.raises(IntegrityError), transaction.atomic():
            ApiKey.objects.filter(pk=key.pk).update(rate_limit=rate_limit)


# --- Several processes -----------------------------------------------------------------------------------


def test_most_calls_of_a_busy_key_need_no_query(chatbot, django_assert_num_queries):
    key, limiter = key_of(chatbot), RateLimiter()
    with django_assert_num_queries(3):
        assert allowed(limiter, key, 30) == 30


def test_refused_calls_query_the_database_once_a_second(chatbot, clock, web, django_assert_num_queries):
    key = key_of(chatbot, 1)
    assert allowed(web, key, 1) == 1
    with django_assert_num_queries(0):
        assert allowed(web, key, 50) == 0
    clock.now += 1
    with django_assert_num_queries(1):
        assert allowed(web, key, 50) == 0


def test_permits_of_a_past_minute_are_not_used(chatbot, clock, web, django_assert_num_queries):
    key = key_of(chatbot)
    assert web.take(key).remaining == 5_999
    clock.pass_minute()
    with django_assert_num_queries(1):
        assert web.take(key).remaining == 5_999
    assert RateLimitWindow.objects.get(pk=key.pk).taken == 10


def test_only_the_permits_of_a_dead_process_are_lost(chatbot):
    key, dead = key_of(chatbot, 1_200), RateLimiter()
    assert allowed(dead, key, 1) == 1
    assert allowed(RateLimiter(), key, 1_300) == 1_200 - 2


def test_a_minute_far_in_the_future_comes_from_a_wrong_clock(chatbot):
    key = key_of(chatbot, 1)
    assert allowed(RateLimiter(), key, 2) == 1
    RateLimitWindow.objects.update(began_at=F("began_at") + timedelta(days=1))
    assert allowed(RateLimiter(), key, 2) == 1


def test_a_late_permit_is_used_but_its_block_is_not_kept(chatbot, web, monkeypatch):
    """A thread queries at the end of a minute, while another thread starts the next minute."""
    key, take = key_of(chatbot), rate_limits._take
    assert web.take(key).remaining == 5_999

    def late(*asked: Any) -> tuple[datetime, int, float]:
        began_at, taken, left_seconds = take(*asked)
        return began_at - timedelta(minutes=1), taken, left_seconds

    monkeypatch.setattr(rate_limits, "_take", late)
    assert [web.take(key).remaining for _ in range(9)] == [*range(5_998, 5_989, -1)]
    assert web.take(key).allowed
    monkeypatch.undo()
    assert web._windows[key.pk].ours == 0


def test_counting_does_not_wait_for_the_disk(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT relpersistence FROM pg_class WHERE relname = %s", [RateLimitWindow._meta.db_table])
        assert cursor.fetchone() == ("u",)


# --- Threads, locks, faults ------------------------------------------------------------------------------


@pytest.fixture
def bot(transactional_db: None) -> Chatbot:
    return factories.ready_chatbot(slug="acme")


@pytest.mark.parametrize("limit", [40, 1_800])
def test_threads_of_two_processes_grant_exactly_the_limit(bot, limit):
    key, processes = key_of(bot, limit), (RateLimiter(), RateLimiter())

    def work(number: int) -> int:
        try:
            return allowed(processes[number % 2], key, limit // 4)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        calls = sum(threads.map(work, range(8)))
    block = max(1, limit // rate_limits.BLOCKS)
    assert limit - 2 * (block - 1) <= calls <= limit


def test_no_row_is_locked_while_a_call_is_served(bot, monkeypatch):
    caller, looked = TokenCaller(bot), []

    def look() -> None:
        with transaction.atomic():
            looked.append(RateLimitWindow.objects.select_for_update(nowait=True).get(pk=caller.api_key.pk))
        connection.close()

    def looking(**arguments: Any) -> ComplianceRequest:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(look).result()
        return submit(**arguments)

    monkeypatch.setattr("compliance.api.submissions.submit", looking)
    assert caller.post(DELETION, ALICE).status_code == 200
    assert len(looked) == 1


def test_calls_pass_when_the_limit_cannot_be_counted(bot, caplog, clock):
    caller, table = TokenCaller(bot), RateLimitWindow._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO away")
        try:
            answers = [caller.post(DELETION, ALICE) for _ in range(3)]
        finally:
            cursor.execute(f"ALTER TABLE away RENAME TO {table}")
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert "RateLimit-Limit" not in answers[0].headers
    found = [record for record in caplog.records if record.name == "chatbots.rate_limits"]
    assert [record.levelno for record in found] == [logging.ERROR]
    assert "SQLSTATE 42P01" in found[0].getMessage()

    clock.now += 1
    assert limits(caller.post(DELETION, ALICE))[:2] == (6_000, 5_999)
