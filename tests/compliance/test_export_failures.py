"""An export that is interrupted, overtaken or refused: what is left, and who may still publish."""

from collections.abc import Generator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from pytest_django import Settings

from chatbots.buckets import ObjectStorage
from chatbots.models import Chatbot
from compliance.claims import HeldClaim
from compliance.errors import ClaimLost, StepFailed
from compliance.export import engine
from compliance.export.naming import export_key
from compliance.models import Claim, Export
from conversations.locks import LOCK_SPACE
from conversations.transcripts import ChatterTranscript
from tests import factories
from tests.compliance.exporting import AT, committed, exported, is_empty, lose, open_uploads, patch_chunks, taken


@committed
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_it_leaves_nothing_visible_when_it_is_interrupted(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fail() -> None:
        raise error

    patch_chunks(monkeypatch, fail)
    with pytest.raises(error):
        exported(chatbot)
    assert is_empty(storage)
    assert Export.objects.get().finished_at is None


@committed
def test_it_fails_in_our_words_when_the_storage_does(chatbot: Chatbot, settings: Settings) -> None:
    settings.S3_BUCKET = "nobody-made-this"
    with pytest.raises(StepFailed) as caught:
        exported(chatbot)
    assert (caught.value.code, caught.value.retryable) == ("storage_bucket_missing", False)


@committed
def test_it_fails_in_our_words_when_the_database_connection_breaks(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_reader() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in%'"
            )

    count = ChatterTranscript.count

    def count_then_break(self: ChatterTranscript) -> Any:
        counts = count(self)
        break_reader()
        return counts

    monkeypatch.setattr(ChatterTranscript, "count", count_then_break)
    with pytest.raises(StepFailed) as caught:
        exported(chatbot, "a secret value")
    assert (caught.value.code, caught.value.retryable) == ("export_not_read", True)
    assert "SQLSTATE" in caught.value.detail
    assert "secret" not in caught.value.detail
    assert is_empty(storage)


@committed
def test_it_removes_what_a_killed_attempt_left(chatbot: Chatbot, storage: ObjectStorage) -> None:
    factories.conversation_of(chatbot, "42", messages=1)
    request = factories.export_of(chatbot, "42")
    key = export_key(prefix="acme/", value="42", at=timezone.now())
    # Killed while it sent, and, in another life, just after it had published.
    upload_id = storage.open_upload(key, content_type="text/csv")
    storage.connection.meta.client.upload_part(
        Bucket=storage.bucket_name, Key=key, UploadId=upload_id, PartNumber=1, Body=b"half"
    )
    storage.put(key, b"whole", "text/csv")
    left = factories.ExportFactory.create(request=request, chatbot=chatbot, key=key, upload_id=upload_id)
    delivered = engine.write_export(taken(request), request)
    assert delivered.export_id == left.pk
    assert delivered.key != key
    assert list(storage.keys()) == [delivered.key]
    assert open_uploads(storage) == []


class Sleeper(HeldClaim):
    """A worker that falls asleep just after it has made sure of its claim."""

    def keep(self) -> None:
        pass


@committed
@pytest.mark.parametrize("worker", [HeldClaim, Sleeper])
def test_it_cannot_publish_once_another_worker_has_the_request(
    chatbot: Chatbot,
    storage: ObjectStorage,
    monkeypatch: pytest.MonkeyPatch,
    worker: type[HeldClaim],
) -> None:
    factories.conversation_of(chatbot, "42", messages=1)
    request = factories.export_of(chatbot, "42")
    held = taken(request)
    stale = worker(id=held.id, token=held.token, kind=held.kind, lane=held.lane, request_ids=held.request_ids)
    by_the_other: list[engine.Delivered] = []

    def overtake() -> None:
        lose(stale)
        by_the_other.append(engine.write_export(taken(request), request))

    patch_chunks(monkeypatch, overtake)
    with pytest.raises((ClaimLost, StepFailed)):
        engine.write_export(stale, request)
    assert list(storage.keys()) == [by_the_other[0].key]
    assert open_uploads(storage) == []
    assert Export.objects.get().key == by_the_other[0].key


@committed
@pytest.mark.parametrize("purging", [False, True])
def test_it_cannot_remove_the_file_of_the_worker_that_took_over(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, purging: bool
) -> None:
    """Neither when it wakes before it looked at the record, nor when it wakes between looking and purging."""
    request = factories.export_of(chatbot, "42")
    stale = taken(request)
    others: list[engine.Delivered] = []

    def overtake() -> None:
        lose(stale)
        others.append(engine.write_export(taken(request), request))

    if purging:
        key = export_key(prefix="acme/", value="42", at=AT)
        factories.ExportFactory.create(request=request, chatbot=chatbot, key=key)
        purge = ObjectStorage.purge

        def wake_late(self: ObjectStorage, key: str) -> int:
            monkeypatch.setattr(ObjectStorage, "purge", purge)
            overtake()
            return purge(self, key)

        monkeypatch.setattr(ObjectStorage, "purge", wake_late)
    else:
        overtake()
    with pytest.raises(ClaimLost):
        engine.write_export(stale, request)
    assert list(storage.keys()) == [others[0].key]


@committed
def test_it_keeps_its_claim_while_it_writes(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SECONDS_BETWEEN_KEEPS", 0.0)
    factories.conversation_of(chatbot, "42", messages=30, text="x" * 10_000)
    request = factories.export_of(chatbot, "42")
    held = taken(request)
    long_ago = timezone.now() - timedelta(seconds=1)
    patch_chunks(monkeypatch, lambda: Claim.objects.update(expires_at=long_ago))
    engine.write_export(held, request)
    assert Claim.objects.get(pk=held.id).expires_at > timezone.now() + timedelta(seconds=60)


@committed
def test_it_stops_in_the_middle_when_its_claim_is_lost(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SECONDS_BETWEEN_KEEPS", 0.0)
    factories.conversation_of(chatbot, "42", messages=30, text="x" * 10_000)
    request = factories.export_of(chatbot, "42")
    held = taken(request)
    read = ChatterTranscript.chunks
    sizes: list[int] = []

    def chunks(self: ChatterTranscript) -> Generator[bytes]:
        for chunk in read(self):
            sizes.append(len(chunk))
            lose(held)
            yield chunk

    monkeypatch.setattr(ChatterTranscript, "chunks", chunks)
    with pytest.raises(ClaimLost):
        engine.write_export(held, request)
    assert len(sizes) == 1
    assert is_empty(storage)


@committed
def test_it_aborts_the_upload_it_could_not_record(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = factories.export_of(chatbot, "42")
    held = taken(request)
    open_upload = ObjectStorage.open_upload

    def open_then_lose(self: ObjectStorage, key: str, *, content_type: str) -> str:
        upload_id = open_upload(self, key, content_type=content_type)
        lose(held)
        return upload_id

    monkeypatch.setattr(ObjectStorage, "open_upload", open_then_lose)
    with pytest.raises(ClaimLost):
        engine.write_export(held, request)
    assert is_empty(storage)


# --- Against deletions ---------------------------------------------------------------------------------


@committed
def test_it_does_not_begin_while_a_deletion_marks(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """Else the mark could neither find the export's row nor be seen by its snapshot."""
    with psycopg.connect(**connection.get_connection_params()) as marking, connection.cursor() as cursor:
        marking.execute("SELECT pg_advisory_xact_lock(%s::int, %s::int)", [LOCK_SPACE, chatbot.pk])
        cursor.execute("SET lock_timeout = '100ms'")
        try:
            with pytest.raises(OperationalError):
                exported(chatbot)
        finally:
            cursor.execute("RESET lock_timeout")
    assert not Export.objects.exists()
    assert exported(chatbot).rows == 0


@committed
def test_it_is_not_delivered_when_a_deletion_dooms_it_before_it_begins_to_send(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_upload = ObjectStorage.open_upload

    def doom_then_open(self: ObjectStorage, key: str, *, content_type: str) -> str:
        Export.objects.update(doomed_by=uuid4())
        return open_upload(self, key, content_type=content_type)

    monkeypatch.setattr(ObjectStorage, "open_upload", doom_then_open)
    with pytest.raises(StepFailed) as caught:
        exported(chatbot)
    assert (caught.value.code, caught.value.retryable) == ("export_overtaken", True)
    assert is_empty(storage)


@committed
def test_it_waits_until_the_deletion_that_doomed_it_has_noted_the_removal(
    chatbot: Chatbot, storage: ObjectStorage
) -> None:
    request = factories.export_of(chatbot, "42")
    key = export_key(prefix="acme/", value="42", at=AT)
    doomed = factories.ExportFactory.create(request=request, chatbot=chatbot, key=key, doomed_by=uuid4())
    with pytest.raises(StepFailed) as caught:
        engine.write_export(taken(request), request)
    assert caught.value.code == "export_overtaken"
    Export.objects.update(key=None, removed_at=timezone.now())
    delivered = engine.write_export(taken(request), request)
    doomed.refresh_from_db()
    assert (doomed.key, doomed.doomed_by, doomed.removed_at) == (delivered.key, None, None)
    assert storage.exists(delivered.key)
