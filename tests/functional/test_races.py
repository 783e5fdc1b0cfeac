"""Races with a running erasure, in real transactions on separate connections."""

from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import marking, rows
from compliance.errors import ClaimLost
from compliance.ledger import journal
from compliance.models import Claim, ComplianceRequest
from compliance.work import claims, sizes
from conversations import intake, locks
from conversations import rows as intake_rows
from conversations.models import Conversation, Identity, Message
from tests.conversations.documents import message, parsed
from tests.factories import conversation_of, deletion_of
from tests.functional.elsewhere import PATIENCE, Elsewhere, uncommitted

Status = ComplianceRequest.Status
Kind = ComplianceRequest.Kind


def test_a_document_for_an_erased_conversation_while_it_is_being_erased(chatbot, storage, gates) -> None:
    conversation_of(chatbot, "42", external_id="c-1")
    request = deletion_of(chatbot, "42")
    gate = gates(rows, "erase")
    deletion = Elsewhere(lambda: worker.drain(seconds=PATIENCE))
    gate.wait_for_caller()
    late = Elsewhere(lambda: intake.store(chatbot=chatbot, documents=[parsed("c-1")]))

    assert late.waits  # the mark and its first chunk are not committed yet
    gate.open()
    deletion.end()
    (outcome,) = late.end()

    request.refresh_from_db()
    assert (outcome.outcome, outcome.errors[0].code) == ("refused", "conversation_deleted")
    assert (request.status, request.messages) == (Status.COMPLETED, 2)
    assert not Message.objects.exists()


def test_a_conversation_that_is_committed_while_the_mark_waits_is_erased_too(chatbot, storage, gates) -> None:
    conversation_of(chatbot, "42")
    request = deletion_of(chatbot, "42")
    gate = gates(intake_rows, "write", after=True)
    arriving = Elsewhere(lambda: intake.store(chatbot=chatbot, documents=[parsed("new", messages=[message()])]))
    gate.wait_for_caller()
    deletion = Elsewhere(lambda: worker.drain(seconds=PATIENCE))

    assert deletion.waits  # for the intake that began before it
    gate.open()
    assert arriving.end()[0].outcome == "created"
    deletion.end()

    request.refresh_from_db()
    assert (request.status, request.conversations, request.messages) == (Status.COMPLETED, 2, 3)
    assert not Identity.objects.exists()
    assert Conversation.objects.filter(deleted_at__isnull=True).count() == 0


def test_a_worker_that_wakes_after_its_claim_expired_writes_nothing(chatbot, storage, gates) -> None:
    conversation_of(chatbot, "42", messages=5)
    request = deletion_of(chatbot, "42")
    gate = gates(journal, "conclude")
    sleeper = Elsewhere(lambda: worker.drain(seconds=PATIENCE))
    gate.wait_for_caller()
    Claim.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    worker.drain(seconds=PATIENCE)
    gate.open()
    sleeper.end()

    request.refresh_from_db()
    assert (request.status, request.messages, request.attempts) == (Status.COMPLETED, 5, 1)
    events = ChangeLogEntry.objects.filter(request_id=request.pk).values_list("event", flat=True)
    assert list(events).count("request.completed") == 1
    assert not Claim.objects.exists()


def test_a_mark_of_a_lost_claim_writes_nothing(chatbot: Chatbot) -> None:
    conversation_of(chatbot, "42")
    deletion_of(chatbot, "42")
    held = claims.take(Kind.DELETION)
    assert held
    admitted = marking.admit(held, sizes.measure(held))
    Claim.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert claims.requeue_expired() == 1

    with pytest.raises(ClaimLost):
        marking.mark(held, admitted, erases=True)

    assert not Conversation.objects.filter(deletion_request_id__isnull=False).exists()


def test_a_claim_in_the_middle_of_a_transaction_is_not_broken_up(chatbot: Chatbot) -> None:
    deletion_of(chatbot, "42")
    held = claims.take(Kind.DELETION)
    assert held
    Claim.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    with held.transaction():
        assert Elsewhere(claims.requeue_expired).end() == 0

    assert Claim.objects.get().expires_at > timezone.now()


def test_two_deletions_of_one_chatbot_do_not_wait_for_each_other(chatbot, storage, gates) -> None:
    conversation_of(chatbot, "42")
    slow = deletion_of(chatbot, "42")
    gate = gates(rows, "erase")
    deletion = Elsewhere(lambda: worker.drain(seconds=PATIENCE))
    gate.wait_for_caller()
    conversation_of(chatbot, "43")
    other = deletion_of(chatbot, "43")

    worker.drain(seconds=PATIENCE)

    other.refresh_from_db()
    slow.refresh_from_db()
    assert (other.status, other.messages, slow.status) == (Status.COMPLETED, 2, Status.ACCEPTED)
    gate.open()
    deletion.end()
    slow.refresh_from_db()
    assert (slow.status, slow.messages) == (Status.COMPLETED, 2)


def test_intake_waits_for_every_mark_under_way(chatbot, storage) -> None:
    for part in range(locks.PARTS):
        with uncommitted(partial(locks.exclude_intake, chatbot.pk, number=part)):
            late = Elsewhere(lambda: intake.store(chatbot=chatbot, documents=[parsed("c-1")]))
            assert late.waits
        late.end()


def test_a_deletion_is_requeued_while_another_erases_shared_conversations(chatbot, storage, gates) -> None:
    conversation_of(chatbot, "42", "43")
    conversation_of(chatbot, "43")
    first = deletion_of(chatbot, "42")
    gate = gates(rows, "_forget_identities")
    one = Elsewhere(lambda: worker.drain(seconds=PATIENCE))
    gate.wait_for_caller()
    second = deletion_of(chatbot, "43")

    worker.drain(seconds=PATIENCE)

    second.refresh_from_db()
    assert (second.status, second.waiting_for, second.attempts) == (Status.ACCEPTED, "rows", 0)
    assert not Conversation.objects.filter(deletion_request_id=second.pk).exists()
    gate.open()
    one.end()
    ComplianceRequest.objects.update(not_before=None)
    worker.drain(seconds=PATIENCE)
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.status, first.conversations, first.shared_conversations) == (Status.COMPLETED, 1, 1)
    assert (second.status, second.conversations, second.messages) == (Status.COMPLETED, 1, 2)
    assert not Message.objects.exists()
    assert not Identity.objects.exists()


def test_a_deletion_is_requeued_while_its_last_row_is_locked(chatbot: Chatbot, storage: ObjectStorage) -> None:
    deletion = deletion_of(chatbot, "42", started_at=timezone.now(), cutoff_at=timezone.now())
    conversation = conversation_of(chatbot, "42", deletion_request_id=deletion.pk)
    with transaction.atomic():
        Conversation.objects.select_for_update().get(chatbot=chatbot, pk=conversation.pk)
        Elsewhere(lambda: worker.drain(seconds=PATIENCE)).end()
        deletion.refresh_from_db()
        assert (deletion.status, deletion.waiting_for, deletion.attempts) == (Status.ACCEPTED, "rows", 0)
    ComplianceRequest.objects.update(not_before=None)
    worker.drain(seconds=PATIENCE)

    deletion.refresh_from_db()
    assert (deletion.status, deletion.conversations) == (Status.COMPLETED, 1)
