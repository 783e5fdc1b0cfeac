"""Uploading a file of a conversation: stored completely or not at all."""

import hashlib
from uuid import uuid4

import pytest
from pytest_django import Settings

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from conversations import uploads
from conversations.models import Conversation, Message, UploadedFile
from tests.calls import TokenCaller, pointers, problem
from tests.conversations.forms import field, file, form, send
from tests.factories import conversation_of
from tests.patches import before, failing


@pytest.fixture
def caller(chatbot: Chatbot) -> TokenCaller:
    return TokenCaller(chatbot, scopes=["conversations:write"])


@pytest.fixture
def conversation(chatbot: Chatbot, storage: ObjectStorage) -> Conversation:
    return conversation_of(chatbot, "42")


def assert_nothing_is_left(storage: ObjectStorage) -> None:
    """No object, no open upload, and no row with a name."""
    client = storage.client
    assert not list(storage.versions())
    assert not client.list_multipart_uploads(Bucket=storage.bucket_name).get("Uploads")
    assert set(UploadedFile.objects.values_list("state", "name")) <= {("uploading", "")}


def test_it_stores_a_file(caller, conversation, storage):
    message = Message.objects.filter(conversation=conversation).earliest("id")

    answer = send(caller, conversation.pk, form(field("message_id", message.external_id.encode()), file(b"a photo")))

    stored = UploadedFile.objects.get()
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json() == {
        "file_id": stored.pk,
        "number": conversation.pk,
        "name": "photo.jpg",
        "content_type": "image/jpeg",
        "bytes": 7,
        "sha256": hashlib.sha256(b"a photo").hexdigest(),
        "message_id": message.external_id,
    }
    assert (stored.state, stored.message_id, stored.conversation_id) == ("stored", message.pk, conversation.pk)
    assert storage.read(stored.object_key) == b"a photo"
    conversation.refresh_from_db()
    assert conversation.has_file_upload


def test_it_stores_each_byte(caller, conversation, storage):
    for content in (b"", b"\r\n--" * 9, b"--", b"x" * 200_000):
        answer = send(caller, conversation.pk, form(file(content)))

        assert answer.json()["message_id"] is None
        assert storage.read(UploadedFile.objects.latest("pk").object_key) == content


