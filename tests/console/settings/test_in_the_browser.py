"""The pages of settings in a real browser: both themes, on a phone, by keyboard, and without scripts."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone
from playwright.sync_api import Page, expect

from chatbots.models import ApiKey, Chatbot, Variable
from chatbots.operations.buckets import ClientBucket, set_bucket
from chatbots.operations.keys import create_api_key
from compliance import worker
from tests import factories
from tests.browser import barriers, fits, in_a_browser, is_easy_to_use, needs_chromium, signed_in, stays_at_home
from tests.console.settings.saving import PAGES, page_of, section_of
from tests.people import Role, staff

LIST, NEW = "/admin/chatbots/", "/admin/chatbots/new/"


def create_a_variable_by_keyboard(page: Page) -> None:
    opener = page.get_by_role("button", name="Create variable")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_hidden()
    expect(opener).not_to_be_focused()
    opener.press("Enter")
    expect(dialog).to_be_visible()
    above, below = dialog.evaluate(
        "(one) => [one.getBoundingClientRect().top, innerHeight - one.getBoundingClientRect().bottom]"
    )
    assert abs(above - below) < 2, "in the middle of the window"
    dialog.get_by_role("radio", name="Custom").press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()

    opener.press("Enter")
    dialog.get_by_role("radio", name="User channel").check()
    dialog.get_by_label("Name").fill("Plan B")
    dialog.get_by_label("Name").press("Enter")
    expect(dialog).to_be_visible()  # shown again with the reason
    expect(dialog.get_by_label("Name")).to_be_focused()
    expect(dialog.get_by_label("Name")).to_have_value("Plan B")
    expect(dialog).to_contain_text("Bad name")
    assert barriers(page) == {}
    dialog.get_by_label("Name").fill("plan_b")
    dialog.get_by_label("Name").press("Enter")
    expect(page.locator("#uci .messages")).to_contain_text("Variable created")
    expect(page.get_by_role("radio", name="plan_b")).to_be_visible()


def choose_days_by_keyboard(page: Page, *, has_script: bool = True) -> None:
    number = page.get_by_label("Number of days")
    expect(number).to_be_visible(visible=not has_script)
    page.get_by_label("Delete conversations after").focus()
    page.keyboard.type("Another")
    page.keyboard.press("Tab")
    expect(number).to_be_focused()
    page.keyboard.type("45")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Delete after 45 days")).to_be_visible()


@in_a_browser
def test_credentials_are_issued_and_revoked_with_ease(live_server, chromium, admin_user, chatbot, iam_storage):
    factories.BucketCredentialFactory.create(chatbot=chatbot, place=2, revoked_at=timezone.now())
    watched = signed_in(chromium, live_server.url, admin_user, page_of(chatbot, "bucket"))
    page = watched.page
    page.locator("summary", has_text="Issue credentials").click()
    page.get_by_label("Label").locator("visible=true").fill("Data team")
    page.get_by_role("button", name="Issue credentials").click()
    expect(page.get_by_text("This secret is shown once")).to_be_visible()
    is_easy_to_use(page)
    page.get_by_role("link", name="Done").click()
    credentials = page.locator("#credentials")
    expect(credentials).to_contain_text("Data team")
    for folded in page.locator("#bucket summary").all():
        folded.click()
    is_easy_to_use(page)
    stays_at_home(watched, live_server.url)

    credentials.get_by_label("Yes, revoke these credentials").check()
    credentials.get_by_role("button", name="Revoke credentials").click()
    expect(page.locator("#bucket .messages")).to_contain_text("Credentials revoked")
    expect(credentials).to_contain_text("No credentials")


@in_a_browser
def test_a_chatbot_is_set_up_with_ease(live_server, chromium, admin_user: User, chatbot: Chatbot):
    factories.ChatbotFactory.create(slug="bare")
    client_s = ClientBucket("acme-files", "eu-west-3", access_key_id="AKIA1", secret="a-client-s-secret")
    set_bucket(chatbot=chatbot, client=client_s, actor="command")
    create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="CRM", actor="command")
    staff(chatbot, Role.OFFICER)
    watched = signed_in(chromium, live_server.url, admin_user, LIST)
    page = watched.page
    for path in (LIST, NEW, *(page_of(chatbot, name) for name in ("", *PAGES))):
        page.goto(live_server.url + path)
        for folded in page.locator("main summary").all():
            folded.click()
        is_easy_to_use(page)
    stays_at_home(watched, live_server.url)
    page.goto(live_server.url + page_of(chatbot, "identity"))
    create_a_variable_by_keyboard(page)

    # A hosted bucket has no settings to fill in.
    page.get_by_role("navigation", name="Settings").get_by_role("link", name="Bucket and extracts").press("Enter")
    page.locator("summary", has_text="Change bucket").click()
    expect(page.get_by_label("Region")).to_be_visible()
    page.get_by_role("radio", name="The operator's bucket").check()
    expect(page.get_by_label("Region")).to_be_hidden()

    page.goto(live_server.url + page_of(chatbot, "compliance"))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=live_server.url)
    page.get_by_role("button", name="Copy the address to delete").click()
    expect(page.get_by_role("button", name="Copied").first).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").endswith("/api/v1/chatbots/acme/data-deletion")

    page.goto(live_server.url + page_of(chatbot, "retention"))
    choose_days_by_keyboard(page)
    page.goto(live_server.url + page_of(chatbot, "keys"))
    page.locator("summary", has_text="Create key").click()
    page.get_by_label("Label").locator("visible=true").fill("A second CRM")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_text("This secret is shown once.")).to_be_visible()
    assert barriers(page) == {}
    assert fits(page)
    secret = page.locator("#secret").text_content()
    page.get_by_role("link", name="Done").click()
    expect(page.locator("#keys")).to_contain_text("A second CRM")
    assert str(secret) not in page.content()

    page.locator("summary", has_text="Create identity key").click()
    form = page.locator("form", has=page.get_by_role("button", name="Create identity key"))
    form.get_by_label("Label").fill("Web shop")
    form.get_by_role("radio", name="ES256").check()
    form.get_by_role("textbox", name="Public key").fill("planted")
    form.get_by_role("button", name="Create identity key").click()
    expect(form).to_contain_text("one public key in PEM")
    assert "planted" not in page.content()
    is_easy_to_use(page)
    form.get_by_role("radio", name="HS256").check()
    form.get_by_role("button", name="Create identity key").click()
    expect(page.get_by_text("This secret is shown once.")).to_be_visible()
    is_easy_to_use(page)
    page.get_by_role("link", name="Done").click()
    expect(page.locator("#keys")).to_contain_text(str(chatbot.public_id))
    is_easy_to_use(page)
    stays_at_home(watched, live_server.url)


@pytest.mark.long(reason="a browser opens an address for each section")
@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_the_anchors_of_the_former_page_lead_to_their_pages(live_server, chromium, chatbot: Chatbot):
    watched = signed_in(chromium, live_server.url, staff(chatbot, Role.VIEWER), page_of(chatbot))
    page = watched.page
    for section in (section for sections in PAGES.values() for section in sections):
        page.goto("about:blank")
        page.goto(f"{live_server.url}{page_of(chatbot)}#{section}")
        expect(page).to_have_url(live_server.url + section_of(chatbot, section))
        expect(page.locator(f"section#{section} h2")).to_be_in_viewport()
    page.goto(live_server.url + page_of(chatbot))
    page.evaluate("location.hash = 'keys'")  # typed into the address of the open page
    expect(page).to_have_url(live_server.url + section_of(chatbot, "keys"))
    page.goto(f"{live_server.url}{page_of(chatbot)}#nothing")
    expect(page.get_by_role("heading", name="Members")).to_be_visible()
    stays_at_home(watched, live_server.url)

    viewer = staff(chatbot, Role.SUPPORT)
    plain = signed_in(chromium, live_server.url, viewer, f"{page_of(chatbot)}#resolver", width=360, script=False).page
    plain.get_by_role("link", name="Resolver").click()
    expect(plain).to_have_url(live_server.url + section_of(chatbot, "resolver"))
    here = plain.get_by_role("navigation", name="Settings").locator("[aria-current=page]")
    expect(here).to_have_text("Identity")


@pytest.mark.long(reason="a browser draws the page")
@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_an_officer_without_a_script_creates_a_variable_and_chooses_a_period(live_server, chromium, chatbot: Chatbot):
    officer = staff(chatbot, Role.OFFICER)
    watched = signed_in(chromium, live_server.url, officer, page_of(chatbot, "identity"), width=360, script=False)
    page = watched.page

    expect(page.get_by_role("button", name="Create variable")).to_be_hidden()
    page.get_by_label("Name").fill("customer_id")
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".messages")).to_contain_text("Variable created")

    assert Variable.objects.filter(chatbot=chatbot, name="customer_id").exists()
    expect(page.get_by_role("button", name="Save settings")).to_have_count(0)
    page.goto(live_server.url + page_of(chatbot, "retention"))
    choose_days_by_keyboard(page, has_script=False)


@in_a_browser
@pytest.mark.parametrize("has_script", [True, False])
def test_the_page_follows_a_check(live_server, chromium, admin_user, chatbot, storage, *, has_script) -> None:
    watched = signed_in(chromium, live_server.url, admin_user, page_of(chatbot, "bucket"), script=has_script)
    page, section = watched.page, watched.page.locator("#bucket")
    section.get_by_role("button", name="Check access").click()
    expect(section).to_contain_text("Waiting for a worker")
    if has_script:
        is_easy_to_use(page)

    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(_work).result()
    if not has_script:
        section.get_by_role("button", name="Refresh").click()

    expect(section).to_contain_text("The bucket can be used", timeout=15_000)
    expect(section).to_contain_text("Write an object")
    if has_script:
        is_easy_to_use(page)


def _work() -> None:
    worker.drain()
    connections.close_all()
