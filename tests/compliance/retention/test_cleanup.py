"""The sweep: late data and expired data."""

from datetime import timedelta

import pytest
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from common.storage import ObjectStorage, StorageError, Written
from compliance import worker
from compliance.ledger import objects as ledger
from compliance.models import ExportConversation
from conversations import uploads
from conversations.models import Conversation, UploadedFile
from tests import factories
from tests.factories import as_bytes, conversation_of, deletion_of, export_of
from tests.patches import before, failing
from tests.under_roles import role

# The database's time is fixed within a test's transaction, which may take long on a busy machine.
SLACK = timedelta(minutes=5)


def test_an_unfinished_export_in_a_former_bucket_keeps_no_digest_beyond_the_ledgers_days(chatbot, drain, settings):
    conversation = conversation_of(chatbot, "42")
    request = export_of(chatbot, "42", status="failed", failed_at=timezone.now(), error_code="storage_locked")
    left = factories.ExportFactory.create(
        request=request, key="42/left.csv", hosting="client", bucket="former", endpoint="http://127.0.0.1:1"
    )
    ExportConversation.objects.create(chatbot=chatbot, export=left, conversation_id=conversation.pk)
    deletion = deletion_of(chatbot, "42", approved_holds=["export_pending"])
    drain()
    deletion.refresh_from_db()
    left.refresh_from_db()
    assert (deletion.status, left.key) == ("completed", None)

    Conversation.objects.update(deleted_at=timezone.now() - settings.ERASURE_LEDGER_DAYS - SLACK)
    worker.sweep()
    conversation.refresh_from_db()
    assert conversation.external_id_digest is None
    assert not ExportConversation.objects.exists()


def test_late_data_is_erased_when_the_ledger_has_it_and_not_before(chatbot, neighbour, drain, storage, monkeypatch):
    request, other = deletion_of(chatbot, "42"), deletion_of(neighbour, "42")
    drain()
    late = conversation_of(chatbot, "42", messages=3, deletion_request_id=request.pk)
    digest = as_bytes(late.external_id_digest).hex()

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStorage, "put", failing())
        worker.sweep()
    late.refresh_from_db()
    assert late.deleted_at is None

    worker.sweep()
    for one in (late, request, other):
        one.refresh_from_db()
    assert late.deleted_at
    assert (request.conversations, request.messages, request.result) == (1, 3, "done")
    assert other.result == "nothing_found"
    assert ChangeLogEntry.objects.filter(event="request.late_data_erased").count() == 1
    assert any(digest in storage.read(key).decode() for key in storage.keys(ledger.PREFIX))


@pytest.fixture
def uploads_of_yesterday(chatbot: Chatbot, storage: ObjectStorage) -> list[tuple[UploadedFile, Written]]:
    """Two uploads older than a day that have just been sent completely."""
    conversation = conversation_of(chatbot, "42")
    begun = [
        uploads.open_upload(conversation=conversation, name=name, content_type="image/jpeg")
        for name in ("a.jpg", "b.jpg")
    ]
    UploadedFile.objects.update(created_at=timezone.now() - timedelta(days=1))
    return [(upload, uploads.write(upload=upload, chunks=[b"content"])) for upload in begun]


@pytest.mark.parametrize("which", [0, 1], ids=["the one that is being removed", "the next one"])
def test_an_upload_finalised_as_it_expires_is_complete_or_removed(uploads_of_yesterday, storage, monkeypatch, which):
    upload, written = uploads_of_yesterday[which]
    answers: list[str] = []

    @role("owner")
    def finalise(*_: object) -> None:
        monkeypatch.undo()
        try:
            answers.append(uploads.finalise(upload=upload, written=written).state)
        except StorageError as error:
            answers.append(error.code)

    before(monkeypatch, ObjectStorage, "purge", finalise)
    worker.sweep()

    left = list(UploadedFile.objects.values_list("object_key", "state"))
    assert [key for key, _ in left] == list(storage.keys("uploads/"))
    assert (left, answers) == ([(upload.object_key, "stored")], ["stored"]) if which else ([], ["storage_incomplete"])
