"""A file on its way through a real web server: memory, callers who hang up, deletions that come in between."""

import hashlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from chatbots.buckets import ObjectStorage, hosted_storage
from chatbots.models import Chatbot
from compliance import worker
from compliance.erasure import ledger
from compliance.models import ComplianceRequest
from conversations.models import Conversation, UploadedFile
from tests.calls import TokenCaller
from tests.conversations.forms import BOUNDARY, FORM, file
from tests.factories import conversation_of, deletion_of
from tests.functional.web import WebServer, web_server
from tests.s3_server import ADMIN, running

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 1024 * 1024
BEGIN = f"--{BOUNDARY}\r\n".encode() + file(b"")
END = f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture
def conversation(chatbot: Chatbot, storage: ObjectStorage) -> Conversation:
    return conversation_of(chatbot, "42")


@pytest.fixture
def server(conversation: Conversation) -> Iterator[WebServer]:
    with web_server(UPLOAD_MAX_BYTES=str(200 * MIB)) as server:
        yield server


def begin(server: WebServer, conversation: Conversation, *, size: int) -> http.client.HTTPConnection:
    """Send the head of an upload of so many bytes, and all that comes before the file."""
    caller = TokenCaller(conversation.chatbot)
    connection = server.connect()
    connection.putrequest("POST", caller.url(f"conversations/{conversation.pk}/files"))
    headers = {**caller.credentials(b""), "Content-Type": FORM, "Content-Length": str(len(BEGIN) + size + len(END))}
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(BEGIN)
    return connection


def open_uploads(storage: ObjectStorage) -> int:
    client = storage.connection.meta.client
    return len(client.list_multipart_uploads(Bucket=storage.bucket_name).get("Uploads", []))


def wait_until(happens: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < end, "It does not happen."
        time.sleep(0.05)


def objects(storage: ObjectStorage) -> list[str]:
    return [version.key for version in storage.versions() if not version.key.startswith(ledger.PREFIX)]


def test_memory_does_not_grow_with_a_file_and_nothing_waits_for_its_end(server, conversation, storage) -> None:
    size, block = 150 * MIB, b"x" * MIB
    before = server.peak_memory()
    caller = TokenCaller(conversation.chatbot)
    seen_open = []

    def chunks() -> Iterator[bytes]:
        yield BEGIN
        for sent in range(size // MIB):
            yield block
            if sent == 100:
                seen_open.append(open_uploads(storage))
        yield END

    connection = server.connect()
    path = caller.url(f"conversations/{conversation.pk}/files")
    connection.request("POST", path, chunks(), {**caller.credentials(b""), "Content-Type": FORM}, encode_chunked=True)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()

    assert response.status == 201, answer["code"]
    assert answer["bytes"] == size
    assert answer["sha256"] == hashlib.sha256(b"x" * size).hexdigest()
    assert seen_open == [1]
    assert server.peak_memory() - before < 80 * MIB


def test_a_caller_who_hangs_up_leaves_nothing(server, conversation, storage) -> None:
    connection = begin(server, conversation, size=50 * MIB)
    connection.send(b"x" * 20 * MIB)
    wait_until(lambda: open_uploads(storage))

    connection.close()

    wait_until(lambda: not UploadedFile.objects.exclude(name="").exists())
    assert open_uploads(storage) == 0
    assert objects(storage) == []
    assert UploadedFile.objects.get().state == "uploading"


def test_a_deletion_that_meets_an_upload_leaves_no_object_no_row_and_no_open_upload(
    server, conversation, storage
) -> None:
    neighbour = conversation_of(conversation.chatbot, "43")
    beside = begin(server, neighbour, size=10 * MIB)
    beside.send(b"y" * MIB)
    connection = begin(server, conversation, size=50 * MIB)
    connection.send(b"x" * 20 * MIB)
    wait_until(lambda: open_uploads(storage) == 2)
    request = deletion_of(conversation.chatbot, "42")

    assert not worker.drain(seconds=60)
    connection.send(b"x" * 30 * MIB + END)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()

    assert (response.status, answer["code"]) == (410, "conversation_deleted")
    request.refresh_from_db()
    assert (request.status, request.files) == (ComplianceRequest.Status.COMPLETED, 0)
    assert not UploadedFile.objects.filter(conversation=conversation).exists()
    assert open_uploads(storage) == 1
    assert objects(storage) == []

    beside.send(b"y" * 9 * MIB + END)
    assert beside.getresponse().status == 201
    beside.close()
    assert [UploadedFile.objects.get().object_key] == objects(storage)
    assert open_uploads(storage) == 0


def test_a_connection_serves_again_after_a_refusal(server, conversation) -> None:
    caller = TokenCaller(conversation.chatbot)
    connection = server.connect()
    for content_type, status in (("text/html", 415), ("image/png", 201)):
        body = f"--{BOUNDARY}\r\n".encode() + file(b"x" * MIB, content_type=content_type) + END
        path = caller.url(f"conversations/{conversation.pk}/files")
        connection.request("POST", path, body, {**caller.credentials(b""), "Content-Type": FORM})
        response = connection.getresponse()
        assert response.status == status
        response.read()
    connection.close()


def test_a_storage_that_stops_in_mid_upload_is_told_and_what_is_left_goes_later(
    chatbot: Chatbot, settings: Settings
) -> None:
    conversation = conversation_of(chatbot, "42")
    with running() as s3:
        settings.S3_ENDPOINT_URL = settings.S3_PUBLIC_ENDPOINT_URL = s3.endpoint
        settings.S3_ACCESS_KEY_ID, settings.S3_SECRET_ACCESS_KEY = ADMIN.access_key, ADMIN.secret_key
        settings.S3_BUCKET = "clients"
        storage = hosted_storage()
        with web_server(UPLOAD_MAX_BYTES=str(200 * MIB)) as server:
            connection = begin(server, conversation, size=50 * MIB)
            connection.send(b"x" * 20 * MIB)
            wait_until(lambda: open_uploads(storage))
            s3.stop()

            connection.send(b"x" * 30 * MIB + END)
            response = connection.getresponse()
            answer = json.loads(response.read())
            connection.close()

        assert (response.status, answer["code"]) == (503, "unavailable")
        assert UploadedFile.objects.get().state == "uploading"
        s3.start()
        assert objects(storage) == []

        UploadedFile.objects.update(created_at=timezone.now() - timedelta(days=2))
        worker.sweep()
        assert not UploadedFile.objects.exists()
        assert open_uploads(storage) == 0
