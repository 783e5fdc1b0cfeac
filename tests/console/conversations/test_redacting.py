"""Redacting messages from a transcript's page, and what it and the request's page show afterwards."""

import re
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from compliance.models import ComplianceRequest, RepeatedExport
from compliance.redaction import filing
from compliance.requests import results
from conversations import messages
from conversations.models import Conversation, Message
from tests.compliance.conftest import Drain
from tests.console.request_pages import decide
from tests.factories import ClaimFactory, conversation_of, export_of
from tests.functional.elsewhere import PATIENCE, Elsewhere
from tests.patches import before
from tests.people import Role, member

SECRET = "4111 5813"


@pytest.fixture
def conversation(chatbot: Chatbot) -> Conversation:
    return conversation_of(chatbot, "42", text=SECRET)


def select(client: Client, conversation: Conversation, *messages: object, **fields: str) -> Any:
    """Answer the form of the transcript."""
    given = {"messages": [str(one) for one in messages], "reason": "payment_data"} | fields
    return client.post(reverse("console:redact", args=[conversation.pk]), given)


def redact(client: Client, conversation: Conversation, *messages: object, **fields: str) -> Any:
    """Confirm what was selected."""
    return select(client, conversation, *messages, **{"confirmed": "yes"} | fields)


def start(client: Client) -> None:
    request = ComplianceRequest.objects.get(kind="redaction")
    assert client.post(reverse("console:request_action", args=[request.pk, "start"])).status_code == 302


def page_of(client: Client, conversation: Conversation) -> str:
    return client.get(reverse("console:conversation", args=[conversation.pk])).content.decode()


def marks(page: str) -> list[str]:
    """The addresses that the marks of waiting redactions lead to, in order."""
    return re.findall(r'href="([^"]*)"[^>]*><svg[^>]*>.*?</svg>Redaction waits</a>', page)


def test_support_staff_redact_selected_messages(support: Client, conversation: Conversation, drain: Drain) -> None:
    first, second = conversation.message_set.order_by("pk")
    assert page_of(support, conversation).count('name="messages"') == 2

    answer = redact(support, conversation, first.pk)

    request = ComplianceRequest.objects.get()
    assert (answer.status_code, answer.headers["Location"]) == (302, reverse("console:request", args=[request.pk]))
    assert (request.kind, request.origin) == ("redaction", "console")
    assert request.not_before
    assert request.not_before - request.received_at == timedelta(minutes=15)
    assert "It starts in 15 minutes; until then it can be cancelled, or started at once." in page_of(
        support, conversation
    )
    drain()
    page = page_of(support, conversation)
    assert page.count(SECRET) == 2, "It waits."
    waits = f'href="{answer.headers["Location"]}"'
    assert waits in page
    start(support)
    drain()
    page = page_of(support, conversation)
    assert waits not in page
    assert page.count(SECRET) == 1
    assert "This message was redacted." in page
    assert page.count('name="messages"') == 1, "What is redacted cannot be selected again."
    second.refresh_from_db()
    assert (second.kind, second.text) == ("text", SECRET)
    found = support.get(answer.headers["Location"])
    shown = found.content.decode()
    for word in (
        "Payment data, such as a card number",
        f"/admin/conversations/{conversation.pk}/",
        "found nothing left",
    ):
        assert word in shown
    assert SECRET not in shown
    assert [one.kept for one in found.context["counts"]] == ["time and sender", "score and vote", "", "", ""]


def test_support_staff_redact_the_csat_comment(support: Client, conversation: Conversation, drain: Drain) -> None:
    assert "CSAT comment" not in page_of(support, conversation)
    Conversation.objects.filter(pk=conversation.pk).update(csat_comment=f"<b>{SECRET}-9", csat_score=3)
    assert page_of(support, conversation).count('name="csat_comment"') == 1

    chosen = select(support, conversation, csat_comment="yes").text
    assert "Redact the CSAT comment" in chosen
    assert f"&lt;b&gt;{SECRET}-9" in chosen
    both = select(support, conversation, conversation.message_set.earliest("pk").pk, csat_comment="yes").text
    assert "Redact 1 message and the CSAT comment" in both
    answer = redact(support, conversation, csat_comment="yes")

    page = page_of(support, conversation)
    assert marks(page) == [answer.headers["Location"]]
    assert 'name="csat_comment"' not in page
    assert redact(support, conversation, csat_comment="yes")["Location"].endswith(f"/{conversation.pk}/")
    assert "An open redaction includes the CSAT comment already." in page_of(support, conversation)
    start(support)
    drain()
    page = page_of(support, conversation)
    assert "Comment redacted" in page
    assert f"{SECRET}-9" not in page
    assert "3 of 10" in page
    shown = support.get(answer.headers["Location"])
    assert "<dt>CSAT comment</dt><dd>Selected</dd>" in shown.text
    assert [(one.label, one.number) for one in shown.context["counts"]][:2] == [("Messages", 0), ("CSAT comments", 1)]
    assert select(support, conversation, csat_comment="yes").status_code == 404, "There is nothing to show."