def test_it_keeps_the_files_own_name(caller, conversation):
    for sent, kept in (
        ("Zoë's photo 😀.jpg", "Zoë's photo 😀.jpg"),
        ("C:\\Users\\ada\\photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("الصورة.jpg", "الصورة.jpg"),
        ("a %22b%22.jpg", 'a "b".jpg'),
        ("ü" * 255, "ü" * 255),
    ):
        assert send(caller, conversation.pk, form(file(b"x", name=sent))).json()["name"] == kept
        assert UploadedFile.objects.latest("pk").name == kept


def test_errors_of_a_form_are_explained(caller, conversation, storage):
    for parts, expected in (
        ([], {"/file": "missing"}),
        ([field("message_id", b"m1")], {"/file": "missing"}),
        ([field("file", b"without a name")], {"/file": "missing"}),
        ([file(b"x", name="")], {"/file": "missing"}),
        ([file(b"x", name="photos/")], {"/file": "too_short"}),
        ([file(b"x", name="x" * 256)], {"/file": "too_long"}),
        ([file(b"x"), file(b"y")], {"/file": "repeated_field"}),
        ([file(b"x"), field("message_id", b"m1")], {"/message_id": "out_of_order"}),
        ([file(b"x"), field("Ada", b"Lovelace")], {"": "unknown_field"}),
        ([field("Ada", b"Lovelace"), file(b"x")], {"": "unknown_field"}),
        ([file(b"x", field="photo")], {"": "unknown_field"}),
        ([field("message_id", b"m1"), field("message_id", b"m1")], {"/message_id": "repeated_field"}),
        ([field("message_id", b"unknown"), file(b"x")], {"/message_id": "unknown_value"}),
        ([field("message_id", b""), file(b"x")], {"/message_id": "unknown_value"}),
        ([field("message_id", b"\0"), file(b"x")], {"/message_id": "unknown_value"}),
        ([field("message_id", b"\xff"), file(b"x")], {"/message_id": "invalid"}),
        ([field("message_id", b"m" * 70_000), file(b"x")], {"/message_id": "too_long"}),
        ([file(b"x", content_type="audio/x\x01")], {"/file": "invalid"}),
    ):
        answer = send(caller, conversation.pk, form(*parts))
        assert pointers(answer) == expected
        assert "Ada" not in answer.text
    assert_nothing_is_left(storage)


WHOLE = form(file(b"x" * 100))


def test_it_refuses_a_form_that_is_broken_or_ends_early(caller, conversation, storage):
    for body in (
        b"",
        b"not a form",
        WHOLE[:20],
        WHOLE[:-20],
        WHOLE[:-5],
        WHOLE[:150],
        WHOLE.replace(b"\r\n", b"\n"),
        WHOLE.replace(b"form-data", b"attachment", 1),
        WHOLE.replace(b"photo.jpg", b"\xff\xfe"),
        WHOLE.replace(b"Content-Type:", b"Content-Length: 5\r\nContent-Type:"),
        WHOLE.replace(b"Content-Type:", b"X" * 9000 + b": y\r\nContent-Type:"),
        WHOLE.replace(b"Content-Type:", b"X: y\r\n" * 99 + b"Content-Type:"),
        b"x" * 70_000 + WHOLE,
    ):
        problem(send(caller, conversation.pk, body), 400, "invalid")
    assert_nothing_is_left(storage)


def test_it_takes_forms_only(caller, conversation):
    for boundary in ("", "; boundary=", "; boundary=" + "x" * 71):
        answer = send(caller, conversation.pk, WHOLE, Content_Type=f"multipart/form-data{boundary}")
        problem(answer, 400, "invalid")
    for content_type in ("application/json", "multipart/mixed; boundary=x", "image/jpeg"):
        answer = send(caller, conversation.pk, WHOLE, Content_Type=content_type)
        problem(answer, 415, "unsupported_media_type")
    problem(send(caller, conversation.pk, WHOLE, Content_Encoding="gzip"), 415, "unsupported_media_type")


def test_it_takes_what_the_setting_lists(caller, conversation, storage, settings: Settings):
    for content_type in ("text/html", "image/svg+xml", "application/octet-stream", "image/*"):
        answer = send(caller, conversation.pk, form(file(b"x", content_type=content_type)))
        problem(answer, 415, "unsupported_media_type")
    assert_nothing_is_left(storage)
    settings.UPLOAD_TYPES = ["*/*"]
    untyped = b'Content-Disposition: form-data; name="file"; filename="x"\r\n\r\nx'

    assert send(caller, conversation.pk, form(untyped)).json()["content_type"] == "application/octet-stream"
    assert send(caller, conversation.pk, form(file(b"x", content_type="TEXT/HTML; charset=utf-8"))).json()[
        "content_type"
    ] == ("text/html")


def test_it_takes_a_file_of_exactly_the_limit_and_none_larger(caller, conversation, storage, settings: Settings):
    settings.UPLOAD_MAX_BYTES = 1000

    problem(send(caller, conversation.pk, form(file(b"x" * 1001))), 413, "too_large")
    assert_nothing_is_left(storage)
    assert send(caller, conversation.pk, form(file(b"x" * 1000))).status_code == 201


def test_a_file_declared_too_large_is_refused_at_once(caller, conversation, storage, settings: Settings):
    settings.UPLOAD_MAX_BYTES = 1000

    problem(send(caller, conversation.pk, form(file(b"x" * 100_000))), 413, "too_large")
    assert not UploadedFile.objects.exists()


def test_the_limit_of_other_bodies_does_not_count(caller, conversation, settings: Settings):
    settings.MAX_BODY_BYTES = settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000

    assert send(caller, conversation.pk, form(file(b"x" * 100_000))).status_code == 201


def test_nothing_is_stored_after_the_mark(caller, conversation, storage):
    Conversation.objects.update(deletion_request_id=uuid4())

    problem(send(caller, conversation.pk, WHOLE), 410, "conversation_deleted")
    assert not UploadedFile.objects.exists()


def test_nothing_is_stored_if_the_mark_comes_during_the_upload(caller, conversation, storage, monkeypatch):
    before(monkeypatch, uploads, "write", lambda *_, **__: Conversation.objects.update(deletion_request_id=uuid4()))

    problem(send(caller, conversation.pk, WHOLE), 410, "conversation_deleted")
    assert_nothing_is_left(storage)
    assert UploadedFile.objects.get().state == "uploading", "The row is left to the erasure."
    assert not Conversation.objects.get().has_file_upload


def test_unavailable_storage_is_reported(caller, conversation, storage, monkeypatch, caplog):
    monkeypatch.setattr(ObjectStorage, "open_upload", failing())

    answer = send(caller, conversation.pk, WHOLE)

    problem(answer, 503, "unavailable")
    assert answer.headers["Retry-After"]
    assert "storage_unavailable" in caplog.text
    assert "photo" not in caplog.text
    assert_nothing_is_left(storage)
