"""A day whose extract failed long before a deletion affects it."""

import pytest

from chatbots.models import Chatbot
from common.storage import ObjectStorage, StorageError
from compliance import worker
from compliance.models import ComplianceRequest
from conversations.intake import store
from conversations.models import DailyExtract
from tests.conversations.documents import message, parsed
from tests.extracting import FIRST, conversation_on, extract_of, lines, make_all, noon, planned, work_on_next
from tests.factories import deletion_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("refused_at_once")]


def test_a_new_deletion_has_a_failed_day_rebuilt(chatbot, storage, monkeypatch) -> None:
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


def failed_at_it(chatbot: Chatbot) -> ComplianceRequest:
    """A deletion that has erased the rows and failed at the day."""
    conversation_on(chatbot, "alice", noon())
    planned(chatbot)
    make_all()
    request = deletion_of(chatbot, "alice")
    work_on_next()
    DailyExtract.objects.update(state="failed", error_code="storage_access_denied")
    ComplianceRequest.objects.update(not_before=None)
    work_on_next()
    request.refresh_from_db()
    assert (request.status, request.error_code) == ("failed", "storage_access_denied")
    return request


def test_a_deletion_that_fails_at_a_failed_day_does_not_change_it(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """A retry of the deletion rebuilds it."""
    failed_at_it(chatbot)

    assert extract_of(chatbot).state == "failed"


def test_a_second_deletion_has_a_failed_day_rebuilt_and_waits_for_it(chatbot, storage) -> None:
    failed_at_it(chatbot)
    second = deletion_of(chatbot, "alice")
    work_on_next()
    second.refresh_from_db()
    assert (second.status, second.waiting_for, second.attempts) == ("accepted", "extracts", 0)

    assert not worker.drain()
    second.refresh_from_db()
    assert (second.status, second.extracts) == ("completed", 1)
    assert lines(storage, extract_of(chatbot)) == []