def test_it_says_that_a_second_person_approves_it_first(support: Client, chatbot: Chatbot, conversation) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(four_eyes=True)
    redact(support, conversation, conversation.message_set.earliest("pk").pk)
    assert "In this chatbot, a second person approves it first." in page_of(support, conversation)


@pytest.mark.parametrize("status", ["accepted", "on_hold", "processing", "failed"])
def test_a_waiting_redaction_is_seen_and_not_filed_again(support, conversation, status: str) -> None:
    first, second = conversation.message_set.order_by("pk")
    request = reverse("console:request", args=[filed_in(status, support, conversation, first.pk).pk])

    page = page_of(support, conversation)
    assert marks(page) == [request]
    assert re.findall(r'name="messages" value="(\d+)"', page) == [str(second.pk)]
    assert redact(support, conversation, first.pk, second.pk)["Location"] != request
    assert ComplianceRequest.objects.count() == 1


def test_a_redaction_beside_one_that_waits_is_of_other_messages(support, chatbot, conversation) -> None:
    first, second = conversation.message_set.order_by("pk")
    filed_in("accepted", support, conversation, first.pk)
    assert len(marks(page_of(member(chatbot, Role.VIEWER), conversation))) == 1
    for ask in (select, redact):
        answer = ask(support, conversation, first.pk, second.pk)
        assert answer["Location"] == reverse("console:conversation", args=[conversation.pk])
        assert "Nothing was filed. An open redaction includes a selected message" in page_of(support, conversation)
    assert ComplianceRequest.objects.count() == 1

    assert redact(support, conversation, second.pk).status_code == 302
    assert len(set(marks(page_of(support, conversation)))) == 2


def test_what_a_redaction_no_longer_waits_for_can_be_selected_again(support, conversation) -> None:
    number = conversation.message_set.earliest("pk").pk
    filed_in("cancelled", support, conversation, number)

    assert marks(page_of(support, conversation)) == []
    assert redact(support, conversation, number).status_code == 302


def filed_in(status: str, client: Client, conversation: Conversation, number: int) -> ComplianceRequest:
    """File a redaction of a message, and bring its request into a state."""
    assert redact(client, conversation, number).status_code == 302
    now = timezone.now()
    states: dict[str, dict[str, Any]] = {
        "accepted": {},
        "on_hold": {"hold_reason": "awaiting_approval", "held_at": now},
        "processing": {"started_at": now, "claim": ClaimFactory.create()},
        "failed": {"failed_at": now, "error_code": "internal_error"},
        "cancelled": {"cancelled_at": now},
    }
    ComplianceRequest.objects.update(status=status, **states[status])
    return ComplianceRequest.objects.get()


@pytest.mark.django_db(transaction=True)
def test_two_tabs_that_confirm_at_once_file_one_redaction(support: Client, conversation, monkeypatch) -> None:
    """Both find no redaction that waits when they begin."""
    numbers = list(conversation.message_set.values_list("pk", flat=True))
    both = Barrier(2, timeout=PATIENCE)
    before(monkeypatch, filing, "check_reference", lambda *_: both.wait())
    other = Elsewhere(lambda: redact(support, conversation, *numbers)["Location"])

    led = {redact(support, conversation, numbers[0])["Location"], other.end()}

    request = ComplianceRequest.objects.get()
    assert led == {
        reverse("console:request", args=[request.pk]),
        reverse("console:conversation", args=[conversation.pk]),
    }


@pytest.mark.django_db(transaction=True)  # an export is read on its own connection
def test_pages_of_requests_tell_of_exports_that_were_filed_again(support, chatbot, conversation, drain) -> None:
    export = export_of(chatbot, "42")
    drain()
    redaction = redact(support, conversation, conversation.message_set.earliest("pk").pk).headers["Location"]
    start(support)
    drain()

    repeat = ComplianceRequest.objects.exclude(pk=export.pk).get(kind="export")
    pages = {one: reverse("console:request", args=[one.pk]) for one in (export, repeat)}
    shown = support.get(redaction).content.decode()
    assert pages[export] in shown
    assert pages[repeat] in shown
    assert "Filed again" in (removed := support.get(pages[export]).content.decode())
    assert pages[repeat] in removed
    assert "Exports removed</h2>" in shown
    assert "In place of" in (filed := support.get(pages[repeat]).content.decode())
    assert pages[export] in filed


