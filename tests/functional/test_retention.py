"""Retention with real processes and connections: one run a night, a killed cluster, intake beside it."""

import pytest
from django.db import transaction

from chatbots import locks
from chatbots.models import ChangeLogEntry, Chatbot
from compliance import worker
from compliance.models import ComplianceRequest, RetentionRun
from compliance.requests import decisions
from compliance.retention import due, policy
from conversations.intake import store
from conversations.models import Message
from tests.compliance.retention.runs import ago, conversation_aged, deleted, file_run, keep_for
from tests.conversations.documents import message, update
from tests.functional.elsewhere import Elsewhere, uncommitted, wait_until_blocked

Status = ComplianceRequest.Status


def test_sweeps_at_once_file_one_run(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "is_time", lambda *_: True)
    keep_for(chatbot, 90)
    conversation_aged(chatbot, 91)

    for sweep in [Elsewhere(policy.file_due_runs) for _ in range(4)]:
        sweep.end()

    assert RetentionRun.objects.count() == ComplianceRequest.objects.count() == 1
    assert ChangeLogEntry.objects.filter(event="request.accepted").count() == 1


def test_a_message_that_comes_first_keeps_its_conversation(chatbot: Chatbot) -> None:
    """Intake has locked the conversation, and commits its message after the run has passed."""
    contested = conversation_aged(chatbot, 91, external_id="c-1")
    other = conversation_aged(chatbot, 91)
    request = file_run(chatbot)

    def intake() -> None:
        sent = {**message("m9"), "sent_at": ago(0).isoformat()}
        [outcome] = store(chatbot=chatbot, documents=[update("c-1", messages=[sent])])
        assert outcome.outcome == "updated"

    with uncommitted(intake):
        assert not worker.drain(seconds=60)

    assert deleted(contested, other) == [False, True]
    assert Message.objects.filter(conversation=contested).count() == 3
    request.refresh_from_db()
    assert (request.status, request.conversations) == (Status.COMPLETED, 1)


def test_a_message_that_comes_later_is_refused(chatbot: Chatbot) -> None:
    """The slice is closed and not committed: intake waits for the row, and then finds the mark."""
    contested = conversation_aged(chatbot, 91, external_id="c-1")
    request = file_run(chatbot)
    with transaction.atomic():
        closed = due.close([contested.pk], request_id=request.pk, chatbot_id=chatbot.pk, older_than=ago(90))
        assert closed.numbers == [contested.pk]
        late = [update("c-1", messages=[message("m9")])]
        sending = Elsewhere(lambda: store(chatbot=chatbot, documents=late))
        wait_until_blocked()
    [outcome] = sending.end()
    assert (outcome.outcome, outcome.errors[0].code) == ("refused", "conversation_deleted")


def test_a_decision_and_a_change_of_the_period_lock_in_one_order(chatbot: Chatbot) -> None:
    """The chatbot first: else each would wait for what the other has locked."""
    policy.change_period(chatbot=chatbot, days=90, actor="command", confirmed=0)
    request = ComplianceRequest.objects.get()

    with transaction.atomic():
        locks.lock(chatbot.pk)
        cancelling = Elsewhere(lambda: decisions.cancel(request_id=request.pk, actor="command"))
        wait_until_blocked()
        ComplianceRequest.objects.select_for_update(nowait=True).get(pk=request.pk)
    cancelling.end()
    request.refresh_from_db()
    assert request.status == Status.CANCELLED
