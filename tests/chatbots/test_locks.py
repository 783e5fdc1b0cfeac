"""Who changes a chatbot excludes whoever decides by its settings, and nobody at another chatbot."""

from contextlib import suppress
from datetime import date

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction

from chatbots import locks
from chatbots.models import Bucket, BucketCredential, Chatbot
from chatbots.operations import chatbots, credentials
from chatbots.operations.buckets import set_bucket
from chatbots.operations.keys import create_callback_secret
from chatbots.operations.resolvers import remove_resolver, set_resolver
from common.storage import ObjectStorage
from compliance import worker
from compliance.lookups import trial
from compliance.models import ComplianceRequest
from compliance.retention import policy
from conversations.extracts import days
from tests.factories import conversation_of, export_of
from tests.functional.elsewhere import Elsewhere, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)


def _change(chatbot: Chatbot) -> None:
    chatbots.change_chatbot(chatbot=chatbot, changes={"timezone": "Europe/Paris"}, actor="test")


def _plan(chatbot: Chatbot) -> None:
    days.plan(chatbot, date(2026, 1, 1), date(2026, 1, 2))


def _set_period(chatbot: Chatbot) -> None:
    policy.change_period(chatbot=chatbot, days=90, actor="test", confirmed=0)


def _declare(chatbot: Chatbot) -> None:
    chatbots.add_variable(chatbot=chatbot, variable=chatbots.NewVariable("custom", "tariff"), actor="test")


def _designate(chatbot: Chatbot) -> None:
    chatbots.designate_uci(chatbot=chatbot, name="member_id", actor="test")


def _set_bucket(chatbot: Chatbot) -> None:
    set_bucket(chatbot=chatbot, client=None, actor="test")


def _make_secret(chatbot: Chatbot) -> None:
    create_callback_secret(chatbot=chatbot, actor="test")


def _remove_resolver(chatbot: Chatbot) -> None:
    remove_resolver(chatbot=chatbot, actor="test")


def _set_resolver(chatbot: Chatbot) -> None:
    with suppress(ValidationError):  # it has no secret to sign with
        set_resolver(chatbot=chatbot, url="http://127.0.0.1:9/", send=["member_id"], actor="test")


def _insert_credential(chatbot: Chatbot) -> None:
    with suppress(ValidationError):  # it has no name
        credentials._insert(BucketCredential(chatbot=chatbot))


def _file_run(chatbot: Chatbot) -> None:
    policy._file_if_due(chatbot.pk, actor="test")


def _count_trial(chatbot: Chatbot) -> None:
    trial._count(chatbot, "test")


@pytest.mark.long(reason="another connection waits for each operation", beyond=3)
@pytest.mark.parametrize(
    "work",
    [
        _change,
        _declare,
        _designate,
        _set_bucket,
        _make_secret,
        _set_resolver,
        _remove_resolver,
        _insert_credential,
        _count_trial,
        _plan,
        _set_period,
        _file_run,
    ],
)
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
        lambda request: policy.set_back(request, actor="test"),
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
    """Whoever waits for the first has not locked the second."""
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
