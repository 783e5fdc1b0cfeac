"""The pages at /api/docs/ in a real browser: their contents, their requests, and trying calls."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from config.openapi.views import TAG_SLUGS
from tests.browser import Watched, barriers, browser, is_easy_to_use, needs_chromium, open_page
from tests.calls import SigningCaller, TokenCaller
from tests.document import document, operations

SECRET = "a_secure_secret"
PHONE = {"width": 390, "height": 844}

# Serious findings of axe in the libraries' own parts; there are none in ours.
REDOCS = {"scrollable-region-focusable"}
SWAGGERS = {"label", "nested-interactive", "scrollable-region-focusable", "select-name"}
# Redoc's own logo: blocked by the page's policy, so the browser does not request it.
LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"

pytestmark = needs_chromium


@pytest.fixture
def chromium() -> Iterator[Browser]:
    with browser() as launched:
        yield launched


def _stays_at_home(watched: Watched, url: str) -> None:
    """Fail if the page has asked another host, or has met an error."""
    elsewhere = {asked for asked in watched.asked if not asked.startswith((url, "data:", "blob:"))}
    assert elsewhere <= {LOGO}
    # What is still loading where a page is left is broken off: the worker of Redoc's search, the icon.
    broken_off = (f"net::ERR_ABORTED blob:{url}", f"net::ERR_ABORTED {url}/static/docs/icon.svg")
    blocked = {one for one in watched.blocked if not one.startswith(broken_off)}
    assert blocked == {f"csp {asked}" for asked in elsewhere}
    assert [error for error in watched.errors if LOGO not in error] == []


def _fits_a_phone(page: Page) -> bool:
    page.set_viewport_size(PHONE)
    width: int = page.evaluate("document.documentElement.scrollWidth")
    return width <= PHONE["width"]


@pytest.mark.long(reason="a browser draws the reference of the whole API")
def test_the_reference_shows_every_call_with_its_samples(live_server, chromium):
    watched = open_page(chromium, f"{live_server.url}/api/docs/")
    page = watched.page
    for slug, tag in TAG_SLUGS.items():
        page.goto(f"{live_server.url}/api/docs/")
        page.get_by_role("link", name=tag, exact=True).press("Enter")
        expect(page).to_have_url(f"{live_server.url}/api/docs/reference/{slug}/")
        for operation in operations():
            if operation.document["tags"] == [tag]:
                expect(page.locator("h2", has_text=operation.document["summary"])).to_be_attached()
    page.goto(f"{live_server.url}/api/docs/")
    page.get_by_role("link", name="Let a held request continue").click()
    expect(page.locator("h2", has_text="Let a held request continue")).to_be_in_viewport()
    for language in ("curl", "Python", "JavaScript"):
        expect(page.get_by_role("tab", name=language, exact=True).first).to_be_attached()
    _stays_at_home(watched, live_server.url)


@pytest.mark.long(reason="a browser draws pages, and axe looks at each")
def test_the_guide_and_the_list_of_calls_are_easy_to_use(live_server, chromium):
    watched = open_page(chromium, f"{live_server.url}/")
    page = watched.page
    expect(page).to_have_url(f"{live_server.url}/api/docs/")
    is_easy_to_use(page)
    page.get_by_role("link", name="Guide", exact=True).press("Enter")
    is_easy_to_use(page)
    page.get_by_role("link", name="File a deletion or an export").press("Enter")
    contents = page.get_by_role("navigation", name="On this page")
    contents.get_by_role("link", name="Equal exports").press("Enter")
    expect(page.get_by_role("heading", name="Equal exports")).to_be_in_viewport()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=live_server.url)
    page.get_by_role("button", name="Copy this code").first.press("Enter")
    expect(page.get_by_role("button", name="Copied").first).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("curl ")
    is_easy_to_use(page)
    page.get_by_role("navigation", name="Pages of the guide").get_by_role("link", name="All calls").press("Enter")
    is_easy_to_use(page)
    _stays_at_home(watched, live_server.url)


@pytest.mark.long(reason="a browser draws the reference of the whole API")
def test_the_reference_is_accessible_and_readable_on_a_phone(live_server, chromium):
    # For a few calls only: axe takes ten seconds for all, with the same findings.
    few = document() | {"paths": {path: calls for path, calls in document()["paths"].items() if "data-e" in path}}
    page = chromium.new_page()
    page.route(re.compile("/api/schema/"), lambda route: route.fulfill(json=few))
    page.goto(f"{live_server.url}/api/docs/reference/requests/")
    expect(page.locator("h2", has_text="File an export")).to_be_attached()
    assert barriers(page).keys() <= REDOCS
    assert _fits_a_phone(page)


@pytest.mark.long(reason="a browser draws the page, and axe looks at it")
def test_the_page_of_errors_is_reached_by_its_anchors_and_by_keyboard(live_server, chromium):
    watched = open_page(chromium, f"{live_server.url}/api/docs/errors#not_ready")
    page = watched.page
    expect(page.locator("#not_ready")).to_be_in_viewport()
    assert barriers(page) == {}
    assert _fits_a_phone(page)
    page.goto(f"{live_server.url}/api/docs/errors")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("link", name="Reference").click()
    expect(page).to_have_title("Reference · Data Compliance API")
    _stays_at_home(watched, live_server.url)


@pytest.mark.long(reason="a browser tries calls on the reference page")
def test_a_call_can_be_tried_with_a_token_and_with_a_signature(live_server, chromium, chatbot: Chatbot):
    SigningCaller(chatbot, SECRET)
    token = TokenCaller(chatbot).token
    watched = open_page(chromium, f"{live_server.url}/api/docs/try/")
    page = watched.page
    filing = page.locator("#operations-Requests-fileDeletion")
    filing.locator("button.opblock-summary-control").click()
    assert barriers(page, beside=".responses-table").keys() <= SWAGGERS

    page.get_by_role("button", name="Authorize").click()
    page.locator("#auth-bearer-value").fill(token)
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").click()
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Close").click()
    assert _status_of_a_try(filing) == "200"
    assert ComplianceRequest.objects.get().filed_by.startswith("api:")

    page.get_by_label("Secret of a signing key").fill(SECRET)
    expect(page.get_by_role("status")).to_have_text("Calls that take a signature are signed.")
    with page.expect_request("**/data-deletion") as sent:
        assert _status_of_a_try(filing) == "200"
    assert sent.value.headers.keys() >= {"x-mindsay-timestamp", "x-mindsay-signature"}
    assert "authorization" not in sent.value.headers
    assert SECRET not in str(sent.value.headers) + page.content()
    assert page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])").find(SECRET) == -1
    assert ComplianceRequest.objects.count() == 2

    assert _fits_a_phone(page)
    _stays_at_home(watched, live_server.url)


def _status_of_a_try(operation) -> str:
    with operation.page.expect_response("**/data-deletion"):
        operation.get_by_role("button", name="Execute").click()
    status: str = operation.locator(".live-responses-table .response-col_status").last.inner_text()
    return status.strip()
