"""Accepted, withdrawn and revoked requests are in the ledger within seconds, before they are carried out."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from chatbots.models import Chatbot
from chatbots.operations.keys import revoke_api_key
from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import rows
from compliance.errors import StepFailed
from compliance.ledger import journal
from compliance.models import ComplianceRequest, JournalEntry, Occurrence
from compliance.requests import decisions
from compliance.work import health
from conversations import uploads
from conversations.models import Conversation
from tests import factories
from tests.factories import conversation_of, deletion_of, export_of
from tests.ledger import lines_of
from tests.patches import failing


def become_due() -> None:
    JournalEntry.objects.update(at=Now() - timedelta(seconds=health.JOURNAL_AGE_SECONDS))
    Occurrence.objects.filter(name=Occurrence.Name.JOURNAL).delete()


def kinds(storage: ObjectStorage) -> list[tuple[str, str | None]]:
    return [(line["kind"], line.get("request", line.get("key"))) for line in lines_of(storage)]


def test_what_waits_is_written_once(chatbot: Chatbot, storage: ObjectStorage) -> None:
    later = timezone.now() + timedelta(hours=1)
    requests = [deletion_of(chatbot, "42", not_before=later), export_of(chatbot, "42", not_before=later)]
    journal.write_due()
    assert kinds(storage) == [], "Most young ones are done at once."

    become_due()
    worker.drain()
    become_due()
    worker.drain()

    assert kinds(storage) == [("accepted", str(one.pk)) for one in requests]
    assert not JournalEntry.objects.exists()


def test_a_request_that_the_journal_has_is_not_written_again_before_it_is_carried_out(chatbot, storage) -> None:
    conversation_of(chatbot, "42")
    request = deletion_of(chatbot, "42")
    become_due()
    journal.write_due()

    worker.drain()

    assert kinds(storage) == [("accepted", str(request.pk)), ("exact", str(request.pk))]


def test_no_file_goes_before_the_ledger_says_that_the_deletion_has_begun(chatbot, storage, monkeypatch) -> None:
    file = uploads.receive(
        conversation=conversation_of(chatbot, "42"), name="a.jpg", content_type="image/jpeg", chunks=[b"content"]
    )
    request = deletion_of(chatbot, "42")
    monkeypatch.setattr(rows, "fits_one_chunk", lambda _: False)

    with monkeypatch.context() as patched:
        patched.setattr(journal, "intend", failing(StepFailed("storage_unavailable", "It did not answer.")))
        worker.drain()
    request.refresh_from_db()
    assert (request.status, request.error_code) == ("accepted", "storage_unavailable")
    assert storage.exists(file.object_key)

    ComplianceRequest.objects.update(not_before=None)
    worker.drain()
    journal.intend([request.pk])  # as another claim of one that has removed something
    assert [kind for kind, _ in kinds(storage)] == ["accepted", "intended", "exact"]
    assert not storage.exists(file.object_key)


@pytest.mark.parametrize("how", ["cancel", "reject"])
def test_a_withdrawn_request_is_in_the_ledger(chatbot: Chatbot, storage: ObjectStorage, how: str) -> None:
    request = deletion_of(chatbot, "42", status="on_hold", hold_reason="awaiting_approval", held_at=Now())
    getattr(decisions, how)(request_id=request.pk, actor="command", reason="other")

    become_due()
    journal.write_due()

    accepted, withdrawn = lines_of(storage)
    request.refresh_from_db()
    assert (accepted["kind"], accepted["request"]) == ("accepted", str(request.pk))
    assert withdrawn == {
        "kind": "withdrawn",
        "request": str(request.pk),
        "chatbot": str(chatbot.public_id),
        "status": request.status,
        "at": (request.cancelled_at or request.rejected_at).isoformat(),
        "answered_at": None,
    }


def test_a_revoked_key_is_in_the_ledger(chatbot: Chatbot, storage: ObjectStorage) -> None:
    key = factories.ApiKeyFactory.create(chatbot=chatbot)
    revoke_api_key(prefix=key.prefix, actor="command")

    become_due()
    journal.write_due()

    key.refresh_from_db()
    assert lines_of(storage) == [
        {
            "kind": "key_revoked",
            "chatbot": str(chatbot.public_id),
            "key": key.prefix,
            "revoked_at": key.revoked_at.isoformat(),
        }
    ]


def test_nothing_is_marked_and_nothing_forgotten_while_the_storage_is_down(chatbot, storage, monkeypatch) -> None:
    conversation_of(chatbot, "42")
    request = deletion_of(chatbot, "42")
    become_due()

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStorage, "put", failing())
        worker.drain()

    request.refresh_from_db()
    assert (request.status, request.cutoff_at, request.error_code) == ("accepted", None, "storage_unavailable")
    assert Conversation.objects.filter(deletion_request_id=None).count() == 1
    assert JournalEntry.objects.get().request_id == request.pk


def test_many_are_written_in_bounded_steps(chatbot, storage, monkeypatch) -> None:
    monkeypatch.setattr(journal, "_AT_ONCE", 2)
    requests = [deletion_of(chatbot, str(number), not_before=Now() + timedelta(hours=1)) for number in range(5)]
    become_due()

    journal.write_due()

    assert kinds(storage) == [("accepted", str(one.pk)) for one in requests]
