"""Expired extract files that the storage refuses to remove."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from chatbots.models import Chatbot
from common.storage import ObjectStorage, StorageError
from compliance import worker
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from compliance.work import bucket_checks
from conversations.extracts import days
from conversations.models import DailyExtract
from tests.extracting import FIRST, conversation_on, extract_of, make_all, noon, planned
from tests.factories import deletion_of
from tests.patches import failing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("refused_at_once")]

HOUR = timedelta(hours=1)


def _expire() -> None:
    DailyExtract.objects.update(expires_at=timezone.now() - HOUR)


def _go_on() -> None:
    """Run a sweep and the workers, as if all waits had ended."""
    DailyExtract.objects.update(next_attempt_at=timezone.now())
    ComplianceRequest.objects.update(not_before=None)
    worker.sweep()
    assert not worker.drain()


def test_a_deletion_fails_if_an_expired_file_cannot_be_removed(chatbot, storage, monkeypatch) -> None:
    conversation_on(chatbot, "alice", noon())
    planned(chatbot)
    make_all()
    _expire()
    request = deletion_of(chatbot, "alice")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStorage, "purge", failing(StorageError("storage_locked", "An object lock forbids it.")))
        assert not worker.drain()
        request.refresh_from_db()
        assert request.status == "accepted"
        _go_on()
    request.refresh_from_db()
    assert (request.status, request.error_code) == ("failed", "storage_locked")
    assert extract_of(chatbot).key

    decisions.retry(request_id=request.pk, actor="command")
    _go_on()
    request.refresh_from_db()
    assert request.status == "completed"
    assert (extract_of(chatbot).state, extract_of(chatbot).error_code) == ("expired", "")
    assert list(storage.keys("acme/daily")) == []


def test_an_expired_file_that_cannot_be_removed_has_an_error(chatbot, storage, monkeypatch) -> None:
    """A storage that may be back soon fails nothing."""
    planned(chatbot)
    make_all()
    _expire()
    bucket_checks.check_hosted_if_due()  # so that the sweep removes nothing else
    refusals = [StorageError("storage_locked", "An object lock forbids it."), StorageError("x", "Busy.", True)]

    def refuse(*_args: Any) -> None:
        raise refusals.pop()

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStorage, "purge", refuse)
        DailyExtract.objects.update(state="stale", stale_at=timezone.now())
        worker.sweep()
        waiting = extract_of(chatbot)
        assert (waiting.state, waiting.error_code) == ("stale", "x")
        DailyExtract.objects.update(state="done", next_attempt_at=timezone.now())
        worker.sweep()
    refused = extract_of(chatbot)
    assert (refused.state, refused.error_code, refused.token) == ("done", "storage_locked", None)
    assert refused.next_attempt_at > timezone.now()
    worker.sweep()
    assert extract_of(chatbot).state == "done"


def test_files_published_by_a_failed_day_expire(chatbot, storage, monkeypatch) -> None:
    """The file was published; then the storage refused to list its older versions."""
    conversation_on(chatbot, "alice", noon())
    planned(chatbot)

    monkeypatch.setattr(
        ObjectStorage,
        "purge_older",
        failing(StorageError("storage_access_denied", "Grant it s3:ListBucketVersions.")),
    )
    make_all()
    failed = extract_of(chatbot)
    assert (failed.state, failed.rows) == ("failed", None)
    assert storage.exists(str(failed.key))
    assert failed.expires_at
    _expire()
    DailyExtract.objects.update(next_attempt_at=timezone.now())
    worker.sweep()
    assert not storage.exists(str(failed.key))
    assert (extract_of(chatbot).state, extract_of(chatbot).key) == ("expired", None)


def test_an_extract_to_be_removed_first_cannot_be_rebuilt(chatbot: Chatbot, storage: ObjectStorage) -> None:
    planned(chatbot)
    make_all()
    _expire()
    order = {"chatbot_id": chatbot.pk, "days": [FIRST], "states": days.SETTLED, "actor": "command"}
    assert days.order(**order) == []
    worker.sweep()
    assert days.order(**order) == [FIRST]
    assert make_all() == 1
    assert extract_of(chatbot).state == "done"
