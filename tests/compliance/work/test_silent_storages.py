"""Storage that refuses or is silent: which requests lose attempts, and which wait without keeping a worker."""

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from chatbots.buckets import hosted_storage, silence
from chatbots.models import ChangeLogEntry, Chatbot, SilentStorage
from common import leases
from common.storage import ObjectStorage, StorageError, errors
from common.storage.breaker import FAILURES
from common.storage.removal import Removal, Removed
from compliance import worker
from compliance.cluster.background import BackgroundJobs
from compliance.ledger import tripwire
from compliance.models import ComplianceRequest
from compliance.retention import expiry
from compliance.work import bucket_checks, claims, health
from compliance.work.transitions import requeue
from tests import factories
from tests.clients import use_bucket_at
from tests.compliance.work.test_failures import end_back_offs
from tests.factories import conversation_of, deletion_of, export_of
from tests.functional.elsewhere import Elsewhere
from tests.patches import before, failing

Status = ComplianceRequest.Status
MINUTE = timedelta(minutes=1)
PATIENCE = 30

pytestmark = pytest.mark.django_db(transaction=True)


def silent(chatbot: Chatbot | None, *, rests: timedelta, since: timedelta = timedelta()) -> SilentStorage:
    now = timezone.now()
    return SilentStorage.objects.create(chatbot=chatbot, since=now - since, rests_until=now + rests)


def at_client(chatbot: Chatbot) -> Chatbot:
    use_bucket_at(chatbot, "")
    return chatbot


def test_a_sweep_detects_a_recovered_storage_and_notifies_workers(chatbot: Chatbot, storage: ObjectStorage) -> None:
    silent(None, rests=-timedelta(seconds=1))
    background = BackgroundJobs(lambda: None)
    worker.sweep(background)
    assert background.wait(PATIENCE)
    assert not SilentStorage.objects.exists()


def test_a_sweep_that_ends_with_an_error_leaves_a_recovered_storage_to_others(chatbot, storage, monkeypatch) -> None:
    # So that nothing but the sweep's thread would call the storage.
    assert tripwire.check_if_due()
    bucket_checks.check_hosted_if_due()
    hosted_storage().calls.breaker.reset()
    known = silent(None, rests=-timedelta(seconds=1))

    monkeypatch.setattr(expiry, "remove_expired", failing(RuntimeError))
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


def test_a_paused_storage_costs_no_attempt_and_one_log_line(chatbot, storage, settings) -> None:
    factories.UploadedFileFactory.create(conversation=conversation_of(chatbot, "42"))
    conversation_of(chatbot, "43")
    requests = [deletion_of(chatbot, "42"), export_of(chatbot, "43")]
    endpoint = settings.S3_ENDPOINT_URL
    settings.S3_ENDPOINT_URL = "http://127.0.0.1:9"
    # Another test of this process may just have found that no server listens there.
    hosted_storage().calls.breaker.reset()
    for _ in range(FAILURES):
        with pytest.raises(StorageError, match="storage_unavailable"):
            hosted_storage().exists("anything")

    began = time.monotonic()
    for _ in range(3):
        worker.drain(seconds=60)
        for request in requests:
            request.refresh_from_db()
        assert [(request.status, request.attempts) for request in requests] == [(Status.ACCEPTED, 0)] * 2
        # No part of an export can run, so it is not claimed.
        assert [request.error_code for request in requests] == ["storage_resting", ""]
        assert timedelta() < requests[0].not_before - timezone.now() < timedelta(minutes=1)
        ComplianceRequest.objects.update(not_before=None)
    # At once: else each would take its 60 seconds. The machine may have other things to do.
    assert time.monotonic() - began < 30
    given_back = ChangeLogEntry.objects.filter(event="request.requeued")
    assert [(entry.request_id, entry.data) for entry in given_back] == [
        (requests[0].pk, {"code": "storage_resting", "attempts": 0})
    ]

    settings.S3_ENDPOINT_URL = endpoint
    # Simulate the passing of some time.
    SilentStorage.objects.update(rests_until=timezone.now())
    worker.drain(seconds=60)
    for request in requests:
        request.refresh_from_db()
        assert (request.status, request.error_code) == (Status.COMPLETED, "")
    assert not SilentStorage.objects.exists()


