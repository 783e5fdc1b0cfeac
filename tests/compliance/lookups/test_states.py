"""What operators see of resolvers: `health`, metrics, and what expires."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from chatbots.models import Chatbot, Resolver
from chatbots.operations.chatbots import change_chatbot, designate_uci
from compliance.lookups.dispatcher import look_up
from compliance.retention.cleanup import count_expired, remove_expired
from compliance.work import health
from compliance.work.health import Code
from conversations.models import IdentityLookup
from tests.looking_up import begin, with_resolver
from tests.receivers import Receiver

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
RESOLVERS = {Code.RESOLVER_OFF, Code.RESOLVER_FAILING, Code.LOOKUPS_WAIT}


def problems(*chatbots: Chatbot) -> dict[Code, str]:
    found = health.check(chatbots=[one.pk for one in chatbots] or None).problems
    return {problem.code: problem.detail for problem in found if problem.code in RESOLVERS}


def test_health_says_that_a_resolver_fails(chatbot: Chatbot, neighbour: Chatbot, secret: str) -> None:
    since = timezone.now()
    Resolver.objects.update(called_at=since, failing_since=since - HOUR / 2, last_error="bad_status")
    assert problems() == {}
    Resolver.objects.update(failing_since=since - 2 * HOUR)
    assert set(problems()) == {Code.RESOLVER_FAILING}
    assert "acme" in problems()[Code.RESOLVER_FAILING]
    assert "127.0.0.1" not in problems()[Code.RESOLVER_FAILING]
    assert problems(neighbour) == {}
    Resolver.objects.update(called_at=since - 3 * HOUR)  # nothing has come since
    assert problems() == {}
    Resolver.objects.update(called_at=since)
    change_chatbot(chatbot=chatbot, actor="test", changes={"compliance_enabled": False})
    assert problems() == {}


def test_health_says_that_look_ups_wait_or_that_a_resolver_is_off(chatbot: Chatbot, secret: str) -> None:
    begin(chatbot, "c-1")
    assert problems() == {}
    IdentityLookup.objects.update(queued_at=timezone.now() - 2 * HOUR)
    assert set(problems()) == {Code.LOOKUPS_WAIT}
    designate_uci(chatbot=chatbot, name="plan", actor="test")
    assert set(problems()) == {Code.RESOLVER_OFF}


def test_metrics_count_look_ups(
    chatbot: Chatbot, neighbour: Chatbot, receiver: Receiver, secret: str, settings: Settings
) -> None:
    settings.METRICS_TOKEN = "t" * 32
    receiver.answers = [404, 200]
    begin(chatbot, "c-1")
    look_up()
    begin(chatbot, "c-2")
    look_up()
    begin(chatbot, "c-3", "c-4")
    with_resolver(neighbour, receiver.url())
    begin(neighbour, "c-1")
    IdentityLookup.objects.filter(state="pending").update(queued_at=timezone.now() - timedelta(minutes=5))

    text = Client().get("/metrics", headers={"Authorization": "Bearer " + "t" * 32}).content.decode()

    series = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("dca_identity_lookups"))
    states = ("pending", "resolved", "unknown", "failed")
    assert [float(series[f'dca_identity_lookups{{state="{state}"}}']) for state in states] == [3, 1, 1, 0]
    assert 300 <= float(series["dca_identity_lookups_oldest_seconds"]) < 400


def test_look_ups_expire_some_days_after_they_ended(chatbot: Chatbot, secret: str) -> None:
    begin(chatbot, "c-1", "c-2")
    look_up()
    assert count_expired()["identity_lookups"] == 0
    ended = IdentityLookup.objects.earliest("pk")
    IdentityLookup.objects.filter(pk=ended.pk).update(expires_at=timezone.now() - HOUR)
    assert count_expired()["identity_lookups"] == 1
    remove_expired()
    assert IdentityLookup.objects.get().pk != ended.pk
