"""Uploads through a web server into the storage, with concurrent events."""

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from pytest_django import Settings

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.ledger import objects as ledger
from compliance.models import ComplianceRequest
from conversations.models import Conversation, UploadedFile
from tests.calls import TokenCaller
from tests.compliance.exporting import open_uploads
from tests.conversations.forms import BOUNDARY, FORM, file
from tests.factories import conversation_of, deletion_of
from tests.functional.support import wait_until
from tests.functional.web import WebServer, web_server

MIB = 1024 * 1024
BEGIN = f"--{BOUNDARY}\r\n".encode() + file(b"")
END = f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture
def conversation(chatbot: Chatbot, storage: ObjectStorage, settings: Settings) -> Conversation:
    settings.UPLOAD_MAX_BYTES = 200 * MIB
    return conversation_of(chatbot, "42")


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[WebServer]:
    with web_server(UPLOAD_MAX_BYTES=str(200 * MIB)) as server:
        yield server


class Upload:
    """A call that sends a file of this size, as the application sees it while it arrives."""

    def __init__(self, conversation: Conversation, *, size: int) -> None:
        read, write = os.pipe()
        self._sent, self._stream = os.fdopen(write, "wb", buffering=0), os.fdopen(read, "rb")
        self._threads = ThreadPoolExecutor(1)
        length = len(BEGIN) + size + len(END)
        self._answer = self._threads.submit(self._call, TokenCaller(conversation.chatbot), conversation, length)
        self.send(BEGIN)

    def send(self, content: bytes) -> None:
        """Send more of it; a call that reads no more has answered."""
        for start in range(0, len(content), MIB):
            if not self._answer.done():
                self._sent.write(content[start : start + MIB])

    def answer(self) -> tuple[int, dict[str, Any]]:
        self._sent.close()
        response = self._answer.result(20)
        self._threads.shutdown()
        return response.status_code, response.json()

    def _call(self, caller: TokenCaller, conversation: Conversation, length: int) -> Any:
        server: dict[str, Any] = {"wsgi.input": self._stream, "CONTENT_TYPE": FORM, "CONTENT_LENGTH": str(length)}
        path = caller.url(f"conversations/{conversation.pk}/files")
        try:
            return caller.client.generic("POST", path, b"", FORM, headers=caller.credentials(b""), **server)
        finally:
            with self._stream:
                self._stream.read()
            connections.close_all()


def objects(storage: ObjectStorage) -> list[str]:
    return [version.key for version in storage.versions() if not version.key.startswith(ledger.PREFIX)]


@pytest.mark.long(reason="sends a file of 150 MiB")
def test_memory_does_not_grow_with_a_file(server, conversation, storage) -> None:
    size, block = 150 * MIB, b"x" * MIB
    before = server.peak_memory()
    caller = TokenCaller(conversation.chatbot)

    def chunks() -> Iterator[bytes]:
        yield BEGIN
        for _ in range(size // MIB):
            yield block
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
    assert server.peak_memory() - before < 80 * MIB


def test_a_caller_who_hangs_up_leaves_nothing(conversation, storage) -> None:
    upload = Upload(conversation, size=50 * MIB)
    upload.send(b"x" * 20 * MIB)
    wait_until(lambda: bool(open_uploads(storage)))
    assert upload.answer()[0] == 400

    assert not UploadedFile.objects.exclude(name="").exists()
    assert open_uploads(storage) == []
    assert objects(storage) == []
    assert UploadedFile.objects.get().state == "uploading"


def test_a_deletion_that_meets_an_upload_leaves_no_object_no_row_and_no_open_upload(conversation, storage) -> None:
    neighbour = conversation_of(conversation.chatbot, "43")
    beside = Upload(neighbour, size=10 * MIB)
    beside.send(b"y" * MIB)
    upload = Upload(conversation, size=50 * MIB)
    upload.send(b"x" * 20 * MIB)
    wait_until(lambda: len(open_uploads(storage)) == 2)
    request = deletion_of(conversation.chatbot, "42")

    assert not worker.drain(seconds=60)
    upload.send(b"x" * 30 * MIB + END)
    status, answer = upload.answer()

    assert (status, answer["code"]) == (410, "conversation_deleted")
    request.refresh_from_db()
    assert (request.status, request.files) == (ComplianceRequest.Status.COMPLETED, 0)
    assert not UploadedFile.objects.filter(conversation=conversation).exists()
    assert len(open_uploads(storage)) == 1
    assert objects(storage) == []

    beside.send(b"y" * 9 * MIB + END)
    assert beside.answer()[0] == 201
    assert [UploadedFile.objects.get().object_key] == objects(storage)
    assert open_uploads(storage) == []
