"""A superuser sets a second factor up, logs out and in again, and reads the change log, in a real browser."""

import time
from base64 import b32decode

import pytest
from django.conf import settings as django_settings
from playwright.sync_api import expect

from accounts.models import Authenticator
from chatbots.operations.chatbots import designate_uci
from tests.browser import is_easy_to_use, needs_chromium, open_page, signed_in, stays_at_home
from tests.codes import PASSWORD, App, code_of


@pytest.mark.long(reason="a browser draws pages in both themes, and axe looks at each")
@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_logging_in_and_reading_the_change_log_work_in_a_browser(live_server, chromium, user, chatbot, settings):
    settings.SECOND_FACTOR_REQUIRED = True
    designate_uci(chatbot=chatbot, name="plan", actor=f"user:{user.pk}")

    watched = signed_in(chromium, live_server.url, user, "/admin/changelog/")
    page = watched.page
    expect(page).to_have_url(f"{live_server.url}/admin/second-factor/set-up/")
    is_easy_to_use(page)
    key = b32decode(page.locator("code.secret").inner_text().replace(" ", ""))
    page.get_by_label("Code:").fill(code_of(key, int(time.time()) // 30))
    page.get_by_role("button", name="Turn on").click()
    expect(page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
    is_easy_to_use(page)
    recovery_code = page.locator(".codes code").first.inner_text()
    page.get_by_role("link", name="Done").click()
    page.wait_for_load_state()
    for path in ("/admin/second-factor/", "/admin/second-factor/remove/", "/admin/changelog/"):
        page.goto(live_server.url + path)
        is_easy_to_use(page)
    page.goto(f"{live_server.url}/admin/changelog/?chatbot=acme&event=variable.designated_uci")
    expect(page.get_by_role("row", name="Variable designated UCI").first).to_contain_text("sam.staff")
    page.get_by_role("button", name="Log out").click()
    stays_at_home(watched, live_server.url)

    App(Authenticator.objects.get(), []).forget_codes()
    watched = open_page(chromium, f"{live_server.url}/admin/login/?next=/admin/changelog/")
    page = watched.page
    is_easy_to_use(page)
    page.get_by_label("Username").fill("sam.staff")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("Don't have your phone?").click()
    is_easy_to_use(page)
    page.get_by_label("Recovery code").fill(recovery_code)
    page.get_by_role("button", name="Log in with a recovery code").click()
    expect(page.get_by_role("heading", name="Change log")).to_be_visible()
    stays_at_home(watched, live_server.url)
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    assert all(cookie["httpOnly"] and cookie["sameSite"] == "Lax" for cookie in cookies.values())
    assert set(cookies) == {django_settings.SESSION_COOKIE_NAME, django_settings.CSRF_COOKIE_NAME}

    for _ in range(settings.LOGIN_FAILURES):
        locked = open_page(chromium, f"{live_server.url}/admin/login/").page
        locked.get_by_label("Username").fill("sam.staff")
        locked.get_by_label("Password").fill("wrong")
        locked.get_by_role("button", name="Log in").click()
    expect(locked.get_by_role("heading", name="Too many failed log-ins")).to_be_visible()
    is_easy_to_use(locked)
