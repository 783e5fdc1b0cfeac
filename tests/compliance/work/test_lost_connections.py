"""A broken connection to the database costs running work only time."""

import time
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import Error, OperationalError, connection, transaction
from django.utils import timezone

from chatbots.models import Bucket, ChangeLogEntry, Chatbot
from compliance import worker
from compliance.callbacks.queue import Callbacks
from compliance.erasure import marking
from compliance.models import Claim, ComplianceRequest
from compliance.work import claims
from compliance.work.call_queue import may_take
from conversations.extracts import leases
from conversations.models import DailyExtract
from tests.factories import CallbackFactory, conversation_of, deletion_of
from tests.functional.elsewhere import Elsewhere, Gate
from tests.functional.support import wait_until
from tests.patches import before, once

pytestmark = pytest.mark.django_db(transaction=True)


def end_this_connection() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [(backend,)] = cursor.fetchall()

    def end() -> None:
        with connection.cursor() as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])

    Elsewhere(end).end()


@pytest.mark.parametrize("values", [["42"], ["42", "43"]], ids=["one", "two"])
def test_requests_continue_at_once_after_a_connection_broke_between_transactions(
    chatbot: Chatbot, storage: object, monkeypatch: pytest.MonkeyPatch, values: list[str]
) -> None:
    for value in values:
        conversation_of(chatbot, value)
        deletion_of(chatbot, value)
    broken: list[bool] = []

    def lose_it_once(_: claims.HeldClaim) -> None:
        if not broken:
            end_this_connection()
            broken.append(True)

    before(monkeypatch, worker, "measure", lose_it_once)
    worker.drain(seconds=30)

    assert broken
    assert [(one.status, one.attempts) for one in ComplianceRequest.objects.all()] == [("completed", 0)] * len(values)
    assert not Claim.objects.exists()
    assert "worker_lost" not in {entry.data.get("code") for entry in ChangeLogEntry.objects.all()}


def test_a_day_whose_connection_broke_is_released_and_loses_an_attempt(chatbot: Chatbot, storage: object) -> None:
    Bucket.objects.get_or_create(chatbot=chatbot)
    DailyExtract.objects.create(
        chatbot=chatbot, day=date(2026, 1, 1), starts_at=timezone.now(), ends_at=timezone.now() + timedelta(days=1)
    )
    held = leases.take_next(settled=False)
    assert held
    end_this_connection()

    leases.fail(held, "extract_not_read", "made up", retryable=True)

    day = DailyExtract.objects.get()
    assert (day.attempts, day.token) == (1, None)


def test_a_claim_is_requeued_once_the_database_is_back(chatbot, storage, monkeypatch) -> None:
    conversation_of(chatbot, "42")
    request = deletion_of(chatbot, "42")
    held = claims.take(ComplianceRequest.Kind.DELETION)
    assert held
    refusals = [OperationalError("made up"), OperationalError("made up")]

    def requeue_later(*given: Any) -> None:
        if refusals:
            raise refusals.pop()

    before(monkeypatch, worker, "_requeue", requeue_later)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)

    worker._isolate(held, ValueError("made up"))

    request.refresh_from_db()
    assert (request.claim_id, request.status) == (None, "accepted")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every new connection is ended after a moment, instead of a minute, of saying nothing within a transaction."""
    options = connection.settings_dict["OPTIONS"]
    of_service = f"idle_in_transaction_session_timeout={settings.IDLE_TRANSACTION_SECONDS}s"
    assert of_service in options["options"]
    monkeypatch.setitem(
        options, "options", options["options"].replace(of_service, "idle_in_transaction_session_timeout=100ms")
    )
    connection.close()
    yield
    connection.close()


@pytest.mark.usefixtures("impatient")
def test_callbacks_are_sent_once_a_worker_has_stopped_while_it_took_some(chatbot: Chatbot) -> None:
    """One worker at a time takes them: what it has locked then, all others wait for."""
    CallbackFactory.create(request=deletion_of(chatbot, "1"), url="https://hooks.example.com/x")
    gate = Gate()

    def stop() -> None:
        with transaction.atomic():
            may_take(uuid4())
            gate.passed()

    stopped = Elsewhere(stop)
    gate.wait_for_caller()
    try:
        assert len(Elsewhere(lambda: Callbacks().take(uuid4(), room=1, busy={})).end()) == 1
    finally:
        gate.open()
    with pytest.raises(Error):
        stopped.end()


@pytest.mark.usefixtures("impatient")
def test_a_claim_is_requeued_once_its_worker_has_stopped_within_a_transaction(chatbot, monkeypatch) -> None:
    """Like a machine that is lost or paused. No other process ends its transaction, which has locked the claim."""
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0)
    request = deletion_of(chatbot, "42")
    gate = Gate()

    def stop() -> None:
        held = claims.take(claims.Kind.DELETION)
        assert held is not None
        with held.transaction():
            gate.passed()

    stopped = Elsewhere(stop)
    gate.wait_for_caller()
    try:
        wait_until(lambda: claims.requeue_expired() == 1, seconds=10)
    finally:
        gate.open()
    with pytest.raises(Error):
        stopped.end()
    request.refresh_from_db()
    assert (request.status, request.claim, request.attempts) == ("accepted", None, 1)


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_was_stopped_within_a_transaction_goes_on(chatbot, storage, monkeypatch) -> None:
    conversation_of(chatbot, "42")
    request = deletion_of(chatbot, "42")

    before(monkeypatch, marking, "_mark_all", once(lambda *_, **__: time.sleep(0.5)))
    worker.drain(seconds=30)
    request.refresh_from_db()
    assert (request.status, request.attempts, request.error_code) == ("accepted", 1, "database_lost")
    ComplianceRequest.objects.update(not_before=None)
    worker.drain(seconds=30)
    request.refresh_from_db()
    assert (request.status, request.attempts, request.messages) == ("completed", 1, 2)
