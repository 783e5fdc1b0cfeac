"""The frame around all pages: access, contents, on a phone and in the dark theme."""

import re

from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from playwright.sync_api import expect

from chatbots.models import Chatbot
from tests.browser import in_a_browser, signed_in
from tests.every_page import RECORDS as KINDS
from tests.every_page import admin_page
from tests.functional.test_every_page_in_the_browser import busy, of_djangos, of_the_console
from tests.functional.test_who_may import something_of
from tests.people import Role, client_of, member, staff

RECORDS = "/admin/records/"


def test_the_menu_offers_what_the_user_may_open(admin_client: Client, chatbot: Chatbot) -> None:
    users = admin_client, *(member(chatbot, role) for role in (Role.OFFICER, Role.SUPPORT, Role.VIEWER))
    for name, offered in (
        ("admin:auth_user_changelist", [True, False, False, False]),
        ("console:changelog", [True, True, False, False]),
        ("console:holds", [True, True, False, False]),
        ("console:file", [True, True, True, False]),
    ):
        assert [f'href="{reverse(name)}"' in user.get(RECORDS).text for user in users] == offered, name


def test_the_users_recent_actions_are_not_shown(admin_client: Client) -> None:
    assert "Recent actions" not in admin_client.get(RECORDS).text


def test_a_path_that_accepts_post_only_explains_it(admin_client: Client, chatbot: Chatbot) -> None:
    # The page after a log-in that interrupted the submission of a form.
    answer = admin_client.get(reverse("console:switch_extracts", args=[chatbot.slug]))
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert "go back and submit it again" in answer.text

    answer = admin_client.post(reverse("console:requests"))
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")
    assert "Nothing was changed: this page does not accept forms." in answer.text


def test_every_date_is_of_iso_8601(admin_user: User, chatbot: Chatbot) -> None:
    busy(chatbot)
    client, values = client_of(admin_user), something_of(chatbot) | {"person": admin_user.pk}
    client.post(f"/admin/auth/user/{admin_user.pk}/change/", {"username": "a", "email": "changed@example.com"})
    # Guides show what other programs print.
    paths = [one for one in (*of_the_console(values), *of_djangos(values)) if "/guides/" not in one]
    paths += [admin_page(kind, "change", row.pk) for kind in KINDS if (row := kind._default_manager.first())]
    paths += [f"/admin/conversations/?chatbot=acme&since=2020-01-{one}&until=2026-01-31" for one in ("01", "31")]
    months = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
    for path in paths:
        # Letters have dates in words.
        text = re.sub(r"<pre.*?</pre>", "", client.get(path).text, flags=re.DOTALL)
        found = re.search(rf"\d (?:{months})|(?:{months})[a-z]*\.? \d|[ap]\.m\.", text)
        assert found is None, path


@in_a_browser
def test_the_frame_is_easy_to_use_wide_and_narrow_light_and_dark(live_server, chromium, admin_user: User, chatbot):
    page = signed_in(chromium, live_server.url, admin_user, RECORDS, dark=True, width=360).page
    menu = page.get_by_role("button", name="Menu")
    entry = page.get_by_role("navigation").get_by_role("link", name="Users")
    expect(entry).to_be_hidden()
    menu.press("Enter")
    expect(entry).to_be_visible()
    entry.press("Escape")
    expect(entry).to_be_hidden()
    expect(menu).to_be_focused()

    page.get_by_role("button", name="Menu").press("Enter")
    page.get_by_role("button", name="Theme").click()  # with a dark system, from its theme to the light one
    assert page.evaluate("document.documentElement.dataset.theme") == "light"

    plain = signed_in(chromium, live_server.url, staff(chatbot), RECORDS, width=360, script=False)
    expect(plain.page.get_by_role("button", name="Log out")).to_be_visible()
