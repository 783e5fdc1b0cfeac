"""The subject of a deletion in a browser: hidden, shown, in the dialog, in a bulk approval, and hidden again."""

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from chatbots.models import ChangeLogEntry, Chatbot
from compliance.models import ComplianceRequest
from tests.browser import fits, is_easy_to_use, needs_chromium, signed_in, stays_at_home
from tests.console.made import VALUE, held, waiting
from tests.factories import conversation_of, of_conversations
from tests.people import Role, staff

LONG = f"{VALUE} " * 12


@pytest.mark.long(reason="a browser draws pages in both themes, and axe looks at each")
@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_an_officer_looks_whom_a_deletion_concerns_before_approving(live_server, chromium, chatbot: Chatbot) -> None:
    Chatbot.objects.update(four_eyes=True)
    for _ in range(30):
        conversation_of(chatbot, VALUE, messages=1)
    conversation_of(chatbot, VALUE.upper())
    at = timezone.now() + timedelta(minutes=15)
    by_ids = of_conversations(chatbot, "c-1", status="on_hold", hold_reason="awaiting_approval", held_at=at)
    held(chatbot, uci_value=LONG)
    request = waiting(chatbot, not_before=at)
    officer, below = staff(chatbot, Role.OFFICER), f"/admin/requests/{request.pk}/"
    watched = signed_in(chromium, live_server.url, officer, below)
    page = watched.page
    card = page.get_by_role("region", name="Subject")
    expect(card).to_be_visible()
    is_easy_to_use(page)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("dialog").get_by_text("You have not seen")).to_be_visible()
    page.keyboard.press("Escape")

    card.get_by_role("button", name="Show the subject").press("Enter")
    expect(card.get_by_text(VALUE, exact=True)).to_be_visible()
    expect(card.get_by_text("differs in upper and lower case")).to_be_visible()
    assert page.url == f"{live_server.url}{below}whom/#whom"
    is_easy_to_use(page)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("dialog").get_by_text(VALUE, exact=True)).to_be_visible()
    is_easy_to_use(page)

    page.goto(f"{live_server.url}{below}")
    expect(card.get_by_role("button", name="Show the subject")).to_be_visible()
    assert VALUE not in page.content()
    page.goto(f"{live_server.url}/admin/requests/{by_ids.pk}/")
    card.get_by_role("button", name="Show the subject").click()
    expect(card.get_by_text("None of these conversations is stored now.")).to_be_visible()
    is_easy_to_use(page)

    page.goto(f"{live_server.url}/admin/requests/")
    for box in page.get_by_role("checkbox").all():
        box.check()
    page.get_by_label("With the selected").select_option("approve:other")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("30 conversations")).to_be_visible()
    is_easy_to_use(page)
    looked = ChangeLogEntry.objects.filter(event="request.shown", request_id=request.pk).count()
    assert looked >= 2
    page.get_by_role("button", name="Approve 3 requests").click()
    expect(page.get_by_text("3 requests: approved")).to_be_visible()
    assert ComplianceRequest.objects.filter(approved_by=f"user:{officer.pk}").count() == 3
    stays_at_home(watched, live_server.url)

    plain = signed_in(
        chromium, live_server.url, officer, f"/admin/requests/{held(chatbot).pk}/", script=False, width=360
    )
    plain.page.get_by_role("button", name="Show the subject").click()
    expect(plain.page.get_by_text(VALUE, exact=True).first).to_be_visible()
    assert fits(plain.page)
