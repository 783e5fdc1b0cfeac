"""The files that a deletion counts."""

from collections.abc import Iterator

import pytest

from conversations import uploads
from conversations.models import UploadedFile
from tests.calls import TokenCaller
from tests.factories import conversation_of, deletion_of

pytestmark = pytest.mark.django_db(transaction=True)


def test_interrupted_uploads_are_removed_and_not_counted(chatbot, drain, storage) -> None:
    def break_off() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    of_photo = {"conversation": conversation_of(chatbot, "42"), "name": "photo.jpg", "content_type": "image/jpeg"}
    uploads.receive(**of_photo, chunks=[b"content"])
    with pytest.raises(ConnectionResetError):
        uploads.receive(**of_photo, chunks=break_off())
    uploads.open_upload(**of_photo)
    request = deletion_of(chatbot, "42")

    drain()

    found = TokenCaller(chatbot).get(f"requests/{request.pk}").json()
    assert not UploadedFile.objects.exists()
    assert not list(storage.keys("uploads/"))
    assert not list(storage.uploads())
    assert (found["status"], found["counts"]["files"]) == ("completed", 1)
