"""The pages to watch by, in a real browser: light and dark, wide and on a phone, without a barrier."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Page, expect

from chatbots.models import Chatbot
from compliance.listing import first_id
from compliance.models import ComplianceRequest, Heartbeat
from tests.browser import browser, is_easy_to_use, needs_chromium, signed_in, stays_at_home
from tests.compliance.test_watch_pages import finished, held
from tests.conversations.test_extracts_pages import DAY, extract, failed
from tests.factories import CallbackFactory, ClaimFactory, ConversationFactory, deletion_of
from tests.people import Role, staff

PATHS = ("", "exports/", "callbacks/", "extracts/", "workers/", "mails/")


def busy(chatbot: Chatbot) -> None:
    """Something on each page."""
    now = timezone.now()
    for number in range(40):
        at = now - timedelta(days=number % 20, minutes=number)
        ConversationFactory.create(chatbot=chatbot, started_at=at)
        one = finished(chatbot) if number % 3 else held(chatbot, due_at=now + timedelta(days=number - 5))
        shifted = str(first_id(at))[:13] + str(one.pk)[13:]
        if number % 3 == 0:
            ComplianceRequest.objects.filter(pk=one.pk).update(id=shifted, received_at=at)
    CallbackFactory.create(request=deletion_of(chatbot, "42"), given_up=True, last_status=500)
    CallbackFactory.create(request=deletion_of(chatbot, "42", claim=ClaimFactory.create()), delivered=True)
    extract(chatbot)
    failed(chatbot, DAY + timedelta(days=1))
    Heartbeat.objects.create(
        id=uuid4(), name="worker-1:31", version="1", workers=2, started_at=now, seen_at=now, worked_at=now
    )


@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_they_are_easy_to_use_wide_and_narrow_light_and_dark(
    live_server, chatbot: Chatbot, neighbour: Chatbot
) -> None:
    busy(chatbot)
    officer = staff(chatbot, Role.OFFICER)
    with browser() as chromium:
        watched = signed_in(chromium, live_server.url, officer, "/admin/")
        for path in PATHS:
            watched.page.goto(f"{live_server.url}/admin/{path}")
            is_easy_to_use(watched.page)
        stays_at_home(watched, live_server.url)
        _choose_and_send_again(watched.page, live_server.url)
        superuser = User.objects.create_superuser("root")
        chosen = signed_in(chromium, live_server.url, superuser, "/admin/").page
        chosen.get_by_label("Chatbot").select_option("acme")
        chosen.wait_for_url("**chatbot=acme**")
        expect(chosen.get_by_role("img", name="Requests filed a day")).to_be_visible()


def _choose_and_send_again(page: Page, server: str) -> None:
    page.goto(f"{server}/admin/callbacks/?state=given_up")
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Send selected again").click()
    expect(page.get_by_role("status")).to_contain_text("1 callback: to be sent again")
    expect(page.get_by_text("No callback fits these filters.")).to_be_visible()
