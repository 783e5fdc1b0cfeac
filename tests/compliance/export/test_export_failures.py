"""Exports that are interrupted, overtaken or refused: what remains, and which worker may publish."""

from collections.abc import Generator, Iterable
from datetime import timedelta

import psycopg
import pytest
from django.db import OperationalError, connection
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import Settings

from chatbots.models import Chatbot
from common import leases
from common.storage import ObjectStorage
from compliance.errors import ClaimLost
from compliance.export.delivery import Delivery
from compliance.export.records import export_key
from compliance.models import Claim, ComplianceRequest, Export
from compliance.work.claims import HeldClaim
from conversations.locks import LOCK_SPACE
from conversations.transcripts import TranscriptPiece, Transcripts
from tests import factories
from tests.compliance.exporting import (
    AT,
    COMPLETED,
    carry_out,
    committed,
    export_of_request,
    exported,
    is_empty,
    lose,
    open_uploads,
    outcome,
    patch_count,
    patch_pieces,
    taken,
)
from tests.patches import after, before, failing, once

pytestmark = committed


def break_reader(doing: str = "state LIKE 'idle in transaction%'") -> None:
    """End the database session that reads the snapshot."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            f" WHERE datname = current_database() AND pid <> pg_backend_pid() AND {doing}"
        )
        assert cursor.fetchall() == [(True,)]


@pytest.mark.long(reason="an export for each kind of interruption", beyond=1)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_it_leaves_nothing_visible_when_it_is_interrupted(chatbot, storage, monkeypatch, error) -> None:
    patch_pieces(monkeypatch, failing(error))
    with pytest.raises(error):
        exported(chatbot)
    assert is_empty(storage)
    assert Export.objects.get().finished_at is None


@pytest.mark.usefixtures("refused_at_once")
def test_a_storage_failure_fails_an_export_with_a_clear_error(chatbot: Chatbot, settings: Settings) -> None:
    settings.S3_BUCKET = "nobody-made-this"
    request = exported(chatbot).request
    assert outcome(request) == ("failed", "storage_bucket_missing", 1)


def test_a_broken_database_connection_gives_an_export_a_clear_error(chatbot, storage, monkeypatch) -> None:
    patch_count(monkeypatch, break_reader)
    request = exported(chatbot, "a secret value").request
    assert outcome(request) == ("accepted", "export_not_read", 1)
    assert request.not_before > timezone.now()
    assert "SQLSTATE" in request.error_detail
    assert "secret" not in request.error_detail
    assert is_empty(storage)


def test_exports_that_could_not_be_read_together_are_tried_one_by_one(chatbot, storage, monkeypatch) -> None:
    """One of them may be the cause; it must not cost the others an attempt."""
    requests = [factories.export_of(chatbot, value) for value in ("41", "42")]
    patch_count(monkeypatch, break_reader)
    carry_out(taken(*requests))
    assert [outcome(request) for request in requests] == [("accepted", "", 0)] * 2
    assert [(request.lane, request.claim_id) for request in requests] == [("isolated", None)] * 2
    assert is_empty(storage)


class Sleeper(HeldClaim):
    """A worker that sleeps just after it has checked its claim."""

    def renew(self) -> None:
        pass


@pytest.mark.long(reason="files of 10 MiB, and each way to lose the claim", beyond=1)
@pytest.mark.parametrize("worker", [HeldClaim, Sleeper])
@pytest.mark.parametrize("size", [1, 10 * 2**20])
def test_it_cannot_publish_once_another_worker_has_the_request(chatbot, storage, monkeypatch, worker, size) -> None:
    """Neither a file sent at once nor one sent in parts."""
    factories.conversation_of(chatbot, "42", messages=-(-size // 100_000), text="x" * min(size, 100_000))
    request = factories.export_of(chatbot, "42")
    held = taken(request)
    stale = worker(id=held.id, token=held.token, kind=held.kind, lane=held.lane, request_ids=held.request_ids)

    def overtake() -> None:
        lose(stale)
        carry_out(taken(request))

    patch_pieces(monkeypatch, overtake)
    with pytest.raises(ClaimLost):
        carry_out(stale)
    assert outcome(request) == COMPLETED
    assert list(storage.keys()) == [export_of_request(request).key]
    assert open_uploads(storage) == []


@pytest.mark.long(reason="a large file")
def test_no_large_file_is_published_after_the_claim_was_released(chatbot, storage, monkeypatch) -> None:
    """No worker has claimed the request since, so the upload was not aborted."""
    factories.conversation_of(chatbot, "42", messages=100, text="x" * 100_000)
    request = factories.export_of(chatbot, "42")
    held = taken(request)
    patch_pieces(monkeypatch, lambda: lose(held))
    with pytest.raises(ClaimLost):
        carry_out(held)
    assert is_empty(storage)


def test_it_writes_nothing_when_its_claim_was_lost_before_the_snapshot(chatbot, storage, monkeypatch) -> None:
    """The snapshot then shows the requests of another worker."""
    factories.conversation_of(chatbot, "42", messages=1)
    request = factories.export_of(chatbot, "42")
    held = taken(request)
    before(monkeypatch, Delivery, "run", lambda *_, **__: lose(held))
    with pytest.raises(ClaimLost):
        carry_out(held)
    assert is_empty(storage)


@pytest.mark.long(reason="the same at another step", beyond=1)
@pytest.mark.parametrize("purging", [False, True])
def test_it_cannot_remove_the_file_of_the_worker_that_took_over(chatbot, storage, monkeypatch, purging) -> None:
    """Neither when it wakes before reading the record, nor between reading and purging."""
    request = factories.export_of(chatbot, "42")
    stale = taken(request)

    def overtake() -> None:
        lose(stale)
        carry_out(taken(request))

    if purging:
        key = export_key(prefix="acme/", value="42", at=AT)
        factories.ExportFactory.create(request=request, chatbot=chatbot, key=key)

        def wake_late(*_: object) -> None:
            overtake()
            connection.close()  # this is a thread of the pool

        before(monkeypatch, ObjectStorage, "purge", once(wake_late))
    else:
        overtake()
    with pytest.raises(ClaimLost):
        carry_out(stale)
    assert outcome(request) == COMPLETED
    assert list(storage.keys()) == [export_of_request(request).key]


@pytest.mark.long(reason="a file of 10 MB")
def test_it_keeps_its_claim_while_it_writes(chatbot, storage, monkeypatch) -> None:
    monkeypatch.setattr(leases, "SECONDS_BETWEEN_RENEWALS", 0.0)
    factories.conversation_of(chatbot, "42", messages=100, text="x" * 100_000)
    held = taken(factories.export_of(chatbot, "42"))
    kept: list[bool] = []

    def expire_then_look(self: Transcripts, places: Iterable[int]) -> Generator[TranscriptPiece]:
        for number, piece in enumerate(read(self, places)):
            if number == 90:  # the first part is full, and being sent
                Claim.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
            if number == 95:
                kept.append(Claim.objects.get(pk=held.id).expires_at > timezone.now() + timedelta(seconds=60))
            yield piece

    read = Transcripts.pieces
    monkeypatch.setattr(Transcripts, "pieces", expire_then_look)
    carry_out(held)
    assert kept == [True]


def test_it_stops_in_the_middle_when_its_claim_is_lost(chatbot, storage, monkeypatch) -> None:
    monkeypatch.setattr(leases, "SECONDS_BETWEEN_RENEWALS", 0.0)
    factories.conversation_of(chatbot, "42", messages=200, text="x" * 100_000)
    held = taken(factories.export_of(chatbot, "42"))
    read = Transcripts.pieces
    sizes: list[int] = []

    def pieces(self: Transcripts, places: Iterable[int]) -> Generator[TranscriptPiece]:
        for piece in read(self, places):
            sizes.append(len(piece.data))
            if len(sizes) == 90:
                lose(held)
            yield piece

    monkeypatch.setattr(Transcripts, "pieces", pieces)
    with pytest.raises(ClaimLost):
        carry_out(held)
    assert len(sizes) < 100
    assert is_empty(storage)


def test_it_aborts_the_upload_it_could_not_record(chatbot, storage, monkeypatch) -> None:
    request = factories.export_of(chatbot, "42")
    held = taken(request)

    def open_then_lose(self: ObjectStorage, key: str, *, content_type: str) -> None:
        lose(held)
        connection.close()  # this is a thread of the pool

    after(monkeypatch, ObjectStorage, "open_upload", open_then_lose)
    with pytest.raises(ClaimLost):
        carry_out(held)
    assert is_empty(storage)


# --- Against deletions ---------------------------------------------------------------------------------


def test_it_does_not_begin_while_a_deletion_marks(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """Otherwise the mark could neither find the export's row nor be seen by its snapshot."""
    with psycopg.connect(**connection.get_connection_params()) as marking, connection.cursor() as cursor:
        marking.execute("SELECT pg_advisory_xact_lock(%s::int, %s::int)", [LOCK_SPACE, chatbot.pk])
        cursor.execute("SET lock_timeout = '100ms'")
        try:
            with pytest.raises(OperationalError):
                exported(chatbot)
        finally:
            cursor.execute("RESET lock_timeout")
    assert not Export.objects.exists()
    assert ComplianceRequest.objects.get().status == "accepted"
    assert exported(chatbot).rows == 0


def test_no_byte_is_sent_of_an_export_that_a_deletion_has_met(chatbot, storage, monkeypatch) -> None:
    def meet_then_open(self: ObjectStorage, key: str, *, content_type: str) -> None:
        Export.objects.update(expires_at=Now())
        connection.close()  # this is a thread of the pool

    before(monkeypatch, ObjectStorage, "open_upload", meet_then_open)
    request = exported(chatbot).request
    assert outcome(request) == ("accepted", "", 0)
    assert is_empty(storage)
