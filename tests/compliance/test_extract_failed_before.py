"""A day whose extract could not be made, long before a deletion touches it."""

import pytest

from chatbots.buckets import ObjectStorage, StorageError
from chatbots.models import Chatbot
from compliance import worker
from conversations.intake import store
from tests.conversations.documents import message, parsed
from tests.extracting import FIRST, conversation_on, extract_of, lines, make_all, noon, planned
from tests.factories import deletion_of

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_new_deletion_has_it_made_again(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> str:
        raise StorageError("storage_access_denied", "Grant it s3:PutObject.")

    for member in ("alice", "bob"):
        conversation_on(chatbot, member, noon(), text=f"words of {member}")
    planned(chatbot)
    make_all()
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStorage, "open_upload", refuse)
        late = message("m9", text="words of carol", sent_at=noon().isoformat())
        store(chatbot=chatbot, documents=[parsed("late", custom_variables={"member_id": "carol"}, messages=[late])])
        make_all()
    assert (extract_of(chatbot).state, extract_of(chatbot).error_code) == ("failed", "storage_access_denied")

    request = deletion_of(chatbot, "alice")
    assert not worker.drain()

    request.refresh_from_db()
    assert (request.status, request.error_code, request.extracts) == ("completed", "", 1)
    assert {line["text"] for line in lines(storage, extract_of(chatbot, FIRST))} == {"words of bob", "words of carol"}
