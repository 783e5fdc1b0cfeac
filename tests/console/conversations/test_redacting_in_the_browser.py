"""Messages are selected and redacted in a browser: accessible, on a phone, in the dark theme, without script."""

import pytest
from playwright.sync_api import expect

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from tests.browser import is_easy_to_use, needs_chromium, signed_in, stays_at_home
from tests.factories import conversation_of
from tests.people import Role, staff


@pytest.mark.long(reason="a browser draws pages in both themes, and axe looks at each")
@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_selected_messages_are_redacted(live_server, chromium, chatbot: Chatbot, storage: ObjectStorage) -> None:
    conversation = conversation_of(chatbot, "42", messages=3, text="my card is 4111 5813")
    path = f"/admin/conversations/{conversation.pk}/"
    watched = signed_in(chromium, live_server.url, staff(chatbot, Role.SUPPORT), path)
    page = watched.page
    page.goto(live_server.url + path, wait_until="networkidle")
    boxes = page.get_by_role("checkbox", name="Select this message of User")
    expect(boxes).to_have_count(3)
    boxes.nth(1).focus()
    page.keyboard.press("Space")
    is_easy_to_use(page)
    # No reason is chosen: the browser asks for it.
    page.get_by_role("button", name="Redact selected messages").click()
    expect(page).to_have_url(live_server.url + path)
    page.get_by_label("Reason").select_option("payment_data")
    page.get_by_role("button", name="Redact selected messages").click()
    expect(page.get_by_text("The redaction is filed.")).to_be_visible()

    assert not worker.drain(seconds=30)
    page.reload(wait_until="networkidle")
    expect(page.get_by_text("verification found nothing left")).to_be_visible()
    is_easy_to_use(page)
    page.get_by_role("link", name=str(conversation.pk), exact=True).click()
    expect(page.get_by_text("This message was redacted.")).to_have_count(1)
    expect(page.get_by_text("my card is 4111 5813")).to_have_count(2)
    is_easy_to_use(page)
    stays_at_home(watched, live_server.url)
