"""Two people in one conversation with a file: neither deletion completes while the file exists."""

import pytest

from chatbots.models import Chatbot
from common.storage import ObjectStorage, errors
from common.storage.removal import Removal, Removed
from compliance import worker
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from conversations.models import Conversation, Identity, Message, UploadedFile
from tests import factories
from tests.factories import conversation_of, deletion_of

pytestmark = pytest.mark.django_db(transaction=True)

Status = ComplianceRequest.Status
KEY = "uploads/1/shared"


@pytest.fixture
def conversation(chatbot: Chatbot, storage: ObjectStorage) -> Conversation:
    conversation = conversation_of(chatbot, "alice", "bob", messages=3, has_file_upload=True)
    factories.UploadedFileFactory.create(conversation=conversation, object_key=KEY, stored=True)
    storage.put(KEY, b"picture", "image/jpeg")
    conversation_of(chatbot, "carol", messages=2)
    return conversation


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Keys that the storage refuses to remove."""
    keys: set[str] = set()
    remove = Removal.purge_many

    def refuse(self: Removal, asked: list[str]) -> Removed:
        removed = remove(self, [key for key in asked if key not in keys])
        removed.failed |= {key: errors.locked() for key in asked if key in keys}
        return removed

    monkeypatch.setattr(Removal, "purge_many", refuse)
    return keys


def drain() -> None:
    for _ in range(4):
        worker.drain(seconds=30)
        ComplianceRequest.objects.filter(status=Status.ACCEPTED).update(not_before=None)


def state(request: ComplianceRequest) -> tuple[str, str]:
    request.refresh_from_db()
    return request.status, request.error_code


def is_gone(conversation: Conversation, storage: ObjectStorage) -> bool:
    conversation.refresh_from_db()
    rows = [model.objects.filter(conversation=conversation).count() for model in (Message, Identity, UploadedFile)]
    return conversation.deleted_at is not None and rows == [0, 0, 0] and not storage.exists(KEY)


@pytest.mark.long(reason="the same one after the other", beyond=1)
@pytest.mark.parametrize("at_once", [True, False])
def test_neither_deletion_completes_while_the_shared_file_exists(
    chatbot: Chatbot, conversation: Conversation, storage: ObjectStorage, locked: set[str], at_once: bool
) -> None:
    locked.add(KEY)
    requests = [deletion_of(chatbot, "alice")]
    if not at_once:
        drain()
    requests.append(deletion_of(chatbot, "bob"))
    drain()

    assert [state(request) for request in requests] == [("failed", "storage_locked")] * 2
    assert storage.exists(KEY)

    locked.clear()
    decisions.retry(request_id=requests[1].pk, actor="command")
    drain()
    assert state(requests[1]) == ("completed", "")
    assert is_gone(conversation, storage)
    decisions.retry(request_id=requests[0].pk, actor="command")
    drain()
    assert state(requests[0]) == ("completed", "")
    assert Message.objects.count() == 2


@pytest.mark.long(reason="the same one after the other", beyond=1)
@pytest.mark.parametrize("at_once", [True, False])
def test_both_deletions_complete_when_the_shared_file_is_removed(
    chatbot: Chatbot, conversation: Conversation, storage: ObjectStorage, at_once: bool
) -> None:
    requests = [deletion_of(chatbot, "alice")]
    if not at_once:
        drain()
    requests.append(deletion_of(chatbot, "bob"))
    drain()
    assert [state(request) for request in requests] == [("completed", "")] * 2
    assert is_gone(conversation, storage)
    first = requests[0]
    assert (first.conversations, first.messages, first.files, first.shared_conversations) == (1, 3, 1, 1)
    assert Message.objects.count() == 2
