"""The requests' pages in a browser: decisions by keyboard, live progress, wide and narrow."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from chatbots.models import Chatbot
from compliance import worker
from compliance.ledger import journal
from compliance.models import ComplianceRequest
from tests import factories
from tests.browser import (
    browser,
    fits,
    in_a_browser,
    is_easy_to_use,
    needs_chromium,
    open_page,
    signed_in,
    stays_at_home,
)
from tests.console.made import VALUE, Status, completed, failed, held, status_of, waiting
from tests.factories import conversation_of
from tests.patches import before
from tests.people import Role, staff


def decide_by_keyboard(page: Page, reason: str) -> None:
    opener = page.get_by_role("button", name="Approve")
    dialog = page.get_by_role("dialog", name="Approve")
    opener.press("Enter")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()

    opener.press("Enter")
    choice = dialog.get_by_label("Reason")
    expect(choice).to_be_focused()
    page.keyboard.type(reason)  # as the first letters of an option do
    page.keyboard.press("Tab")
    page.keyboard.type("Asked the client.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The request is approved.")).to_be_visible()


def what_is_due_is_printed_in_black_on_white(chromium: Browser, server: str, user: User) -> None:
    page = signed_in(chromium, server, user, "/admin/due/", dark=True).page
    page.get_by_role("link", name="Overdue 1").press("Enter")
    expect(page.locator("#overdue")).to_be_in_viewport()
    expect(page.locator(".printed").first).to_be_hidden()
    page.emulate_media(media="print")
    expect(page.locator(".side")).to_be_hidden()
    expect(page.get_by_role("button", name="Print")).to_be_hidden()
    expect(page.locator(".printed").first).to_contain_text("Overdue: 1 request")
    for part in ("h1", ".lead", ".due td strong", ".due .tag", ".due th a"):
        colour = page.locator(part).first.evaluate("one => getComputedStyle(one).color")
        assert max(map(int, re.findall(r"\d+", colour)[:3])) < 110, part
    page.context.close()


def a_refused_download_is_easy_to_read(chromium: Browser, server: str) -> None:
    watched = open_page(chromium, f"{server}/api/downloads/unknown")
    assert watched.page.get_by_role("heading", level=1).count() == 1
    watched.errors = [error for error in watched.errors if "404" not in error]  # the status of the page
    is_easy_to_use(watched.page)
    stays_at_home(watched, server)
    watched.page.close()


@in_a_browser
def test_a_request_is_approved_by_keyboard_and_followed_to_its_end(live_server, chatbot, storage, monkeypatch):
    conversation_of(chatbot, VALUE, messages=3)
    conversation_of(chatbot, VALUE, messages=4)
    request = held(chatbot)
    factories.CallbackFactory.create(request=request, given_up=True)
    others = [failed(chatbot), completed(chatbot)]
    waiting(chatbot, due_at=timezone.now() - timedelta(days=2), received_at=timezone.now() - timedelta(days=30))
    officer = staff(chatbot, Role.OFFICER)
    below = f"/admin/requests/{request.pk}/"
    with browser() as chromium:
        what_is_due_is_printed_in_black_on_white(chromium, live_server.url, officer)
        a_refused_download_is_easy_to_read(chromium, live_server.url)
        watched = signed_in(chromium, live_server.url, officer, "/admin/requests/")
        page = watched.page
        is_easy_to_use(page)
        for path in (f"/admin/requests/{others[0].pk}/", below):
            page.goto(live_server.url + path)
            is_easy_to_use(page)
        page.get_by_role("button", name="Approve").click()
        is_easy_to_use(page)
        stays_at_home(watched, live_server.url)
        page.context.close()

        plain = signed_in(chromium, live_server.url, officer, below, script=False, width=360)
        expect(plain.page.get_by_role("dialog", name="Reject").get_by_label("Reason")).to_be_visible()
        assert fits(plain.page)
        plain.page.context.close()

        watched = signed_in(chromium, live_server.url, officer, below)
        page = watched.page
        decide_by_keyboard(page, "The number")
        assert status_of(request) == Status.ACCEPTED

        def look_meanwhile(erased: Any) -> None:
            expect(page.get_by_text("2 of 2 conversations erased")).to_be_visible()
            expect(page.get_by_text("Processing")).to_be_visible()

        before(monkeypatch, journal, "conclude", look_meanwhile)
        assert not worker.drain(seconds=60)

        expect(page.get_by_role("heading", name="History")).to_be_visible()
        expect(page.get_by_text("2 conversations, 7 messages.")).to_be_visible()
        expect(page.get_by_text("The note was erased.")).to_be_visible()
        expect(page.get_by_text("The request is approved.")).to_be_visible()
        assert VALUE not in page.content()
        stays_at_home(watched, live_server.url)


@pytest.mark.long(reason="a browser waits for the page to refresh")
@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_a_page_that_refused_a_decision_does_not_send_it_again_by_itself(live_server, chatbot: Chatbot) -> None:
    request = failed(chatbot)
    below = f"/admin/requests/{request.pk}/"
    with browser() as chromium:
        page = signed_in(chromium, live_server.url, staff(chatbot, Role.SUPPORT), below).page
        page.get_by_role("button", name="Retry").click()
        page.get_by_label("Reason").select_option("try_again")
        found = ComplianceRequest.objects.filter(pk=request.pk)
        found.update(status=Status.ACCEPTED, failed_at=None)  # as a colleague's retry leaves it
        page.get_by_role("dialog").get_by_role("button", name="Retry").click()
        expect(page.get_by_text("Only a failed request")).to_be_visible()
        assert page.url == f"{live_server.url}{below}retry/"

        found.update(status=Status.FAILED, failed_at=timezone.now())
        page.wait_for_url(live_server.url + below)

        expect(page.get_by_text("It does not continue by itself.")).to_be_visible()
        expect(page.get_by_role("alert").get_by_text("Only a failed request")).to_be_visible()
        page.reload()
        expect(page.get_by_role("alert")).to_have_count(0)
        assert status_of(request) == Status.FAILED
