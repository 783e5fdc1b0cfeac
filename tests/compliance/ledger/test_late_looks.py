"""A restored database that could not look at first is noticed all the same."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from chatbots.models import Chatbot
from common.storage import ObjectStorage, StorageError
from compliance import worker
from compliance.ledger import content, objects, service, tripwire
from compliance.ledger.content import Header
from compliance.models import LedgerObject, Occurrence, Service
from tests.factories import conversation_of, deletion_of

LINE = {"kind": "withdrawn", "request": str(uuid4()), "chatbot": str(uuid4()), "status": "cancelled", "at": None}


def test_what_was_lost_before_the_newest_known_object_is_found(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage has an error at the first look, and the new server's clock is behind: nothing says that it was
    started since. So the database works on, and writes an object.
    """
    monkeypatch.setattr(tripwire, "_looks_again_at", 0.0)
    ours, lost_at = service.current(), timezone.now() - timedelta(hours=2)
    known_at = lost_at - timedelta(hours=1)
    Service.objects.update(checked_at=known_at)
    LedgerObject.objects.create(key=f"{objects.PREFIX}{ours.service_id}/known", at=known_at)
    key = f"{objects.PREFIX}{ours.service_id}/{lost_at:%Y/%m/%d/%H%M%S}-{uuid4()}.jsonl"
    header = Header(key=key, service_id=ours.service_id, incarnation=ours.incarnation, at=lost_at)
    storage.put(key, content.seal(header, [LINE]), content_type=objects.CONTENT_TYPE)
    conversation_of(chatbot, "alice")
    deletion_of(chatbot, "alice")

    def refuse(*_args: object, **_options: object) -> None:
        raise StorageError("storage_error", "It has an error.", retryable=True)

    with monkeypatch.context() as patched:
        patched.setattr(type(storage), "keys", refuse)
        patched.setattr(tripwire._Before, "up_since", known_at)
        worker.drain(seconds=10)
    written_at = LedgerObject.objects.latest("at").at
    assert written_at > lost_at + tripwire.BEFORE_THE_NEWEST

    # However long this server has been up.
    Service.objects.update(timeline=77)
    tripwire.look()

    assert service.state() != "open"


def test_an_object_that_may_not_be_read_is_not_taken_for_a_foreign_one(
    storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, lost_at = service.current(), timezone.now()
    Service.objects.update(timeline=77)
    key = f"{objects.PREFIX}{ours.service_id}/{lost_at:%Y/%m/%d/%H%M%S}-{uuid4()}.jsonl"
    header = Header(key=key, service_id=ours.service_id, incarnation=ours.incarnation, at=lost_at)
    storage.put(key, content.seal(header, [LINE]), content_type=objects.CONTENT_TYPE)

    def denied(*_args: object) -> None:
        raise StorageError("storage_access_denied", "Grant it s3:GetObject.")

    with monkeypatch.context() as patched:
        patched.setattr(type(storage), "stream", denied)
        with pytest.raises(StorageError):
            tripwire.look()
    assert not Occurrence.objects.filter(name=Occurrence.Name.LEDGER_FOREIGN).exists()

    tripwire.look()
    assert service.state() != "open"
