"""A legal hold in the console: placed after a preview, and released by another officer."""

import pytest
from playwright.sync_api import Page, expect

from chatbots.models import Chatbot
from compliance import worker
from compliance.models import LegalHold
from conversations.models import Message
from tests.browser import is_easy_to_use, needs_chromium, signed_in, stays_at_home
from tests.factories import conversation_of, deletion_of
from tests.people import Role, staff


@pytest.mark.long(reason="a browser draws pages in both themes, and axe looks at each")
@needs_chromium
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("storage")
def test_a_deletion_waits_for_a_legal_hold_and_completes_after_its_release(live_server, chromium, chatbot: Chatbot):
    conversation_of(chatbot, "M-7", text="I will see you in court.")
    conversation_of(chatbot, "M-8", text="Good morning.")
    placer = signed_in(chromium, live_server.url, staff(chatbot, Role.OFFICER), "/admin/holds/")
    _place(placer.page)
    deletion = deletion_of(chatbot, "M-7")
    assert not worker.drain(seconds=30)

    path = placer.page.url.removeprefix(live_server.url)
    second = signed_in(chromium, live_server.url, staff(chatbot, Role.OFFICER), path)
    _release(second.page)
    assert not worker.drain(seconds=30)
    second.page.goto(f"{live_server.url}/admin/requests/{deletion.pk}/")
    expect(second.page.locator(".now")).to_contain_text("Completed")
    assert list(Message.objects.values_list("text", flat=True).distinct()) == ["Good morning."]
    for watched in (placer, second):
        assert "M-7" not in "".join(watched.asked)
        stays_at_home(watched, live_server.url)


def _place(page: Page) -> None:
    page.get_by_role("link", name="Place a hold").click()
    page.get_by_label("UCI value", exact=True).fill("M-7")
    page.get_by_label("Matter").fill("case-0815")
    page.get_by_label("Basis").select_option(label="Legal claims")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("Nothing has been placed yet.")).to_be_visible()
    is_easy_to_use(page)
    page.get_by_role("button", name="Edit").click()
    expect(page.get_by_label("UCI value", exact=True)).to_have_value("M-7")
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="Place the hold").click()
    expect(page.get_by_text("Placed. It covers 1 conversation now.")).to_be_visible()
    is_easy_to_use(page)


def _release(page: Page) -> None:
    page.get_by_role("button", name="Show whom").click()
    expect(page.get_by_text("M-7")).to_be_visible()
    page.get_by_role("link", name="Release…").click()
    expect(page.get_by_text("continues", exact=True)).to_be_visible()
    is_easy_to_use(page)
    page.get_by_label("Reason").select_option(label="The matter is closed")
    page.get_by_role("button", name="Release the hold").click()
    expect(page.get_by_text("Released. 1 request is not under a legal hold any more.")).to_be_visible()
    assert LegalHold.objects.get().value_encrypted == ""
