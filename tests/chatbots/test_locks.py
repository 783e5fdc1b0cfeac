"""Changes of a chatbot exclude decisions by its settings, and nothing at another chatbot."""

from collections.abc import Callable
from contextlib import suppress
from datetime import date, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction

from chatbots import changelog, locks
from chatbots.models import Bucket, BucketCredential, Chatbot
from chatbots.operations import chatbots, credentials
from chatbots.operations.buckets import set_bucket
from chatbots.operations.keys import create_callback_secret
from chatbots.operations.resolvers import remove_resolver, set_resolver
from common.storage import ObjectStorage
from compliance import worker
from compliance.models import ComplianceRequest
from compliance.retention import policy
from conversations.extracts import days
from tests.factories import conversation_of, export_of
from tests.functional.elsewhere import Elsewhere, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)


def _unless_refused(work: Callable[[], object]) -> None:
    """What locks first may find then that it cannot be done."""
    with suppress(ValidationError):
        work()


WORKS: dict[str, Callable[[Chatbot], object]] = {
    "change": lambda bot: chatbots.change_chatbot(chatbot=bot, changes={"timezone": "Europe/Paris"}, actor="test"),
    "declare": lambda bot: chatbots.add_variable(
        chatbot=bot, variable=chatbots.NewVariable("custom", "tariff"), actor="test"
    ),
    "designate": lambda bot: chatbots.designate_uci(chatbot=bot, name="member_id", actor="test"),
    "set bucket": lambda bot: set_bucket(chatbot=bot, client=None, actor="test"),
    "make secret": lambda bot: create_callback_secret(chatbot=bot, actor="test"),
    # It has no secret to sign with.
    "set resolver": lambda bot: _unless_refused(
        lambda: set_resolver(chatbot=bot, url="http://127.0.0.1:9/", send=["member_id"], actor="test")
    ),
    "remove resolver": lambda bot: remove_resolver(chatbot=bot, actor="test"),
    # It has no name.
    "insert credential": lambda bot: _unless_refused(lambda: credentials._insert(BucketCredential(chatbot=bot))),
    "count trial": lambda bot: changelog.record_if_few(
        "resolver.tried", chatbot=bot, actor="test", most=1, period=timedelta(minutes=1)
    ),
    "plan extracts": lambda bot: days.plan(bot.pk, date(2026, 1, 1), date(2026, 1, 2)),
    "set period": lambda bot: policy.change_period(chatbot=bot, days=90, actor="test", confirmed=0),
    "file run": lambda bot: policy._file_if_due(bot.pk, actor="test"),
}


@pytest.mark.long(reason="another connection waits for each operation", beyond=3)
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_it_waits_for_the_lock_of_its_chatbot_and_of_no_other(chatbot, neighbour, work) -> None:
    with transaction.atomic():
        locks.lock(chatbot.pk)
        waiting = Elsewhere(lambda: work(chatbot))
        Elsewhere(lambda: work(neighbour)).end()
        assert waiting.waits
    waiting.end()


@pytest.mark.parametrize(
    "decide",
    [
        lambda request: policy.lock_chatbot_of(request.pk),
        lambda request: policy.restore_period(request, actor="test"),
    ],
    ids=["begin", "set back"],
)
def test_a_decision_about_a_first_run_waits_for_the_lock_of_its_chatbot(chatbot, decide) -> None:
    policy.change_period(chatbot=chatbot, days=90, actor="test", confirmed=0)
    run = policy.waiting_first_run(chatbot)
    assert run
    request = run.request
    assert request
    with transaction.atomic():
        locks.lock(chatbot.pk)
        waiting = Elsewhere(lambda: transaction.atomic(decide)(request))
        assert waiting.waits
    waiting.end()


def test_exports_of_a_chatbot_do_not_wait_for_another(chatbot, neighbour, storage) -> None:
    Bucket.objects.get_or_create(chatbot=neighbour)
    conversation_of(neighbour, "42")
    filed = export_of(neighbour, "42")
    with transaction.atomic():
        locks.lock(chatbot.pk)
        Elsewhere(lambda: worker.drain(seconds=20)).end()
    assert ComplianceRequest.objects.get(pk=filed.pk).status == "completed"


def test_exports_of_a_chatbot_wait_for_its_lock(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """Two of one folder must not choose the same name at once."""
    conversation_of(chatbot, "42")
    filed = export_of(chatbot, "42")
    with transaction.atomic():
        locks.lock(chatbot.pk)
        waiting = Elsewhere(lambda: worker.drain(seconds=20))
        wait_until_blocked()
        assert waiting.waits
    waiting.end()
    assert ComplianceRequest.objects.get(pk=filed.pk).status == "completed"


def test_several_are_locked_in_the_order_of_their_ids(chatbot: Chatbot, neighbour: Chatbot) -> None:
    """A transaction that waits for the first has not locked the second."""
    first, second = sorted([chatbot.pk, neighbour.pk])
    with transaction.atomic():
        locks.lock(first)
        waiting = Elsewhere(lambda: _lock(second, first))
        assert waiting.waits
        Elsewhere(lambda: _lock(second)).end()
    waiting.end()


def _lock(*chatbot_ids: int) -> None:
    with transaction.atomic():
        locks.lock(*chatbot_ids)


def test_what_was_locked_is_read_as_it_is_then(chatbot: Chatbot) -> None:
    with transaction.atomic():
        locks.lock(chatbot.pk)
        reading = Elsewhere(lambda: _locked_name(chatbot))
        assert reading.waits
        Chatbot.objects.filter(pk=chatbot.pk).update(name="changed meanwhile")
    assert reading.end() == "changed meanwhile"


def _locked_name(chatbot: Chatbot) -> str:
    with transaction.atomic():
        return locks.locked(chatbot.pk).name
