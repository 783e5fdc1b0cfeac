"""Who is built first, and the lease of a day while its worker waits for the first row."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from chatbots.models import Chatbot
from common import leases as common_leases
from common.storage import ObjectStorage
from conversations import snapshots
from conversations.extracts import builder, leases
from conversations.models import DailyExtract
from tests.extracting import FIRST, conversation_on, extract_of, lines, noon, planned
from tests.slow_reading import locked, waits

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def held(chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> DailyExtract:
    """A day with a message, claimed by a worker that renews its lease often."""
    monkeypatch.setattr(common_leases, "SECONDS_BETWEEN_RENEWALS", 0)
    monkeypatch.setattr(snapshots, "SECONDS_BETWEEN_CALLS", 0.05)
    conversation_on(chatbot, "42", noon())
    [day] = planned(chatbot)
    taken = leases.take_one(day.pk)
    assert taken
    return taken


def test_a_lease_is_renewed_while_waiting_for_the_first_row(chatbot, storage, held) -> None:
    ends = set[Any]()

    def is_renewed(asking: psycopg.Connection[Any]) -> bool:
        if waits(asking):
            ends.add(asking.execute("SELECT next_attempt_at FROM conversations_dailyextract").fetchone())
        return len(ends) > 2

    with locked("conversations_uploadedfile", until=is_renewed) as renewed:
        assert builder.build(held)
    assert renewed == [True]
    assert len(lines(storage, extract_of(chatbot))) == 1


def test_a_worker_that_loses_its_lease_stops_reading_at_once(storage, held) -> None:
    was_taken = False

    def has_stopped(asking: psycopg.Connection[Any]) -> bool:
        nonlocal was_taken
        if waits(asking) and not was_taken:
            asking.execute("UPDATE conversations_dailyextract SET token = NULL")
            was_taken = True
        return was_taken and not waits(asking)

    with locked("conversations_uploadedfile", until=has_stopped) as stopped:
        assert not builder.build(held)
    assert stopped == [True]
    assert list(storage.versions()) == []
    assert list(storage.uploads()) == []
    assert connection.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_chatbot_with_many_stale_days_does_not_delay_anothers(chatbot: Chatbot, neighbour: Chatbot) -> None:
    many = planned(chatbot, FIRST - timedelta(days=60), FIRST)
    [single] = planned(neighbour)
    DailyExtract.objects.update(state="stale", stale_at=noon())
    DailyExtract.objects.filter(pk=single.pk).update(stale_at=noon() + timedelta(hours=1))
    taken: list[int] = []
    for _ in range(40):
        lease = leases.take_next(settled=False)
        assert lease
        taken.append(lease.pk)
        leases.expire(lease)
    assert single.pk in taken
    # A chatbot's own in the order in which they became stale.
    assert [each for each in taken if each != single.pk] == [day.pk for day in many[: len(taken) - 1]]


def test_a_lost_day_is_taken_once_its_attempt_is_counted(held: DailyExtract) -> None:
    """A day that ends its worker each time would be built again and again by those that look at that moment."""
    DailyExtract.objects.update(next_attempt_at=timezone.now() - timedelta(seconds=1))
    assert leases.take_next(settled=False) is None
    leases.requeue_expired()
    again = leases.take_next(settled=False)
    assert again
    assert (again.attempts, again.error_code) == (1, "worker_lost")
