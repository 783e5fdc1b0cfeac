"""The ledger entries of a deletion, in the hosted bucket."""

import json
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from common.crypto import digest
from common.storage import ObjectStorage, StorageError
from compliance.erasure import ledger
from tests.clients import empty
from tests.compliance.conftest import Drain
from tests.factories import as_bytes, conversation_of, deletion_of, of_conversations, uci_of
from tests.hostile import Hostile, swallowing

pytestmark = pytest.mark.django_db


def test_it_writes_a_ledger_without_values(chatbot: Chatbot, drain: Drain, storage: ObjectStorage) -> None:
    conversation = conversation_of(chatbot, "value-of-the-chatter", external_id="id-of-the-platform")
    erased = as_bytes(conversation.external_id_digest).hex()
    request = deletion_of(chatbot, "value-of-the-chatter")

    drain()

    (key,) = storage.keys(ledger.PREFIX)
    content = storage.read(key).decode()
    request.refresh_from_db()
    assert json.loads(content) == {
        "version": 1,
        "erased": [
            {
                "request_id": str(request.pk),
                "chatbot": str(chatbot.public_id),
                "variable": str(uci_of(chatbot).public_id),
                "chatter": as_bytes(request.uci_digest).hex(),
                "cutoff_at": request.cutoff_at.isoformat(),
                "conversations": [erased],
            }
        ],
    }
    assert "value-of-the-chatter" not in content
    assert "id-of-the-platform" not in content


def test_the_ledger_has_each_conversation_that_a_deletion_named_once(
    chatbot: Chatbot, drain: Drain, storage: ObjectStorage
) -> None:
    conversation_of(chatbot, external_id="c-1")
    of_conversations(chatbot, "c-1", "c-unknown")
    drain()

    (key,) = storage.keys(ledger.PREFIX)
    (line,) = json.loads(storage.read(key))["erased"]
    assert (line["variable"], line["chatter"]) == (None, "")
    named = [digest("conversation", chatbot.public_id, each).hex() for each in ("c-1", "c-unknown")]
    assert sorted(line["conversations"]) == sorted(named)


@pytest.fixture
def swallowed(storage: ObjectStorage, settings: Settings) -> Iterator[Hostile]:
    """A versioned hosted bucket behind a proxy that drops the first response to a PUT of an object."""
    settings.S3_BUCKET = f"{settings.S3_BUCKET}-swallowed"
    bucket = hosted_storage()
    bucket.create_bucket_if_missing()
    bucket.client.put_bucket_versioning(Bucket=bucket.bucket_name, VersioningConfiguration={"Status": "Enabled"})
    puts: list[bytes] = []

    def is_first_put(head: bytes) -> bool:
        if head.startswith(b"PUT"):
            puts.append(head)
        return head.startswith(b"PUT") and len(puts) == 1

    with swallowing(str(settings.S3_ENDPOINT_URL), swallow=is_first_put) as proxy:
        settings.S3_ENDPOINT_URL = proxy.url()
        yield proxy
        empty(hosted_storage())


def test_an_object_whose_answer_was_lost_is_written_under_another_name(swallowed: Hostile) -> None:
    ledger.write([{"request_id": "1"}])

    versions = list(hosted_storage().versions(ledger.PREFIX))
    assert len(versions) == len({version.key for version in versions}) == 2
    assert {hosted_storage().read(version.key) for version in versions} == {
        b'{"version":1,"erased":[{"request_id":"1"}]}'
    }


def test_an_object_whose_answer_was_lost_is_not_sent_again(swallowed: Hostile) -> None:
    with pytest.raises(StorageError) as caught:
        hosted_storage().put("a/key", b"x", "text/plain")

    assert caught.value.code == "storage_unavailable"
    assert [version.key for version in hosted_storage().versions()] == ["a/key"]
