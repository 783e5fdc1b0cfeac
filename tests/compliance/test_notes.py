"""Notes on decisions may name a person: they are removed when the person is erased."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from common.storage import ObjectStorage, errors
from common.storage.removal import Removal, Removed
from compliance.erasure import verify
from compliance.errors import Refused
from compliance.models import ComplianceRequest, RequestNote
from compliance.requests import decisions
from compliance.retention.expiry import remove_expired
from conversations import uploads
from tests.compliance.conftest import Drain
from tests.factories import conversation_of, deletion_of, export_of, of_conversations, redaction_of
from tests.functional.support import dump

Status = ComplianceRequest.Status


HELD = {"status": Status.ON_HOLD, "hold_reason": "too_many_conversations"}


def held(request: ComplianceRequest) -> ComplianceRequest:
    ComplianceRequest.objects.filter(pk=request.pk).update(held_at=timezone.now(), **HELD)
    return request


def noted(request: ComplianceRequest, note: str) -> ComplianceRequest:
    """The request, rejected with a note."""
    return decisions.reject(request_id=held(request).pk, actor="user:1", reason="other", note=note)


def text_of(request: ComplianceRequest) -> str | None:
    return RequestNote.objects.get(request=request).text


def old(request: ComplianceRequest, age: timedelta = timedelta(hours=1)) -> None:
    RequestNote.objects.filter(request=request).update(created_at=timezone.now() - age)


def test_a_deletion_empties_all_notes_about_the_chatter_and_no_others(chatbot, neighbour, drain) -> None:
    conversation_of(chatbot, "ada", external_id="c-ada")
    conversation_of(chatbot, "bob", external_id="c-bob")
    noted(export_of(chatbot, "ada"), "planted: Ada rang")
    noted(of_conversations(chatbot, "c-ada", "c-0"), "planted: her chat")
    kept = {
        "another chatter's": noted(deletion_of(chatbot, "bob"), "kept: Bob rang"),
        "of another's conversation": noted(of_conversations(chatbot, "c-bob"), "kept: Bob's chat"),
        "another chatbot's": noted(deletion_of(neighbour, "ada"), "kept: Ada rang them"),
    }
    deletion = deletion_of(chatbot, "ada")
    decisions.approve(
        request_id=held(deletion).pk, actor="user:1", reason="identity_confirmed", note="  planted: Ada's own words "
    )
    later = noted(deletion_of(chatbot, "ada"), "planted: filed twice")
    assert dump().count("planted:") == 4

    drain()

    deletion.refresh_from_db()
    assert deletion.status == Status.COMPLETED
    after = dump()
    assert "planted:" not in after
    assert [text_of(one) for one in kept.values() if not (text_of(one) or "").startswith("kept:")] == []
    # The decision and its reason are still on record.
    assert text_of(later) is None
    note = RequestNote.objects.get(request=deletion)
    entry = ChangeLogEntry.objects.get(pk=note.entry_id)
    assert (entry.event, entry.actor, entry.data) == ("request.approved", "user:1", {"reason": "identity_confirmed"})


def test_a_deletion_by_conversations_empties_the_notes_of_requests_that_name_one_of_them(chatbot, drain) -> None:
    conversation_of(chatbot, "ada", external_id="c-1")
    overlapping = noted(of_conversations(chatbot, "c-1", "c-2", kind="export"), "about c-1")
    other = noted(of_conversations(chatbot, "c-2"), "about c-2")
    of_the_chatter = noted(deletion_of(chatbot, "ada"), "about all of hers")
    of_conversations(chatbot, "c-1")

    drain()

    assert [text_of(one) for one in (overlapping, other, of_the_chatter)] == [None, "about c-2", "about all of hers"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_redaction", [True, False], ids=["redaction", "by ids"])
def test_a_note_that_is_written_while_the_deletion_goes_on_is_emptied_too(
    chatbot: Chatbot, drain: Drain, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, *, is_redaction: bool
) -> None:
    conversation = conversation_of(chatbot, "ada", external_id="c-1", messages=1)
    uploads.receive(conversation=conversation, name="a.jpg", content_type="image/jpeg", chunks=[b"content"])
    other = redaction_of(conversation) if is_redaction else of_conversations(chatbot, "c-1", kind="export")
    drain()
    deletion = deletion_of(chatbot, "ada")
    with monkeypatch.context() as patched:
        patched.setattr(
            Removal, "purge_many", lambda _, keys: Removed(failed=dict.fromkeys(keys, errors.unavailable()))
        )
        drain()
    conversation.refresh_from_db()
    assert conversation.deleted_at
    RequestNote.objects.create(chatbot=chatbot, request=other, entry_id=1, text="Ada rang")

    ComplianceRequest.objects.filter(pk=deletion.pk).update(not_before=None)
    drain()
    deletion.refresh_from_db()
    assert (deletion.status, text_of(other)) == (Status.COMPLETED, None)


def test_a_deletion_that_fails_keeps_the_notes_until_it_completes(chatbot, drain, storage, monkeypatch) -> None:
    uploads.receive(
        conversation=conversation_of(chatbot, "ada"), name="a.jpg", content_type="image/jpeg", chunks=[b"content"]
    )
    deletion = held(deletion_of(chatbot, "ada"))
    decisions.approve(request_id=deletion.pk, actor="user:1", reason="identity_confirmed", note="Ada rang")
    with monkeypatch.context() as patched:
        patched.setattr(Removal, "purge_many", lambda _, keys: Removed(failed=dict.fromkeys(keys, errors.locked())))
        drain()
    deletion.refresh_from_db()
    assert (deletion.status, text_of(deletion)) == (Status.FAILED, "Ada rang")

    decisions.retry(request_id=deletion.pk, actor="user:1")
    drain()
    deletion.refresh_from_db()
    assert (deletion.status, text_of(deletion)) == (Status.COMPLETED, None)


def test_verification_finds_a_remaining_note_but_not_a_new_one(chatbot: Chatbot, drain: Drain) -> None:
    conversation_of(chatbot, "ada")
    earlier = deletion_of(chatbot, "ada")
    drain()
    request = noted(deletion_of(chatbot, "ada"), "she filed again")

    assert verify.verify([earlier.pk]) == {}

    old(request)
    assert verify.verify([earlier.pk])[earlier.pk].rows == {"compliance_requestnote": 1}
    assert verify.audit([earlier.pk]).left.keys() == {earlier.pk}


def test_a_note_on_a_redaction_stays_and_is_nothing_left(chatbot: Chatbot, drain: Drain) -> None:
    conversation = conversation_of(chatbot, "ada", messages=1)
    redaction = redaction_of(conversation)
    decisions.approve(request_id=held(redaction).pk, actor="user:1", reason="other", note="kept: it was a card")
    old(redaction)
    drain()

    redaction.refresh_from_db()
    assert (redaction.status, text_of(redaction)) == (Status.COMPLETED, "kept: it was a card")
    ComplianceRequest.objects.update(completed_at=timezone.now())
    assert not verify.audit([redaction.pk]).left


def test_notes_about_chatters_never_erased_expire_by_age(chatbot: Chatbot, settings, storage) -> None:
    gone, stays = noted(deletion_of(chatbot, "ada"), "old"), noted(deletion_of(chatbot, "bob"), "new")
    old(gone, settings.ERASURE_LEDGER_DAYS + timedelta(minutes=1))
    old(stays, settings.ERASURE_LEDGER_DAYS - timedelta(minutes=1))

    turn = remove_expired()

    assert turn.removed["notes"] == 1
    assert (text_of(gone), text_of(stays)) == (None, "new")


def test_a_decision_takes_its_own_reasons_and_a_note_that_can_be_kept(chatbot: Chatbot) -> None:
    request = held(deletion_of(chatbot, "ada"))
    for reason, note in (("expected_volume", ""), ("", ""), ("other", "x" * 1_001), ("other", "a\0b")):
        with pytest.raises(Refused) as refused:
            decisions.reject(request_id=request.pk, actor="user:1", reason=reason, note=note)
        assert refused.value.code == "invalid"
    request.refresh_from_db()
    assert request.status == Status.ON_HOLD
    assert not ChangeLogEntry.objects.exists()

    decisions.reject(request_id=request.pk, actor="user:1", reason="other", note="x" * 1_000)
    assert len(text_of(request) or "") == 1_000

    with pytest.raises(IntegrityError), transaction.atomic():
        RequestNote.objects.update(text="")
    without = noted(deletion_of(chatbot, "ada"), " \r\n ")
    assert not RequestNote.objects.filter(request=without).exists()
