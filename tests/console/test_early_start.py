"""Start now: it ends the console's time to cancel, for some roles, and no other wait."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.test import Client
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from compliance.cluster import notify
from compliance.models import ComplianceRequest, Service
from compliance.requests.decisions import approve
from compliance.requests.selectors import ByUci
from compliance.requests.submit import submit
from compliance.work import claims
from tests.closed import close
from tests.compliance.conftest import Drain
from tests.compliance.retention.runs import first_run, set_period
from tests.console.request_pages import address, text_of
from tests.factories import ClaimFactory, conversation_of, redaction_of
from tests.people import Role, client_of, member, staff

Kind = ComplianceRequest.Kind
MINUTE = timedelta(minutes=1)
OFFERED = 'data-opens="decide-start"'


def deletion(chatbot: Chatbot, *, origin: str = "console", kind: Kind = Kind.DELETION) -> ComplianceRequest:
    about = ByUci("member_id", "42")
    return submit(chatbot=chatbot, kind=kind, selector=about, origin=ComplianceRequest.Origin(origin), actor="user:0")


def redaction(chatbot: Chatbot) -> ComplianceRequest:
    return redaction_of(conversation_of(chatbot, "42"), origin=ComplianceRequest.Origin.CONSOLE)


def press(client: Client, request: ComplianceRequest) -> Any:
    return client.post(address(request, "start"))


def left(request: ComplianceRequest) -> timedelta | None:
    """Return how long after its filing a request starts."""
    request.refresh_from_db()
    return request.not_before - request.received_at if request.not_before else None


@pytest.mark.parametrize(("make", "roles"), [(deletion, {Role.OFFICER}), (redaction, {Role.SUPPORT, Role.OFFICER})])
def test_it_starts_for_those_who_may(chatbot: Chatbot, make: Callable[[Chatbot], ComplianceRequest], roles) -> None:
    for role in Role:
        request = make(chatbot)
        assert left(request) == 15 * MINUTE
        user = staff(chatbot, role)
        client = client_of(user)
        assert (OFFERED in text_of(client, request)) == (role in roles)
        assert press(client, request).status_code == (302 if role in roles else 403)
        assert left(request) == (None if role in roles else 15 * MINUTE)
        entries = ChangeLogEntry.objects.filter(event="request.started_early", request_id=request.pk)
        assert [entry.actor for entry in entries] == ([f"user:{user.pk}"] if role in roles else [])
        text = text_of(client, request)
        assert ("Waiting time ended" in text) == (role in roles)
        assert role not in roles or OFFERED not in text


def test_workers_are_told_and_take_it(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    request = redaction(chatbot)
    assert claims.take(Kind.REDACTION) is None
    told = []
    monkeypatch.setattr(notify, "after_commit", lambda _notify: told.append(request.pk))

    press(member(chatbot, Role.SUPPORT), request)

    assert told == [request.pk]
    held = claims.take(Kind.REDACTION)
    assert held
    assert held.request_ids == (request.pk,)


def test_the_chatbots_own_grace_period_goes_on(chatbot: Chatbot) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(grace_minutes=5)
    chatbot.refresh_from_db()
    request, redacting = deletion(chatbot), redaction(chatbot)
    client = member(chatbot, Role.OFFICER)
    over = deletion(chatbot)
    earlier = {name: F(name) - 6 * MINUTE for name in ("received_at", "not_before")}
    ComplianceRequest.objects.filter(pk=over.pk).update(**earlier)
    assert "then starts 5 minutes after its filing" in text_of(client, request)
    assert "The deletion then starts as soon as a worker is free." in text_of(client, over)

    for one, expected in ((request, 5 * MINUTE), (redacting, None)):
        assert press(client, one).status_code == 302
        assert left(one) == expected

    assert "It still waits for the chatbot&#x27;s own grace period." in text_of(client, request)
    again = press(client, request)
    assert again.status_code == 409
    assert "the chatbot&#x27;s own grace period, which is not shortened" in again.text


@pytest.mark.parametrize(("at_filing", "now"), [(30, 30), (30, 0), (0, 15)])
def test_a_time_that_is_the_chatbots_own_is_not_ended(chatbot: Chatbot, at_filing: int, now: int) -> None:
    chatbot.grace_minutes = at_filing
    request = deletion(chatbot)
    Chatbot.objects.filter(pk=chatbot.pk).update(grace_minutes=now)

    refused(member(chatbot, Role.OFFICER), request, "the chatbot&#x27;s own grace period, which is not shortened")


def refused(client: Client, request: ComplianceRequest, why: str) -> None:
    before = left(request)
    answer = press(client, request)
    assert (answer.status_code, left(request)) == (409, before)
    assert why in answer.text
    # It is the page of the request.
    assert OFFERED not in answer.text
    assert not ChangeLogEntry.objects.filter(event="request.started_early").exists()


def test_what_does_not_wait_for_the_console_says_why(chatbot: Chatbot) -> None:
    chatbot.grace_minutes = 5
    client, now = member(chatbot, Role.OFFICER), timezone.now()
    states: list[tuple[dict[str, Any], str]] = [
        ({"status": "on_hold", "hold_reason": "awaiting_approval", "held_at": now}, "It is on hold"),
        ({"status": "cancelled", "cancelled_at": now, "uci_value": None}, "It is cancelled, not waiting."),
        ({"claim": ClaimFactory.create()}, "A worker has taken it already."),
        ({"started_at": now}, "A worker has taken it already."),
        ({"waiting_for": "rows"}, "A worker has taken it already."),
        ({"error_code": "storage_resting"}, "It waits after an error"),
        ({"not_before": now - MINUTE}, "It waits for nothing but a worker."),
        ({"not_before": None}, "It waits for nothing but a worker."),
        ({"origin": "replay"}, "which is not shortened"),
    ]
    for fields, why in states:
        request = deletion(chatbot)
        ComplianceRequest.objects.filter(pk=request.pk).update(**fields)
        refused(client, request, why)
    refused(client, deletion(chatbot, origin="api"), "which is not shortened")
    set_period(chatbot, 90, confirmed=0)
    for other in (deletion(chatbot, kind=Kind.EXPORT), first_run(chatbot)):
        refused(client, other, "It is neither a deletion nor a redaction.")


def test_nothing_starts_while_the_database_is_a_restored_one(chatbot, monkeypatch) -> None:
    """Its page is closed then; a call that was under way is refused."""
    request = redaction(chatbot)
    client = member(chatbot, Role.SUPPORT)
    monkeypatch.setattr("compliance.ledger.service.state", lambda: Service.State.OPEN)
    close()

    answer = press(client, request)

    assert answer.status_code == 409
    assert "Nothing starts before its replay." in answer.text
    assert left(request) == 15 * MINUTE


@pytest.mark.parametrize("make", [deletion, redaction])
def test_four_eyes_are_not_ended(chatbot: Chatbot, storage: Any, drain: Drain, make: Any) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(four_eyes=True)
    request = make(chatbot)
    client = member(chatbot, Role.OFFICER)
    assert "A second person still has to approve it" in text_of(client, request)

    press(client, request)
    drain()

    request.refresh_from_db()
    assert (request.status, request.hold_reason) == ("on_hold", "awaiting_approval")
    approve(request_id=request.pk, actor="user:1")
    drain()
    request.refresh_from_db()
    assert request.status == "completed"


@pytest.mark.parametrize("make", [deletion, redaction])
def test_what_is_approved_in_advance_is_carried_out(chatbot, storage, drain: Drain, make: Any) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(four_eyes=True)
    request = make(chatbot)
    approve(request_id=request.pk, actor="user:1")
    client = member(chatbot, Role.OFFICER)
    assert "A second person still has to approve it" not in text_of(client, request)

    press(client, request)
    drain()

    request.refresh_from_db()
    assert request.status == "completed"
