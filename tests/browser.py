"""A real browser for the tests of pages: Debian's Chromium. Where it is missing, they are skipped."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from scripts import chromium as chromium_of_debian
from tests.people import client_of

_Test = TypeVar("_Test", bound=Callable[..., Any])

needs_chromium = pytest.mark.skipif(
    chromium_of_debian.PROGRAM is None, reason="Chromium is missing: see README, Tests"
)

WIDE: ViewportSize = {"width": 1280, "height": 900}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

# Styles and media are loaded again for two rules alone: one is experimental, the other about sound.
_ALL = {"resultTypes": ["violations"], "preload": False}
# axe's rules of the category "color", without the one for the third level of WCAG.
_COLOURS = {**_ALL, "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}

# In milliseconds; a busy machine draws slowly.
PATIENCE = 30_000

# Half way through a transition, colours have another contrast. A page that is not drawn ends none.
_ANIMATIONS_END = """Promise.race([
    Promise.allSettled(document.getAnimations().map(one => one.finished)),
    new Promise(done => setTimeout(done, 2000)),
])"""


def in_a_browser(test: _Test) -> _Test:
    """Mark a test that looks at pages with `is_easy_to_use`. What it stores is committed, for the live server."""
    is_long = pytest.mark.long(reason="a browser draws pages in both themes, and axe looks at each")
    for mark in (pytest.mark.django_db(transaction=True), needs_chromium, is_long):
        test = mark(test)
    return test


@dataclass
class Watched:
    """A page with its outgoing requests and its console messages."""

    page: Page
    asked: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright's event loop runs in this thread; Django would refuse the ORM beside it.
        patch.setitem(os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        try:
            yield playwright.chromium.launch(
                executable_path=chromium_of_debian.PROGRAM, args=chromium_of_debian.ARGUMENTS
            )
        finally:
            # Only this event loop can close its database connections.
            connections.close_all()


@pytest.fixture
def chromium() -> Iterator[Browser]:
    with browser() as launched:
        yield launched


def open_page(browser: Browser, url: str, *, width: int = 1280) -> Watched:
    return _watch(browser.new_page(viewport={"width": width, "height": 900}), url)


def signed_in(
    browser: Browser,
    server: str,
    user: User,
    path: str,
    *,
    width: int = 1280,
    dark: bool = False,
    script: bool = True,
) -> Watched:
    """Open a page of the console as a staff user. `server` is its address, such as `live_server.url`."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        java_script_enabled=script,
    )
    session = client_of(user).cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": server}])
    return _watch(context.new_page(), server + path)


def _watch(page: Page, url: str) -> Watched:
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    watched = Watched(page)
    page.on("request", lambda request: watched.asked.append(request.url))
    page.on("requestfailed", lambda request: watched.blocked.append(f"{request.failure} {request.url}"))
    page.on("console", lambda said: watched.errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: watched.errors.append(str(error)))
    page.goto(url)
    return watched


def barriers(page: Page, *, beside: str = "", colours: bool = False) -> dict[str, list[str]]:
    """Return the serious or critical findings of axe: rule -> selectors of the elements. `beside` is left out.

    `colours` checks only rules about colours: enough for a page that was checked in the other theme.
    """
    context = {"exclude": [[beside]]} if beside else None
    options = _COLOURS if colours else _ALL
    found = Axe().run(page, context=context, options=options).response["violations"]
    return {
        one["id"]: [target for node in one["nodes"] for target in map(str, node["target"])]
        for one in found
        if one["impact"] in {"serious", "critical"}
    }


def is_easy_to_use(page: Page, *, beside: str = "") -> None:
    """Fail if axe finds a barrier in the light or in the dark theme, or if a phone has to scroll to the side.

    `beside` is left out by axe. Leaves the page light and wide.
    """
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.evaluate(_ANIMATIONS_END)
        found = barriers(page, beside=beside, colours=scheme == "dark")
        assert not found, (page.url, scheme, found)
    assert fits(page), page.url
    page.set_viewport_size(WIDE)
    page.emulate_media(color_scheme="light")


def stays_at_home(watched: Watched, server: str) -> None:
    """Fail if the page has asked another host, had something blocked, or met an error."""
    assert [asked for asked in watched.asked if not asked.startswith((server, "data:", "blob:"))] == []
    # What a page still asks for is broken off where the page is left, which is no fault.
    left = f"net::ERR_ABORTED {server}"
    assert [blocked for blocked in watched.blocked if not blocked.startswith(left)] == []
    assert watched.errors == []


def fits(page: Page, *, width: int = 360) -> bool:
    """Return whether a page needs no horizontal scrolling on a screen of this width."""
    page.set_viewport_size({"width": width, "height": 800})
    needed: int = page.evaluate("document.documentElement.scrollWidth")
    return needed <= width
