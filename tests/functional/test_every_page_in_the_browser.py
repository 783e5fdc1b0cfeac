"""Every page of the console in a real browser: no barrier in either theme, no scrolling sideways on a phone, nothing
from elsewhere, nothing refused by the policy.

Other states of a page, such as errors or an open dialog, are tested with that page.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.urls import reverse
from django.utils import timezone

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest, Heartbeat
from compliance.requests.queries import first_id
from tests.browser import browser, is_easy_to_use, needs_chromium, signed_in, stays_at_home
from tests.console.monitoring.test_lists import DAY, extract, failed
from tests.console.monitoring.test_pages import finished, held
from tests.every_page import OF_ANYONE, OF_ONESELF, TABLE
from tests.factories import CallbackFactory, ClaimFactory, ConversationFactory, deletion_of
from tests.functional.test_who_may import something_of
from tests.people import Role, staff

pytestmark = [
    needs_chromium,
    pytest.mark.long(reason="a browser draws every page, in two themes and on a phone", each_quarter=True),
]

# Parts of pages, and files.
_NO_PAGES = {
    *("request_progress", "check_progress", "request_download", "request_copy", "request_letter"),
    *("conversation_file", "changelog_download"),
}
# They redirect unless a log-in has started, or without a second factor.
_WITH_STATE = {"login_code", "second_factor_recovery_codes", "second_factor_remove"}
# The same around each page, and checked around the first.
_FRAME = ".side"


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


def of_the_console(values: Mapping[str, Any]) -> Iterator[str]:
    named = {page.name for page in TABLE if page.named}
    for page in TABLE:
        if page.method == "GET" and page.name not in _NO_PAGES and page.named == (page.name in named):
            yield page.url(values)
    for name in sorted(OF_ANYONE | OF_ONESELF - _WITH_STATE):
        yield reverse(f"console:{name}")
    yield reverse("console:help")
    yield reverse("console:help_page", args=["held-requests"])


def of_djangos(values: Mapping[str, Any]) -> Iterator[str]:
    yield from (reverse(f"admin:{name}") for name in ("records", "password_change"))
    for model in admin.site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        yield reverse(f"admin:{name}_changelist")
    yield reverse("admin:auth_user_add")
    yield from (
        reverse(f"admin:auth_user_{name}", args=[values["person"]])
        for name in ("change", "history", "password_change")
    )


@pytest.mark.parametrize("paths", [of_the_console, of_djangos])
def test_every_page_is_accessible(paths, live_server, chatbot, neighbour, admin_user) -> None:
    busy(chatbot)
    values = something_of(chatbot) | {"person": staff(chatbot, Role.OFFICER).pk}
    server = live_server.url
    with browser() as chromium:
        watched = signed_in(chromium, server, admin_user, "/admin/")
        page = watched.page
        is_easy_to_use(page)
        for path in paths(values):
            answer = page.goto(server + path)
            assert answer
            assert answer.status == 200, path
            stays_at_home(watched, server)
            is_easy_to_use(page, beside=_FRAME)
            watched.errors.clear()  # axe puts styles into some pages, which the policy refuses
