"""Uploads: a file is stored completely or not at all, with any name, and never in a marked conversation."""

import re
from uuid import uuid4

import pytest
from hypothesis import assume, example, given

from chatbots.models import Chatbot
from common.storage import ObjectStorage, StorageError
from conversations import uploads
from conversations.models import Conversation, UploadedFile
from conversations.uploads import ConversationDeleted, UploadInvalid, download_name
from tests.calls import TokenCaller, problem
from tests.conversations.forms import file, form, send
from tests.factories import conversation_of
from tests.fuzzing import examples, texts
from tests.patches import before, failing


@pytest.fixture
def conversation(chatbot: Chatbot) -> Conversation:
    return conversation_of(chatbot, "42", external_id="c-1")


def receive(conversation: Conversation, **fields: str) -> UploadedFile:
    arguments = {"name": "photo.jpg", "content_type": "image/jpeg"} | fields
    return uploads.receive(conversation=conversation, chunks=[b"x"], **arguments)


def mark(conversation: Conversation) -> None:
    Conversation.objects.filter(pk=conversation.pk).update(deletion_request_id=uuid4())


def erase_files(storage: ObjectStorage) -> None:
    """Erase the files of marked conversations, as an erasure does."""
    for row in UploadedFile.objects.all():
        storage.purge(row.object_key)
        row.delete()


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
            receive(conversation, **fields)
        assert caught.value.field == field
    assert not UploadedFile.objects.exists()


def test_an_upload_is_given_up_if_the_erasure_passes_before_it_starts(conversation, storage, monkeypatch) -> None:
    def late(self: ObjectStorage, key: str, **options: str) -> None:
        mark(conversation)
        erase_files(storage)

    before(monkeypatch, ObjectStorage, "open_upload", late)

    with pytest.raises(ConversationDeleted):
        receive(conversation)

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


def test_storage_errors_are_passed_on(conversation, storage, monkeypatch) -> None:
    for call in ("open_upload", "purge"):
        monkeypatch.setattr(ObjectStorage, call, failing())

    with pytest.raises(StorageError, match="storage_unavailable"):
        receive(conversation)

    assert UploadedFile.objects.get().name == "photo.jpg"


def test_aborting_a_stored_file_changes_nothing(conversation: Conversation, storage: ObjectStorage) -> None:
    file = receive(conversation)

    uploads.abort(upload=file)

    assert storage.read(file.object_key) == b"x"


def assert_nothing_is_left(storage: ObjectStorage) -> None:
    assert versions(storage) == []
    assert not UploadedFile.objects.exists()


# --- Files with any name ---------------------------------------------------------------------------------


# As browsers write them (WHATWG): these three are escaped, and nothing else.
_ESCAPES = {'"': "%22", "\r": "%0D", "\n": "%0A"}
_MISLEADING = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069/\\]")


def as_browsers_write(name: str) -> str:
    return "".join(_ESCAPES.get(one, one) for one in name)


@pytest.mark.fuzz
@examples(8)
@given(name=texts(least=1, most=255))
@example(name="../../../etc/passwd")
@example(name='photo.jpg"; filename="other.exe')
@example(name="photo\u202egpj.exe")
@example(name="a\r\nContent-Type: text/html\r\n\r\n<script>")
def test_any_name_is_kept_and_leads_nobody_astray(chatbot: Chatbot, storage: ObjectStorage, name: str) -> None:
    # A legacy client would have meant other names by these: `multipart` guesses.
    assume("%" not in name and "\\" not in name)
    conversation = conversation_of(chatbot, "42")

    answer = send(TokenCaller(chatbot), conversation.pk, form(file(b"a photo", name=as_browsers_write(name))))

    kept = name.rpartition("/")[2]
    if answer.status_code != 201:
        assert problem(answer, 400, "invalid")["errors"] or any(one < " " for one in name)
        assert not UploadedFile.objects.filter(conversation=conversation, state="stored").exists()
        return
    stored = UploadedFile.objects.get(conversation=conversation)
    assert answer.json()["name"] == stored.name == kept
    assert re.fullmatch(rf"uploads/{chatbot.pk}/[0-9a-f]{{32}}", stored.object_key)
    head = storage.client.head_object(Bucket=storage.bucket_name, Key=stored.object_key)
    disposition = head["ContentDisposition"]
    assert disposition.startswith("attachment")
    assert disposition.isascii()
    assert disposition.isprintable()


@pytest.mark.fuzz
@examples(100)
@given(name=texts(least=1, most=255))
@example(name="." * 255)
@example(name="x" * 200 + "." + "y" * 50)
@example(name="\u202e" * 255)
def test_the_name_of_a_download_is_short_and_says_what_it_is(name: str) -> None:
    shown = download_name(name)
    assert 0 < len(shown) <= 121
    assert not _MISLEADING.search(shown)
    kept = [one for one in name if not _MISLEADING.match(one)]
    assert len(kept) < len(name) or shown[:10] == name[:10]
