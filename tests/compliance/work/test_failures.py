"""Failures: which requests lose attempts, which continue, and the errors."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from chatbots.models import ChangeLogEntry
from common.logs import SafeFormatter
from common.storage import ObjectStorage, StorageError
from common.storage.removal import Removal
from compliance import worker
from compliance.erasure import engine, verify
from compliance.ledger import journal
from compliance.models import Claim, ComplianceRequest
from compliance.requests import decisions
from compliance.work import claims
from console.requests.history import timeline
from conversations.intake import store
from conversations.models import Conversation, Message
from tests import factories
from tests.conversations.documents import parsed, update
from tests.factories import conversation_of, deletion_of
from tests.patches import after, before, failing, once
from tests.under_roles import role

Status = ComplianceRequest.Status
Kind = ComplianceRequest.Kind
Lane = ComplianceRequest.Lane

pytestmark = pytest.mark.django_db(transaction=True)


def end_back_offs() -> None:
    """Simulate the end of the back-off."""
    ComplianceRequest.objects.filter(status=Status.ACCEPTED).update(not_before=None)


@pytest.fixture
def poison() -> Iterator[str]:
    """A text whose message the database refuses to delete."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE FUNCTION refuse_poison() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'cannot delete %', OLD.text; END $$;
            CREATE TRIGGER poison BEFORE DELETE ON conversations_message
                FOR EACH ROW WHEN (OLD.text = 'poison') EXECUTE FUNCTION refuse_poison();
            """
        )
        yield "poison"
        cursor.execute("DROP TRIGGER poison ON conversations_message; DROP FUNCTION refuse_poison()")


@pytest.mark.one_postgresql(reason="a trigger of the test on messages")
@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize(
    "sizes",
    [
        [26, 22, 4],
        pytest.param([500, *[22] * 22, 16], marks=pytest.mark.long(reason="500 requests, with the attempts of one")),
    ],
)
def test_a_poison_request_costs_other_requests_no_attempt(chatbot, poison, caplog, monkeypatch, sizes) -> None:
    """Of 500 requests each would else be tried alone."""
    claimed: list[int] = []
    before(monkeypatch, engine, "run", lambda held, *_, **__: claimed.append(len(held.request_ids)))
    conversation_of(chatbot, "poisoned", text=poison)
    for number in range(sizes[0] - 1):
        conversation_of(chatbot, str(number))
        deletion_of(chatbot, str(number))
    bad = deletion_of(chatbot, "poisoned")

    for _ in range(claims.MAX_ATTEMPTS):
        worker.drain(seconds=600)
        end_back_offs()

    innocent = ComplianceRequest.objects.exclude(pk=bad.pk)
    assert set(innocent.values_list("status", "attempts")) == {(Status.COMPLETED, 0)}
    bad.refresh_from_db()
    assert (bad.status, bad.error_code, bad.attempts) == (Status.FAILED, "internal_error", 5)
    assert "SQLSTATE P0001" in bad.error_detail
    assert "cannot delete" not in bad.error_detail + caplog.text
    assert not Claim.objects.exists()
    assert [size for size in claimed if size > 1] == sizes
    assert claimed.count(1) == sizes[-1] - 1 + bad.attempts


@pytest.mark.usefixtures("refused_at_once")
def test_a_document_does_not_move_a_new_conversation_before_a_deletion_that_goes_on(chatbot, storage, monkeypatch):
    stored = [parsed("old"), parsed("new", started_at=(timezone.now() + timedelta(hours=1)).isoformat())]
    store(chatbot=chatbot, documents=stored[:1])
    request = deletion_of(chatbot, "42")

    def denied_once_marked(self: ObjectStorage, *args: Any, **options: Any) -> None:
        if not ComplianceRequest.objects.filter(pk=request.pk, cutoff_at=None).exists():
            raise StorageError("storage_access_denied", "The access key needs s3:PutObject.")

    before(monkeypatch, ObjectStorage, "put", denied_once_marked)
    worker.drain(seconds=60)
    request.refresh_from_db()
    assert request.status == Status.FAILED
    monkeypatch.undo()

    moving = update("new", started_at="2026-11-01T09:00:00Z")
    assert [one.outcome for one in store(chatbot=chatbot, documents=[stored[1], moving])] == ["created", "unchanged"]
    decisions.retry(request_id=request.pk, actor="command")
    worker.drain(seconds=60)

    request.refresh_from_db()
    assert (request.status, request.error_code, request.conversations) == (Status.COMPLETED, "", 1)
    assert Conversation.objects.get(deleted_at=None).external_id == "new"


def test_a_verification_that_finds_something_fails_the_deletion(chatbot, storage, monkeypatch) -> None:
    conversation_of(chatbot, "42")
    request = deletion_of(chatbot, "42")

    @role("owner")
    def something_comes_back(request_ids, **options):
        conversation = Conversation.objects.get(deletion_request_id__isnull=False)
        factories.MessageFactory.create(conversation=conversation, text="back from the dead")

    before(monkeypatch, verify, "verify", something_comes_back)
    worker.drain(seconds=60)

    request.refresh_from_db()
    assert (request.status, request.error_code) == (Status.ACCEPTED, "erasure_incomplete")
    assert request.error_detail == "Verification still found rows: 1 in conversations_message."
    assert request.uci_value == "42"


def test_an_expired_claim_is_an_attempt_and_the_fifth_a_failure(chatbot) -> None:
    request = deletion_of(chatbot, "42")
    for attempt in range(1, claims.MAX_ATTEMPTS + 1):
        assert claims.take(Kind.DELETION, Lane(request.lane))
        Claim.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        claims.requeue_expired()
        request.refresh_from_db()
        assert (request.attempts, request.lane, request.claim) == (attempt, "isolated", None)

    assert (request.status, request.error_code) == (Status.FAILED, "worker_lost")
    log = ChangeLogEntry.objects.filter(request_id=request.pk).order_by("pk").values_list("event", "data")
    assert list(log) == [
        *(("request.requeued", {"code": "worker_lost", "attempts": lost}) for lost in range(1, 5)),
        ("request.failed", {"code": "worker_lost", "attempts": 5}),
    ]


def test_requests_of_a_lost_claim_run_with_fewer_others_then_alone_and_lose_no_attempt(chatbot) -> None:
    lost = [deletion_of(chatbot, f"{number}").pk for number in range(23)]

    def taken(lane: Lane) -> list[UUID]:
        held = claims.take(Kind.DELETION, lane)
        return list(held.request_ids) if held else []

    def lose() -> None:
        Claim.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        claims.requeue_expired()

    assert taken(Lane.NORMAL) == lost
    lose()
    fresh = deletion_of(chatbot, "new").pk
    assert [taken(Lane.NORMAL), taken(Lane.SPLIT), taken(Lane.SPLIT)] == [[fresh], lost[:22], lost[22:]]
    Claim.objects.exclude(requests=lost[0]).delete()
    lose()
    assert [taken(Lane.ISOLATED) for _ in range(3)] == [[one] for one in lost[:3]]
    requests = ComplianceRequest.objects.filter(pk__in=lost[:22])
    assert set(requests.values_list("attempts", "error_code", "error_detail")) == {(0, "", "")}
    codes = ChangeLogEntry.objects.filter(event="request.requeued").values_list("data__code", "data__attempts")
    assert set(codes) == {("claim_lost", 0)}
    entry = ChangeLogEntry.objects.filter(event="request.requeued").latest("pk")
    assert "without losing an attempt" in timeline(entry.request_id)[0].detail


def test_an_error_is_logged_with_frames_and_without_content(chatbot, storage, monkeypatch, caplog) -> None:
    conversation_of(chatbot, "42")
    deletion_of(chatbot, "42")
    monkeypatch.setattr(engine, "run", failing(KeyError("42".rjust(8, "_"))))

    with caplog.at_level(logging.ERROR):
        worker.drain(seconds=60)

    (record,) = [record for record in caplog.records if record.name == "compliance.worker"]
    logged = SafeFormatter().format(record)
    assert "claim.failed" in logged
    assert "KeyError" in logged
    assert "______42" not in logged
    assert Message.objects.count() == 2


def test_a_deletion_that_failed_after_a_later_mark_can_still_be_retried(chatbot, storage, monkeypatch) -> None:
    first = deletion_of(chatbot, "42", not_before=timezone.now() + timedelta(hours=1))
    ComplianceRequest.objects.filter(pk=first.pk).update(status=Status.FAILED, failed_at=Now(), error_code="x")
    second = deletion_of(chatbot, "42")

    @role("owner")
    def the_first_fails_again(erased) -> None:
        later = conversation_of(chatbot, "42", started_at=timezone.now())
        failed = ComplianceRequest.objects.filter(pk=first.pk)
        failed.update(failed_at=Now(), cutoff_at=Now(), cutoff_number=later.pk)

    before(monkeypatch, journal, "conclude", the_first_fails_again)
    worker.drain(seconds=60)

    first.refresh_from_db()
    second.refresh_from_db()
    assert second.status == Status.COMPLETED
    assert decisions.is_retryable(first)


def test_an_object_that_two_sweeps_remove_is_counted_once(chatbot, storage, monkeypatch) -> None:
    request = deletion_of(chatbot, "42")
    worker.drain(seconds=60)
    conversation = conversation_of(chatbot, "42", deletion_request_id=request.pk)
    factories.UploadedFileFactory.create(conversation=conversation, object_key="uploads/1/a", stored=True)

    def sweep_first(*_: object) -> None:
        worker.sweep()
        connection.close()  # this is a separate thread

    before(monkeypatch, Removal, "purge_many", once(sweep_first))
    worker.sweep()

    request.refresh_from_db()
    assert request.files == 1


def test_a_long_error_is_cut_to_the_column(chatbot, storage, monkeypatch) -> None:
    request = deletion_of(chatbot, "42")
    monkeypatch.setattr(engine, "run", failing(type("E" * 1000, (Exception,), {})))
    worker.drain(seconds=60)

    request.refresh_from_db()
    assert (request.error_code, request.attempts, len(request.error_detail)) == ("internal_error", 1, 500)


def test_a_steady_flow_does_not_starve_isolated_requests(chatbot, storage, monkeypatch) -> None:
    alone = deletion_of(chatbot, "42", lane="isolated")
    deletion_of(chatbot, "0")
    done: list[UUID] = []

    def another_comes(held: claims.HeldClaim, *_: object, **__: object) -> None:
        done.extend(held.request_ids)
        if len(done) < 5:
            deletion_of(chatbot, f"flow-{len(done)}")

    after(monkeypatch, engine, "run", another_comes)
    worker.drain(seconds=60)

    assert alone.pk in done[:3]
