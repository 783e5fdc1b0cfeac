"""A superuser sets a second factor up, logs out and in again, and reads the change log, in a real browser."""

import time
from base64 import b32decode

from django.conf import settings as django_settings
from django.contrib.auth.models import User
from playwright.sync_api import expect

from accounts.models import Authenticator
from chatbots.operations.chatbots import designate_uci
from tests.browser import in_a_browser, is_easy_to_use, open_page, signed_in, stays_at_home
from tests.codes import PASSWORD, App, code_of


@in_a_browser
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


@in_a_browser
def test_a_new_user_follows_their_link_in_a_browser(live_server, chromium, user, chatbot):
    boss = signed_in(chromium, live_server.url, user, "/admin/auth/user/").page
    boss.get_by_role("link", name="Add user").click()
    boss.get_by_label("User name").fill("ada")
    boss.get_by_label("Officer").check()
    boss.get_by_role("button", name="Add user").click()
    expect(boss.get_by_role("alert")).to_contain_text("Choose a chatbot")
    is_easy_to_use(boss)
    boss.get_by_label(chatbot.name).check()
    boss.get_by_role("button", name="Add user").click()
    link = boss.locator("#link").inner_text()
    is_easy_to_use(boss)

    watched = open_page(chromium, link.replace("#", "#9"))
    page = watched.page
    page.goto(link)  # in the same tab, which loads nothing
    expect(page.get_by_label("Code:")).to_be_hidden()
    expect(page).to_have_url(f"{live_server.url}/admin/set-password/")
    page.get_by_role("link", name="Skip to the content").press("Enter")  # its # is no code
    page.get_by_label("New password:").fill(PASSWORD)
    page.get_by_label("New password confirmation:").fill("another")
    page.get_by_role("button", name="Save password").click()
    is_easy_to_use(page)
    page.get_by_label("New password:").fill(PASSWORD)
    page.get_by_label("New password confirmation:").fill(PASSWORD)
    page.get_by_role("button", name="Save password").click()
    expect(page.get_by_text("Your password was saved.")).to_be_visible()
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    stays_at_home(watched, live_server.url)
    assert link.partition("#")[2] not in " ".join(watched.asked)

    boss.goto(f"{live_server.url}/admin/auth/user/{User.objects.get(username='ada').pk}/change/")
    boss.get_by_role("link", name="New password").click()
    boss.get_by_role("button", name="Create link").click()
    code = boss.locator("#link").inner_text().partition("#")[2]
    plain = chromium.new_context(java_script_enabled=False).new_page()
    plain.goto(f"{live_server.url}/admin/set-password/")
    plain.get_by_label("Code:").fill(code)
    for label in ("New password:", "New password confirmation:"):
        plain.get_by_label(label).fill(PASSWORD)
    plain.get_by_role("button", name="Save password").click()
    expect(plain.get_by_text("Your password was saved.")).to_be_visible()
