"""Filing in a browser: a deletion is previewed, confirmed by typing and filed, with and without scripts."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from pytest_django.live_server_helper import LiveServer

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from tests.browser import browser, is_easy_to_use, needs_chromium, signed_in, stays_at_home
from tests.factories import conversation_of, deletion_of
from tests.people import Role, staff

pytestmark = [
    pytest.mark.django_db(transaction=True),
    needs_chromium,
    pytest.mark.long(reason="a browser draws pages in both themes, and axe looks at each"),
]


def test_a_person_files_after_a_preview_and_a_typed_confirmation(chatbot: Chatbot, live_server: LiveServer) -> None:
    for _ in range(12):
        conversation_of(chatbot, "M00012")
    conversation_of(chatbot, "m00012")
    conversation_of(chatbot, "M00013", "M00012")
    deletion_of(chatbot, "M00012")
    user = staff(chatbot, Role.SUPPORT)
    with browser() as chromium:
        _file_one(chromium, live_server.url, user, chatbot)
        _file_many(chromium, live_server.url, user, chatbot)
        _without_script(chromium, live_server.url, user, chatbot)


def _file_one(chromium: Any, server: str, user: Any, chatbot: Chatbot) -> None:
    watched = signed_in(chromium, server, user, f"/admin/file/{chatbot.slug}/")
    page = watched.page
    expect(page.get_by_label("Conversation IDs")).to_be_hidden()
    is_easy_to_use(page)
    page.get_by_label("UCI value", exact=True).fill("m00012 ")
    page.get_by_label("Delete: erase their data").check()
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("No data found.")).to_be_visible()
    is_easy_to_use(page)
    page.get_by_role("button", name=re.compile("Did you mean M00012 ?[?]")).click()
    typed = page.get_by_label("To confirm, type DELETE 13")
    expect(typed).to_be_visible()
    is_easy_to_use(page)
    button = page.get_by_role("button", name="File the deletion")
    expect(button).to_have_attribute("aria-disabled", "true")
    typed.fill("DELETE 12")
    typed.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Type DELETE 13")).to_be_visible()
    typed.fill("DELETE 13")
    expect(button).to_have_attribute("aria-disabled", "false")
    stays_at_home(watched, server)
    with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
        button.click()
    request = ComplianceRequest.objects.get(origin="console")
    assert answered.value.headers["location"] == f"/admin/requests/{request.pk}/"
    assert request.uci_value == "M00012"
    expect(page.get_by_role("status").filter(has_text="Filed. It starts in 15 minutes")).to_be_visible()
    is_easy_to_use(page)


def _file_many(chromium: Any, server: str, user: Any, chatbot: Chatbot) -> None:
    watched = signed_in(chromium, server, user, f"/admin/file/{chatbot.slug}/many/")
    page = watched.page
    is_easy_to_use(page)
    page.get_by_label("Delete: erase their data").check()
    page.get_by_label("Paste values, one per line").fill("M00013\nM00012 \nnobody\nnull\nM00013\n")
    page.get_by_role("button", name="Preview").click()
    typed = page.get_by_label("To confirm, type DELETE 1")
    expect(typed).to_be_visible()
    is_easy_to_use(page)
    typed.fill("DELETE 1")
    page.get_by_role("button", name="File the deletions").click()
    expect(page.get_by_text("3 requests filed, 1 refused.")).to_be_visible()
    is_easy_to_use(page)
    stays_at_home(watched, server)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert Path(download.value.path()).read_text().count("filed") == 3


def _without_script(chromium: Any, server: str, user: Any, chatbot: Chatbot) -> None:
    watched = signed_in(chromium, server, user, f"/admin/file/{chatbot.slug}/", script=False)
    page = watched.page
    page.get_by_label("UCI value", exact=True).fill("M00013")
    page.get_by_label("Delete: erase their data").check()
    page.get_by_role("button", name="Preview").click()
    page.get_by_label("To confirm, type DELETE 1").fill("DELETE 2")
    page.get_by_role("button", name="File the deletion").click()
    expect(page.get_by_text("Nothing was filed: the text you typed does not match.")).to_be_visible()
    page.get_by_label("To confirm, type DELETE 1").fill("DELETE 1")
    page.get_by_role("button", name="File the deletion").click()
    assert ComplianceRequest.objects.filter(origin="console", uci_value="M00013").count() == 2
