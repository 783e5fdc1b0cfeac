"""A silent storage: which work tries it again, and when its state is removed."""

from datetime import timedelta

import pytest
from django.utils import timezone

from chatbots.buckets import hosted_storage
from chatbots.models import Bucket, Chatbot, SilentStorage
from common.storage import ObjectStorage
from compliance import worker
from compliance.ledger import tripwire
from compliance.models import ComplianceRequest
from compliance.retention import cleanup
from compliance.work import health
from compliance.work.background import BackgroundJobs
from tests import factories
from tests.factories import deletion_of, export_of

Status = ComplianceRequest.Status
MINUTE = timedelta(minutes=1)
PATIENCE = 30

pytestmark = pytest.mark.django_db(transaction=True)


def silent(chatbot: Chatbot | None, *, rests: timedelta, since: timedelta = timedelta()) -> SilentStorage:
    now = timezone.now()
    return SilentStorage.objects.create(chatbot=chatbot, since=now - since, rests_until=now + rests)


def at_client(chatbot: Chatbot) -> Chatbot:
    Bucket.objects.filter(chatbot=chatbot).update(
        hosting="client", bucket=chatbot.slug, region="us-east-1", access_key_id="key", secret_encrypted="unused"
    )
    return chatbot


def test_exports_alone_detect_that_the_hosted_bucket_responds_again(chatbot: Chatbot, storage: ObjectStorage) -> None:
    silent(None, rests=-timedelta(seconds=1))
    export = export_of(chatbot, "42")
    worker.drain()
    export.refresh_from_db()
    assert (export.status, export.attempts) == (Status.COMPLETED, 0)
    assert not SilentStorage.objects.exists()


def test_no_export_is_claimed_while_the_storage_is_paused(chatbot: Chatbot, storage: ObjectStorage) -> None:
    # State of earlier tests in this process must not count.
    hosted_storage().calls.breaker.reset()
    silent(None, rests=MINUTE)
    export = export_of(chatbot, "42")
    worker.drain()
    hosted_storage().calls.breaker.reset()
    export.refresh_from_db()
    assert (export.status, export.error_code) == (Status.ACCEPTED, "")


def test_a_sweep_detects_a_recovered_storage_and_notifies_workers(chatbot: Chatbot, storage: ObjectStorage) -> None:
    silent(None, rests=-timedelta(seconds=1))
    background = BackgroundJobs(lambda: None)
    worker.sweep(background)
    assert background.wait(PATIENCE)
    assert not SilentStorage.objects.exists()


def test_a_sweep_that_ends_with_an_error_leaves_a_recovered_storage_to_others(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that nothing but the sweep's thread would call the storage.
    assert tripwire.look_if_due()
    hosted_storage().calls.breaker.reset()
    known = silent(None, rests=-timedelta(seconds=1))

    def fail(**_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(cleanup, "remove_expired", fail)
    background = BackgroundJobs(lambda: None)
    worker.sweep(background)
    assert background.wait(PATIENCE)
    known.refresh_from_db()
    assert known.rests_until is not None
    assert known.rests_until <= timezone.now()


@pytest.mark.parametrize("hosting", ["hosted", "client"])
def test_workers_are_notified_once_the_pause_ends_and_requests_wait(chatbot: Chatbot, hosting: str) -> None:
    known = silent(at_client(chatbot) if hosting == "client" else None, rests=MINUTE)
    assert not health.is_anything_due()
    export = export_of(chatbot, "42")
    assert not health.is_anything_due()
    SilentStorage.objects.filter(pk=known.pk).update(rests_until=timezone.now())
    assert health.is_anything_due()
    assert health.oldest_waiting() is None, "it is told as a silent storage, not as work that waits"
    export.delete()
    assert not health.is_anything_due()


def test_the_state_of_an_unused_storage_is_removed_after_a_while(chatbot: Chatbot) -> None:
    unused, waited_for, resting = (at_client(factories.ready_chatbot(slug=slug)) for slug in ("one", "two", "three"))
    for each, rests in ((unused, -11 * MINUTE), (waited_for, -11 * MINUTE), (resting, -5 * MINUTE)):
        silent(each, rests=rests)
    deletion_of(waited_for, "42", lane="client", not_before=timezone.now() + MINUTE)
    background = BackgroundJobs(lambda: None)
    worker.sweep(background)
    # Otherwise its thread would try the hosted bucket during the next test.
    assert background.wait(PATIENCE)
    assert set(SilentStorage.objects.values_list("chatbot", flat=True)) == {waited_for.pk, resting.pk}
