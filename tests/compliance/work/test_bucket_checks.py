"""Checks of buckets, requested by a user and run by a worker."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from chatbots.buckets import Step
from chatbots.models import Bucket, BucketCheck, Chatbot
from chatbots.operations import buckets
from common import proc
from compliance import tasks
from compliance.work import bucket_checks
from tests import factories


def taken() -> BucketCheck:
    held = bucket_checks.take_next()
    assert held
    return held


def steps_of(chatbot: Chatbot) -> list[str]:
    return [step["name"] for step in BucketCheck.objects.get(chatbot=chatbot).steps]


def test_a_bucket_is_checked_once_at_a_time(chatbot: Chatbot, neighbour: Chatbot) -> None:
    for _ in range(2):
        bucket_checks.enqueue(chatbot=chatbot)
    held = taken()
    bucket_checks.enqueue(chatbot=chatbot)
    assert bucket_checks.take_next() is None
    bucket_checks.enqueue(chatbot=neighbour)
    assert bucket_checks.take_next(busy=[neighbour.pk]) is None
    assert [held.chatbot_id, taken().chatbot_id] == [chatbot.pk, neighbour.pk]


def test_each_step_can_be_seen_before_the_next(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def probe(_place: Any) -> Any:
        for name in ("write", "read"):
            yield Step(name, "s3:Something")
            seen.append(steps_of(chatbot))

    monkeypatch.setattr(buckets, "probe", probe)
    bucket_checks.enqueue(chatbot=chatbot)
    bucket_checks.run(taken())
    assert seen == [["write"], ["write", "read"]]
    check = bucket_checks.last(chatbot)
    assert check
    assert (check.finished_at is not None, check.error) == (True, "")


@pytest.fixture
def one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check is one step, which succeeds."""
    monkeypatch.setattr(buckets, "probe", lambda _place: iter([Step("write", "s3:PutObject")]))


def lease_ends() -> None:
    BucketCheck.objects.update(next_attempt_at=timezone.now())


def cluster_dies() -> None:
    assert not bucket_checks.is_any_waiting()
    tasks.requeue_from_cluster("another:7", None)
    assert bucket_checks.take_next() is None
    tasks.requeue_from_cluster(proc.cluster(), None)
    assert bucket_checks.is_any_waiting()


@pytest.mark.usefixtures("one_step")
@pytest.mark.parametrize("lose", [lease_ends, cluster_dies])
def test_a_lost_check_restarts_and_its_worker_writes_nothing(chatbot: Chatbot, lose: Callable[[], None]) -> None:
    bucket_checks.enqueue(chatbot=chatbot)
    lost = taken()
    lose()
    held = taken()
    bucket_checks.run(lost)
    assert steps_of(chatbot) == []
    bucket_checks.run(held)
    assert steps_of(chatbot) == ["write"]
    assert not bucket_checks.is_any_waiting()


def test_each_step_renews_the_lease(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(_place: Any) -> Any:
        lease_ends()
        yield Step("write", "s3:Something")
        assert bucket_checks.take_next() is None

    monkeypatch.setattr(buckets, "probe", probe)
    bucket_checks.enqueue(chatbot=chatbot)
    bucket_checks.run(taken())
    assert steps_of(chatbot) == ["write"]


@pytest.mark.usefixtures("one_step")
def test_an_ended_check_is_not_restarted(chatbot: Chatbot) -> None:
    bucket_checks.enqueue(chatbot=chatbot)
    held = taken()
    bucket_checks.run(held)
    before = BucketCheck.objects.values().get()
    tasks.requeue_from_cluster(proc.cluster(), None)
    held.release()
    assert BucketCheck.objects.values().get() == before
    assert bucket_checks.take_next() is None


@pytest.mark.usefixtures("one_step")
def test_results_for_another_bucket_are_not_shown(chatbot: Chatbot) -> None:
    bucket_checks.enqueue(chatbot=chatbot)
    Bucket.objects.filter(chatbot=chatbot).delete()
    bucket_checks.run(taken())
    assert str(getattr(bucket_checks.last(chatbot), "error", "")).startswith("This chatbot has no bucket.")
    buckets.set_bucket(chatbot=chatbot, client=None, actor="command")
    assert bucket_checks.last(chatbot) is None


def test_a_bucket_is_required() -> None:
    with pytest.raises(ValidationError, match="has no bucket"):
        bucket_checks.enqueue(chatbot=factories.ChatbotFactory.create())