def test_a_worker_without_work_does_not_keep_others_from_a_storage_that_is_back(chatbot, storage, monkeypatch):
    conversation_of(chatbot, "43")
    silent = SilentStorage.objects.create(rests_until=timezone.now())
    # Nothing calls the storage.
    worker.drain(seconds=60)
    silent.refresh_from_db()
    assert silent.rests_until is not None
    assert silent.rests_until <= timezone.now()

    # Nor if it ends with an error before that.
    with monkeypatch.context() as patch:
        patch.setattr(requeue, "release_export_pending", failing(RuntimeError))
        with pytest.raises(RuntimeError):
            worker.drain(seconds=60)
    silent.refresh_from_db()
    assert silent.rests_until <= timezone.now()

    # Another process, which has seen that the storage is silent.
    hosted_storage().calls.breaker.open_for(60)
    export = export_of(chatbot, "43")
    worker.drain(seconds=60)
    export.refresh_from_db()
    assert (export.status, export.attempts) == (Status.COMPLETED, 0)
    assert not SilentStorage.objects.exists()


def test_a_thread_does_not_give_away_what_another_is_to_try(chatbot: Chatbot, storage: ObjectStorage) -> None:
    silent = SilentStorage.objects.create(rests_until=timezone.now())
    silence.share_hosted()

    def go_by() -> None:
        silence.share_hosted()
        silence.record_hosted()

    Elsewhere(go_by).end()
    silent.refresh_from_db()
    assert silent.rests_until is not None
    assert silent.rests_until > timezone.now()

    assert not hosted_storage().exists("anything")
    silence.record_hosted()
    assert not SilentStorage.objects.exists()


def test_a_trial_that_is_given_away_ends_no_other_rest(chatbot: Chatbot, storage: ObjectStorage) -> None:
    silent = SilentStorage.objects.create(rests_until=timezone.now())
    silence.share_hosted()
    # Another process has had no answer.
    rest = timezone.now() + timedelta(minutes=5)
    SilentStorage.objects.update(rests_until=rest)
    silence.record_hosted()
    silent.refresh_from_db()
    assert silent.rests_until == rest


def waits_of(request: ComplianceRequest, times: int) -> list[int]:
    """Have a request tried so many times; return how long it waits after each, in units of five seconds."""
    waits = []
    for _ in range(times):
        worker.drain(seconds=60)
        request.refresh_from_db()
        assert request.status == Status.ACCEPTED
        assert request.not_before
        waits.append(round((request.not_before - timezone.now()).total_seconds() / 5))
        end_back_offs()
    return waits


@pytest.mark.parametrize(
    ("error", "expected"),
    [(errors.unavailable(), [1, 2, 24, 480]), (errors.denied("s3:PutObject"), [1, 2, 24])],
    ids=["silent", "refused"],
)
def test_a_refusal_that_stays_is_tried_later_each_time_and_fails_at_the_last(
    chatbot, storage, monkeypatch, error, expected
) -> None:
    request = deletion_of(chatbot, "42")

    monkeypatch.setattr(ObjectStorage, "put", failing(error))
    waits = waits_of(request, len(expected))
    worker.drain(seconds=60)

    request.refresh_from_db()
    assert waits == expected
    assert (request.status, request.error_code, request.attempts) == (Status.FAILED, error.code, len(expected) + 1)
    events = ChangeLogEntry.objects.filter(request_id=request.pk).order_by("pk").values_list("event", flat=True)
    assert list(events) == [*["request.requeued"] * len(expected), "request.failed"]


def test_a_short_refusal_fails_no_request(chatbot, storage, monkeypatch) -> None:
    request = export_of(chatbot, "42")
    refusals = iter([errors.denied("s3:PutObject"), errors.from_code("NoSuchBucket", operation="PutObject")])

    def refusing(*args: object, **options: object) -> None:
        if refusal := next(refusals, None):
            raise refusal

    before(monkeypatch, ObjectStorage, "open_upload", refusing)
    waits = waits_of(request, 2)
    worker.drain(seconds=60)

    request.refresh_from_db()
    assert (waits, request.status, request.error_code) == ([1, 2], Status.COMPLETED, "")


def test_a_storage_that_is_slow_to_refuse_does_not_lose_the_claim(chatbot, storage, monkeypatch) -> None:
    for value in ("42", "43", "44"):
        conversation = conversation_of(chatbot, value)
        factories.UploadedFileFactory.create(conversation=conversation, object_key=f"uploads/1/{value}")
        deletion_of(chatbot, value)
    monkeypatch.setattr(leases, "SECONDS_BETWEEN_RENEWALS", 0.02)
    kept: list[int] = []
    before(monkeypatch, claims.HeldClaim, "_lock", lambda self: kept.append(self.id))

    def slow(self: Removal, keys: list[str]) -> Removed:
        so_far = len(kept)
        time.sleep(0.3)
        assert len(kept) > so_far + 3
        return Removed(failed={key: errors.unavailable() for key in keys})

    monkeypatch.setattr(Removal, "purge_many", slow)
    worker.drain(seconds=60)

    assert set(ComplianceRequest.objects.values_list("error_code", "attempts")) == {("storage_unavailable", 1)}