def test_the_page_of_a_redaction_lists_the_first_of_many_exports(support, chatbot, conversation, monkeypatch) -> None:
    monkeypatch.setattr(results, "MOST_REMOVED", 2)
    redaction = redact(support, conversation, conversation.message_set.earliest("pk").pk).headers["Location"]
    request = ComplianceRequest.objects.get()
    for _ in range(3):
        RepeatedExport.objects.create(chatbot=chatbot, redaction=request, removed=export_of(chatbot, "42"))

    shown = support.get(redaction).content.decode()

    assert "Exports removed (first 2 of 3)" in shown
    assert shown.count("not filed again") == 2


def test_the_page_of_a_cancelled_redaction_speaks_of_messages(support: Client, conversation: Conversation) -> None:
    page = redact(support, conversation, conversation.message_set.earliest("pk").pk).headers["Location"]

    assert decide(support, ComplianceRequest.objects.get(), "cancel", "filed_by_mistake").status_code == 302

    assert "It was cancelled before it started. Nothing was redacted." in support.get(page).text


def test_the_texts_are_shown_before_anything_is_filed(support, conversation: Conversation) -> None:
    first, second = conversation.message_set.order_by("pk")
    Message.objects.filter(pk=first.pk).update(text=f"{SECRET} <b>" + "long " * 1_000, sender="agent")
    Message.objects.filter(pk=second.pk).update(text="of another topic")

    answer = select(support, conversation, first.pk)

    text = answer.text
    assert "no-store" in answer.headers["Cache-Control"]
    assert (text.count(SECRET), "of another topic" in text) == (1, False)
    assert "&lt;b&gt;" in text
    assert "Show all" in text
    assert "Redact 1 message" in text
    assert '<option value="payment_data" selected>' in text
    assert "Agent" in text
    entries = ChangeLogEntry.objects.filter(event="conversation.opened")
    assert [entry.data for entry in entries] == [{"conversation": conversation.pk}]
    assert not ComplianceRequest.objects.exists()

    redact(support, conversation, first.pk, second.pk, reason="other", requested_at=str(timezone.localdate()))

    request = ComplianceRequest.objects.get()
    assert request.redaction.message_numbers == [first.pk, second.pk]
    assert request.redaction.reason == "other"
    assert request.requested_at


def test_viewers_are_offered_nothing_and_refused(chatbot: Chatbot, conversation: Conversation) -> None:
    viewer = member(chatbot, Role.VIEWER)
    assert 'name="messages"' not in page_of(viewer, conversation)
    for ask in (select, redact):
        assert ask(viewer, conversation, conversation.message_set.earliest("pk").pk).status_code == 403
    assert not ComplianceRequest.objects.exists()


def test_it_refuses_what_is_missing_or_of_others(support, neighbour, chatbot, conversation) -> None:
    other = conversation_of(chatbot, "43")
    own = conversation.message_set.earliest("pk").pk
    theirs = other.message_set.earliest("pk").pk
    elsewhere = conversation_of(neighbour, "42")
    for ask in (select, redact):
        for none in ((), ("x", "-1"), range(1, 102)):
            answer = ask(support, conversation, *none)
            assert answer.headers["Location"] == reverse("console:conversation", args=[conversation.pk])
            assert "Nothing was filed. Select 1 to 100 messages, or the CSAT" in page_of(support, conversation)
        assert ask(support, conversation, own, theirs).status_code == 404
        assert ask(support, elsewhere, elsewhere.message_set.earliest("pk").pk).status_code == 404
    for fault, fields in {
        "Choose a reason.": {"reason": ""},
        "Select a valid choice.": {"reason": "because"},
        "Must not be in the future.": {"requested_at": "9999-01-01"},
    }.items():
        answer = redact(support, conversation, own, **fields)
        assert answer.status_code == 400
        assert fault in answer.text
        assert SECRET in answer.text
        assert f'name="messages" value="{own}"' in answer.text
    assert not ComplianceRequest.objects.exists()
    assert not Message.objects.filter(kind="redacted").exists()


def test_a_closed_conversation_is_gone(support: Client, conversation: Conversation) -> None:
    number = conversation.message_set.earliest("pk").pk
    Conversation.objects.filter(pk=conversation.pk).update(deletion_request_id=uuid4())
    assert select(support, conversation, number).status_code == 410
    assert redact(support, conversation, number).status_code == 410


def test_a_conversation_that_is_closed_meanwhile_is_not_shown(support, conversation, monkeypatch) -> None:
    number = conversation.message_set.earliest("pk").pk
    closing = Conversation.objects.filter(pk=conversation.pk, chatbot=conversation.chatbot)
    before(monkeypatch, messages, "logged_view", lambda *_, **_options: closing.update(deletion_request_id=uuid4()))
    answer = select(support, conversation, number)
    assert (answer.status_code, SECRET in answer.text) == (410, False)


def test_data_compliance_has_to_be_on(support: Client, chatbot: Chatbot, conversation: Conversation) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(compliance_enabled=False)
    assert redact(support, conversation, conversation.message_set.earliest("pk").pk).status_code == 409
