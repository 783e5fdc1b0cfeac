"""Conversations of an age, and the retention runs of a chatbot."""

from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.utils import timezone

from chatbots.models import Chatbot
from compliance import worker
from compliance.models import ComplianceRequest, RetentionRun
from compliance.retention import due, policy
from conversations.models import Conversation
from tests import factories
from tests.patches import before


def ago(days: float) -> datetime:
    return timezone.now() - timedelta(days=days)


def conversation_aged(chatbot: Chatbot, days: float, value: str = "42", **fields: Any) -> Conversation:
    """A conversation of a chatter with two messages, the last one so many days old."""
    at = ago(days)
    return factories.conversation_of(chatbot, value, **({"started_at": at, "last_message_at": at} | fields))


def keep_for(chatbot: Chatbot, days: int | None) -> None:
    """Set the period as if its first run were long over."""
    Chatbot.objects.filter(pk=chatbot.pk).update(retention_days=days, retention_set_at=ago(1))
    chatbot.refresh_from_db()


def file_run(chatbot: Chatbot, days: int = 90) -> ComplianceRequest:
    """File today's run of a chatbot with this period."""
    keep_for(chatbot, days)
    request = policy.file_run(chatbot, actor="command")
    assert request is not None
    return request


def run_of(request: ComplianceRequest) -> RetentionRun:
    return RetentionRun.objects.get(request=request)


def deleted(*conversations: Conversation) -> list[bool]:
    rows = Conversation.objects.in_bulk([one.pk for one in conversations])
    return [rows[one.pk].deleted_at is not None for one in conversations]


def period_of(chatbot: Chatbot) -> int | None:
    return Chatbot.objects.get(pk=chatbot.pk).retention_days


def set_period(chatbot: Chatbot, days: int | None, confirmed: int | None = None) -> None:
    policy.change_period(chatbot=chatbot, days=days, actor="user:7", confirmed=confirmed)


def first_run(chatbot: Chatbot) -> ComplianceRequest:
    run = policy.waiting_first_run(chatbot)
    assert run is not None
    assert run.request is not None
    return run.request


def begin_now(request: ComplianceRequest) -> None:
    """As if the day that a first run waits were over."""
    ComplianceRequest.objects.filter(pk=request.pk).update(not_before=ago(0))


def zone_where_it_is(*, hour: int) -> str:
    """Return a time zone in which it is about this hour now."""
    ahead = (hour - timezone.now().hour + 12) % 24 - 12
    # In these names east is negative.
    return f"Etc/GMT{-ahead:+d}"


def kill_at_the_second_slice() -> None:
    """Let a worker begin, which is killed as it is about to close the second slice."""
    calls = count(1)

    def die(*_: object, **__: object) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        before(patch, due, "close", die)
        with pytest.raises(KeyboardInterrupt):
            worker.drain(seconds=60)
