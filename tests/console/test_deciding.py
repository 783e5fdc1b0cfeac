"""Deciding on a request on its page: with a reason and a note, or with an error message."""

import re
from collections.abc import Callable
from functools import partial

import pytest
from django.db import transaction
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from compliance.models import ComplianceRequest, RequestNote
from compliance.requests.decisions import REASONS, Decision
from tests.console.made import VALUE, Status, completed, failed, held, status_of, waiting
from tests.console.request_pages import address, decide, offered, text_of
from tests.factories import conversation_of, of_conversations
from tests.functional.elsewhere import Elsewhere
from tests.people import Role, client_of, member, staff

Make = Callable[..., ComplianceRequest]


@pytest.mark.parametrize("decision", list(Decision))
def test_a_decision_keeps_its_reason_and_its_note(chatbot: Chatbot, decision: Decision) -> None:
    user = staff(chatbot, Role.OFFICER)
    client = client_of(user)
    make: Make = {"retry": failed, "cancel": waiting}.get(decision.value, held)
    request = make(chatbot)
    reason = REASONS[decision].choices[0]

    answer = decide(client, request, decision.value, reason[0], f"{VALUE} rang <b>twice</b>")

    assert (answer.status_code, answer["Location"]) == (302, address(request))
    entry = ChangeLogEntry.objects.get(request_id=request.pk)
    assert (entry.actor, entry.data) == (f"user:{user.pk}", {"reason": reason[0]})
    assert RequestNote.objects.get().text == f"{VALUE} rang <b>twice</b>"
    text = text_of(client, request)
    assert user.username in text
    assert "rang &lt;b&gt;twice&lt;/b&gt;" in text
    assert reason[1].replace("'", "&#x27;") in text

    RequestNote.objects.update(text=None)
    assert "The note was erased." in text_of(client, request)


def test_a_failed_export_that_is_cancelled_has_nothing_left_to_do(chatbot: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    request = failed(chatbot)
    ComplianceRequest.objects.filter(pk=request.pk).update(kind="export")
    assert decide(client, request, "cancel", "withdrawn_by_person", "").status_code == 302
    text = text_of(client, request)
    assert "It was cancelled after it had failed." in text
    assert "What to do" not in text


def test_a_decision_without_a_reason_is_returned_with_the_input(chatbot: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    request = held(chatbot)
    for reason, note, expected in (
        ("", "she rang", "Choose a reason."),
        ("try_again", "", "valid choice"),
        ("other", "x" * 1_001, "1000"),
    ):
        answer = decide(client, request, "reject", reason, note)
        assert answer.status_code == 400
        assert expected in answer.text
        assert note in answer.text
        assert "data-stays" in answer.text
        assert re.search(r'<textarea name="reject-note"[^>]* autocomplete="off"', answer.text)
    assert status_of(request) == Status.ON_HOLD


def test_a_refusal_of_the_operation_is_shown(chatbot: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    for request, action, expected in (
        (waiting(chatbot), "approve", "not on hold"),
        (completed(chatbot), "cancel", "The request has begun or is already final."),
        (failed(chatbot, uci_value=None), "retry", "that still names its chatter can be retried"),
        (waiting(chatbot), "resend", "no callbacks on record"),
    ):
        before = request.status
        answer = decide(client, request, action)
        assert answer.status_code == 409
        assert expected in answer.text
        assert status_of(request) == before


def test_a_request_held_for_another_reason_meanwhile_is_not_approved(chatbot: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    request = held(chatbot, "export_pending")
    shown = '<input type="hidden" name="approve-held_for" value="export_pending"'
    assert shown in text_of(client, request)
    seen = {"approve-reason": "other", "approve-held_for": "export_pending"}

    ComplianceRequest.objects.filter(pk=request.pk).update(hold_reason="too_many_conversations")
    answer = client.post(address(request, "approve"), seen)
    assert (answer.status_code, status_of(request)) == (409, Status.ON_HOLD)
    assert "It is held for another reason by now." in answer.text
    assert shown not in answer.text

    seen["approve-held_for"] = "too_many_conversations"
    assert client.post(address(request, "approve"), seen).status_code == 302
    assert status_of(request) == Status.ACCEPTED


def test_the_user_who_filed_sees_that_another_must_approve(chatbot: Chatbot) -> None:
    Chatbot.objects.update(four_eyes=True)
    filer = staff(chatbot, Role.OFFICER)
    request = held(chatbot, "awaiting_approval", filed_by=f"user:{filer.pk}")

    text = text_of(client_of(filer), request)
    assert "You filed this request." in text
    assert "An officer who did not file it must approve or reject it." in text
    assert offered(text) == {"reject", "cancel"}
    assert decide(client_of(filer), request, "approve").status_code == 409
    assert status_of(request) == Status.ON_HOLD

    another = member(chatbot, Role.OFFICER)
    assert "You filed this request." not in text_of(another, request)
    assert decide(another, request, "approve").status_code == 302
    assert status_of(request) == Status.ACCEPTED


def test_an_approver_sees_the_counts_and_not_the_chatter(chatbot: Chatbot) -> None:
    conversation_of(chatbot, VALUE, "another", messages=3)
    conversation_of(chatbot, VALUE, messages=4)
    by_ids = of_conversations(chatbot, "c-1", status="on_hold", hold_reason="export_pending", held_at=timezone.now())
    conversation_of(chatbot, "43", external_id="c-1", messages=1)
    for request, expected in (
        (
            held(chatbot),
            "2 conversations with 7 messages and 0 files would be erased now; other people took part in 1",
        ),
        (by_ids, "1 conversation with 1 message and 0 files would be erased now."),
    ):
        text = text_of(member(chatbot, Role.OFFICER), request)
        assert expected in text
        assert VALUE not in text
        assert "would be erased now" not in text_of(member(chatbot, Role.SUPPORT), request)


@pytest.mark.django_db(transaction=True)
def test_the_second_of_two_concurrent_approvals_is_refused_with_a_message(chatbot: Chatbot) -> None:
    first, second = member(chatbot, Role.OFFICER), member(chatbot, Role.OFFICER)
    request = held(chatbot)
    with transaction.atomic():
        ComplianceRequest.objects.select_for_update().get(pk=request.pk)
        at_once = [Elsewhere(partial(decide, client, request, "approve")) for client in (first, second)]
        assert all(one.waits for one in at_once)
    answers = [one.end() for one in at_once]
    assert sorted(answer.status_code for answer in answers) == [302, 409]
    assert ChangeLogEntry.objects.filter(event="request.approved").count() == 1
