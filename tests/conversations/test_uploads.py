"""Uploads: a file is stored completely or not at all, and never in a marked conversation."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from chatbots.models import Chatbot
from common.storage import ObjectStorage, StorageError
from conversations import uploads
from conversations.models import Conversation, UploadedFile
from conversations.uploads import ConversationDeleted, UploadInvalid
from tests.factories import conversation_of
from tests.patches import before, failing

PART = 5 * 1024 * 1024


@pytest.fixture
def conversation(chatbot: Chatbot) -> Conversation:
    return conversation_of(chatbot, "42", external_id="c-1")


def receive(conversation: Conversation, *chunks: bytes | Callable[[], None], **fields: str) -> UploadedFile:
    """Upload the chunks; functions among them are called in turn."""

    def content() -> Iterator[bytes]:
        for chunk in chunks:
            if callable(chunk):
                chunk()
            else:
                yield chunk

    arguments = {"name": "photo.jpg", "content_type": "image/jpeg"} | fields
    return uploads.receive(conversation=conversation, chunks=content(), **arguments)


def mark(conversation: Conversation) -> None:
    Conversation.objects.filter(pk=conversation.pk).update(deletion_request_id=uuid4())


def erase_files(storage: ObjectStorage) -> None:
    """Erase the files of marked conversations, as an erasure does."""
    for file in UploadedFile.objects.all():
        storage.purge(file.object_key)
        file.delete()


def versions(storage: ObjectStorage) -> list[str]:
    return [version.key for version in storage.versions()]


def test_unsuitable_uploads_are_refused(conversation: Conversation) -> None:
    for fields, field in (
        ({"name": "a\0b"}, "name"),
        ({"name": "a\ud800"}, "name"),
        ({"content_type": "image/png\r\nx: y"}, "content_type"),
        ({"content_type": "image/\N{SNOWMAN}"}, "content_type"),
        ({"message_external_id": "\ud800"}, "message_id"),
    ):
        with pytest.raises(UploadInvalid) as caught:
            receive(conversation, b"x", **fields)
        assert caught.value.field == field
    assert not UploadedFile.objects.exists()


def test_an_upload_is_given_up_if_the_erasure_passes_before_it_starts(conversation, storage, monkeypatch) -> None:
    def late(self: ObjectStorage, key: str, **options: str) -> None:
        mark(conversation)
        erase_files(storage)

    before(monkeypatch, ObjectStorage, "open_upload", late)

    with pytest.raises(ConversationDeleted):
        receive(conversation, b"x")

    assert_nothing_is_left(storage)


def test_nothing_is_sent_if_the_erasure_passed_before_the_upload_started(conversation, storage, monkeypatch) -> None:
    """Its row still exists. If the file were sent now, a kill right after would leave it forever."""

    def late(self: ObjectStorage, key: str, **options: str) -> None:
        mark(conversation)
        storage.purge(key)

    before(monkeypatch, ObjectStorage, "open_upload", late)

    with pytest.raises(ConversationDeleted):
        uploads.open_upload(conversation=conversation, name="photo.jpg", content_type="image/jpeg")

    assert versions(storage) == []
    assert list(storage.uploads()) == []
    assert UploadedFile.objects.get().upload_id is None


def test_an_object_stored_after_the_erasure_passed_is_removed(conversation, storage) -> None:
    upload = uploads.open_upload(conversation=conversation, name="photo.jpg", content_type="image/jpeg")
    written = uploads.write(upload=upload, chunks=[b"x"])
    mark(conversation)
    UploadedFile.objects.all().delete()

    with pytest.raises(ConversationDeleted):
        uploads.finalise(upload=upload, written=written)

    assert_nothing_is_left(storage)


def test_interrupted_content_leaves_no_object_and_no_name(conversation: Conversation, storage: ObjectStorage) -> None:
    with pytest.raises(ConnectionResetError):
        receive(conversation, b"x" * PART * 2, failing(ConnectionResetError))

    assert versions(storage) == []
    file = UploadedFile.objects.get()
    assert (file.state, file.name, file.upload_id) == ("uploading", "", None)


def test_storage_errors_are_passed_on(conversation, storage, monkeypatch) -> None:
    def down(*_args: object, **_options: object) -> None:
        raise StorageError("storage_unavailable", "The storage does not answer.", retryable=True)

    monkeypatch.setattr(ObjectStorage, "open_upload", down)
    monkeypatch.setattr(ObjectStorage, "purge", down)

    with pytest.raises(StorageError, match="storage_unavailable"):
        receive(conversation, b"x")

    assert UploadedFile.objects.get().name == "photo.jpg"


def test_aborting_a_stored_file_changes_nothing(conversation: Conversation, storage: ObjectStorage) -> None:
    file = receive(conversation, b"x")

    uploads.abort(upload=file)

    assert storage.read(file.object_key) == b"x"


def assert_nothing_is_left(storage: ObjectStorage) -> None:
    assert versions(storage) == []
    assert not UploadedFile.objects.exists()
