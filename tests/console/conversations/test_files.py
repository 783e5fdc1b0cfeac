"""The files of a conversation in the console: listed on its page, downloaded by a short-lived link."""

import http.client
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from chatbots.models import ChangeLogEntry, Chatbot
from common.storage import ObjectStorage, StorageError
from conversations import uploads
from conversations.models import Conversation, UploadedFile
from tests.factories import UploadedFileFactory, conversation_of
from tests.patches import failing
from tests.people import Role, member


@pytest.fixture
def conversation(chatbot: Chatbot, storage: ObjectStorage) -> Conversation:
    return conversation_of(chatbot, "42")


def stored(conversation: Conversation, **fields: str) -> UploadedFile:
    arguments = {"name": "photo.jpg", "content_type": "image/jpeg"} | fields
    return uploads.receive(conversation=conversation, chunks=[b"a photo"], **arguments)


def link_of(file: UploadedFile) -> str:
    return reverse("console:conversation_file", args=[file.conversation_id, file.pk])


def page_of(conversation: Conversation) -> str:
    return reverse("console:conversation", args=[conversation.pk])


def fetch(address: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Download as a browser without credentials does."""
    link = urlsplit(address)
    connection = http.client.HTTPConnection(link.netloc)
    try:
        connection.request("GET", f"{link.path}?{link.query}")
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def test_a_conversations_page_lists_its_files(admin_client, conversation):
    file = stored(conversation)
    unfinished = UploadedFileFactory.create(conversation=conversation, name="half.pdf")
    of_another = stored(conversation_of(conversation.chatbot, "43"), name="another.png")

    text = admin_client.get(page_of(conversation)).text

    for shown in ("photo.jpg", "image/jpeg", "half.pdf", "Uploading", link_of(file)):
        assert shown in text
    for hidden in (link_of(unfinished), "another.png", link_of(of_another), file.object_key):
        assert hidden not in text


def test_a_file_is_downloaded_and_the_change_log_records_it(conversation):
    file = stored(conversation)
    client = member(conversation.chatbot, Role.SUPPORT)
    for call in (client.head, client.post):
        assert call(link_of(file)).status_code == 405
    assert not ChangeLogEntry.objects.filter(event="file.downloaded").exists()

    answer = client.get(link_of(file))

    assert answer.status_code == 302
    assert "no-store" in answer.headers["Cache-Control"]
    status, content, headers = fetch(answer.headers["Location"])
    assert (status, content) == (200, b"a photo")
    assert headers["Content-Disposition"] == 'attachment; filename="photo.jpg"'
    assert headers["Content-Type"] == "image/jpeg"
    assert "X-Amz-Expires=300" in answer.headers["Location"]
    assert "photo" not in answer.headers["Location"]
    entry = ChangeLogEntry.objects.get(event="file.downloaded")
    assert entry.chatbot == conversation.chatbot
    assert entry.actor == f"user:{User.objects.get().pk}"
    assert entry.data == {"file": file.pk, "conversation": conversation.pk}


def test_a_name_cannot_mislead_the_browser(admin_client, conversation):
    for name, found in (
        ('Zoë\'s "photo" 😀.jpg', "attachment; filename*=utf-8''Zoë's \"photo\" 😀.jpg"),
        ("a\r\nSet-Cookie: x.jpg", 'attachment; filename="a__Set-Cookie: x.jpg"'),
        ("photo\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe", 'attachment; filename="photo_gpj.exe"'),
        ("../a\\b.jpg", 'attachment; filename=".._a_b.jpg"'),
        ("😀" * 251 + ".jpg", "attachment; filename*=utf-8''" + "😀" * 117 + ".jpg"),
        ("x" * 255, f'attachment; filename="{"x" * 120}"'),
    ):
        file = stored(conversation, name=name)

        status, _, headers = fetch(admin_client.get(link_of(file)).headers["Location"])

        assert status == 200
        assert unquote(headers["Content-Disposition"]) == found
        assert "Set-Cookie" not in headers


def test_a_viewer_sees_a_file_but_cannot_download_it(conversation):
    file = stored(conversation)
    viewer = member(conversation.chatbot, Role.VIEWER)

    page = viewer.get(page_of(conversation)).text
    assert ("photo.jpg" in page, link_of(file) in page) == (True, False)
    Conversation.objects.update(deletion_request_id=uuid4())
    assert viewer.get(link_of(file)).status_code == 403
    Conversation.objects.update(deletion_request_id=None)
    assert viewer.get(link_of(file)).status_code == 403
    assert not ChangeLogEntry.objects.filter(event="file.downloaded").exists()


def test_neither_an_unfinished_file_nor_one_after_the_mark_is_downloaded(admin_client, conversation):
    assert admin_client.get(link_of(UploadedFileFactory.create(conversation=conversation))).status_code == 410
    file = stored(conversation)
    Conversation.objects.filter(pk=conversation.pk).update(deletion_request_id=uuid4())

    answer = admin_client.get(link_of(file))

    assert answer.status_code == 410
    assert not ChangeLogEntry.objects.filter(event="file.downloaded").exists()


def test_unusable_storage_is_reported(admin_client, conversation, monkeypatch):
    file = stored(conversation)

    monkeypatch.setattr(
        ObjectStorage,
        "link",
        failing(StorageError("storage_incomplete", "The storage's address or its settings cannot be used.")),
    )

    answer = admin_client.get(link_of(file))
    assert answer.status_code == 503
    assert "address or its settings cannot be used." in answer.text
