"""The monitoring pages in a real browser."""

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from chatbots.models import Chatbot
from tests.browser import browser, needs_chromium, signed_in
from tests.factories import CallbackFactory, deletion_of
from tests.people import Role, staff


@pytest.mark.long(reason="a browser draws pages in both themes, and axe looks at each")
@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_callbacks_are_sent_again_and_a_chatbot_is_chosen(live_server, chatbot: Chatbot, neighbour: Chatbot) -> None:
    CallbackFactory.create(request=deletion_of(chatbot, "42"), given_up=True, last_status=500)
    officer = staff(chatbot, Role.OFFICER)
    with browser() as chromium:
        watched = signed_in(chromium, live_server.url, officer, "/admin/callbacks/?state=given_up")
        _choose_and_send_again(watched.page)
        superuser = User.objects.create_superuser("root")
        chosen = signed_in(chromium, live_server.url, superuser, "/admin/").page
        chosen.get_by_label("Chatbot").select_option("acme")
        chosen.wait_for_url("**chatbot=acme**")
        expect(chosen.get_by_role("img", name="Requests filed per day")).to_be_visible()


def _choose_and_send_again(page: Page) -> None:
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Send selected again").click()
    expect(page.get_by_role("status")).to_contain_text("1 callback: will be sent again")
    expect(page.get_by_text("No callbacks match these filters.")).to_be_visible()
