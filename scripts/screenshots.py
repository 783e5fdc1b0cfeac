"""`make screenshots`: the pictures of the console's help, light and dark, into `docs/images/`.

In a copy of its own under var/screenshots, with invented people. Needs Chromium (README, Tests).
"""

import base64
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
VAR_DIR = ROOT / "var" / "screenshots"

sys.path.insert(0, str(ROOT))

from scripts import chromium, own_copy  # noqa: E402

ENVIRONMENT = own_copy.begin(VAR_DIR)

from scripts.processes import Processes, exit_on_sigterm  # noqa: E402
from scripts.screenshot_pages import HEIGHT, IMAGES, PICTURES, THEMES, WIDTH, Picture  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from scripts.screenshot_scene import Scene

# Longer pages are cut here.
TALLEST = 1_500
QUALITY = 80


def main() -> int:
    """Take all pictures and return an exit code."""
    exit_on_sigterm()
    if chromium.PROGRAM is None:
        print(f"No browser here: {chromium.INSTALL}", file=sys.stderr)
        return 1
    foreign = own_copy.foreign_settings()
    if foreign:
        print(f".env sets {', '.join(foreign)}: the pictures would show that copy. Move it away.", file=sys.stderr)
        return 1
    with own_copy.servers(VAR_DIR), Processes() as processes:
        from scripts import screenshot_scene  # noqa: PLC0415  needs django.setup()

        print("The scene is set ...", flush=True)
        scene = screenshot_scene.build(lambda: own_copy.start_web_and_worker(processes, ENVIRONMENT, VAR_DIR))
        # Playwright's event loop runs in this thread; Django would refuse the ORM beside it.
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
        with _browser() as browser:
            taken = _take_all(browser, scene)
    for old in set(IMAGES.glob("*.webp")) - taken:
        old.unlink()
    print(f"{len(taken)} pictures in {IMAGES.relative_to(ROOT)}/.")
    return 0


@contextmanager
def _browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  only where there is a browser

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium.PROGRAM, args=chromium.ARGUMENTS)


def _take_all(browser: "Browser", scene: "Scene") -> set[Path]:
    taken = set()
    IMAGES.mkdir(parents=True, exist_ok=True)
    for theme in THEMES:
        for picture in PICTURES:
            path = IMAGES / f"{picture.name}-{theme}.webp"
            context = browser.new_context(
                viewport={"width": WIDTH, "height": HEIGHT},
                color_scheme=theme,
                locale="en-GB",
                timezone_id="UTC",
                reduced_motion="reduce",
            )
            session = scene.sessions[picture.user]
            context.add_cookies([{"name": scene.cookie, "value": session, "url": scene.address}])
            page = context.new_page()
            page.set_default_timeout(30_000)
            _go(page, scene, picture)
            path.write_bytes(_shot(page))
            context.close()
            taken.add(path)
        print(f"  {theme}: {len(PICTURES)} pages", flush=True)
    return taken


def _go(page: "Page", scene: "Scene", picture: Picture) -> None:
    answer = page.goto(scene.address + picture.path(scene))
    if answer is None or answer.status != picture.status:
        raise RuntimeError(f"{picture.name}: the page answers {answer and answer.status}.")
    picture.then(page, scene)


def _shot(page: "Page") -> bytes:
    """Return the page from its top as WebP, which Playwright cannot write; for a dialog, the window."""
    asked: dict[str, Any] = {"format": "webp", "quality": QUALITY}
    if not page.locator("dialog[open]").count():
        height = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST)
        # As tall as the picture, so that sticky elements are at the picture's edges.
        page.set_viewport_size({"width": WIDTH, "height": max(HEIGHT, height)})
    session = page.context.new_cdp_session(page)
    return base64.b64decode(session.send("Page.captureScreenshot", asked)["data"])


if __name__ == "__main__":
    sys.exit(main())
