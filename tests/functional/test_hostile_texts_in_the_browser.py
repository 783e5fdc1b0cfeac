"""Every text that anyone can set, in a real browser: nothing runs, nothing is asked elsewhere, nothing is markup."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from chatbots.models import Chatbot
from tests.browser import Watched, browser, needs_chromium, signed_in, stays_at_home
from tests.functional.test_hostile_input_on_pages import World
from tests.payloads import payload
from tests.planted import plant

pytestmark = [needs_chromium, pytest.mark.long(reason="a browser opens every page, once with each set of texts")]

# Before any script of the page: what a payload calls, and what the policy stops, which nothing of ours would ask for.
_WATCH = """
window.hits = [];
for (const name of ["hit", "alert", "confirm", "prompt"]) window[name] = () => window.hits.push(name);
document.addEventListener("securitypolicyviolation", (event) => window.hits.push(event.violatedDirective));
"""

# Elements, attributes and addresses that only a payload makes; and texts whose direction reaches beyond themselves.
_LOOK = r"""() => {
    const found = [...window.hits];
    for (const one of document.querySelectorAll("*")) {
        if (one.localName.startsWith("hit")) found.push(one.outerHTML.slice(0, 200));
        for (const { name, value } of one.attributes) {
            if (name.startsWith("hit") || name.startsWith("on")) found.push(`${one.localName} ${name}`);
            const leads = /^(href|src|action|formaction|srcset)$/.test(name) && !value.startsWith("data:image/");
            if (leads && /^\s*(javascript|data|vbscript):|hit\.invalid/i.test(value)) found.push(`${name}=${value}`);
        }
    }
    return found;
}"""


def look(watched: Watched, server: str) -> None:
    page = watched.page
    assert page.evaluate(_LOOK) == [], page.url
    stays_at_home(watched, server)


@pytest.mark.parametrize("turn", [-1, 0, 1])
def test_nothing_runs(turn: int, live_server: Any, chatbot: Chatbot, neighbour: Chatbot, admin_user: User) -> None:
    world = World(chatbot, neighbour)
    plant(chatbot, turn=turn, person=world.person)
    server = live_server.url
    with browser() as chromium:
        watched = signed_in(chromium, server, admin_user, "/admin/")
        page = watched.page
        page.add_init_script(_WATCH)
        page.on("dialog", lambda dialog: watched.errors.append(f"dialog {dialog.message}"))
        for address in sorted(set(world.addresses())):
            answer = page.goto(server + address)
            assert answer
            assert answer.status == 200, address
            # What is folded or in a dialog is drawn too.
            page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            look(watched, server)
        page.evaluate("document.body.append(document.createElement('hit-me'))")
        assert page.evaluate(_LOOK) == ["<hit-me></hit-me>"]
        if turn >= 0:
            for path in (f"/admin/file/{chatbot.slug}/", f"/admin/lookup/?chatbot={chatbot.slug}"):
                page.goto(server + path)
                send_forms(page, payload(most=500, turn=turn))
                look(watched, server)


def send_forms(page: Page, text: str) -> None:
    """Fill what can be typed on a page, and send its main form."""
    for box in page.locator("main input[type=text]:visible, main textarea:visible").all():
        box.fill(text)
    page.locator("main form button[type=submit], main form button:not([type])").last.click()
    expect(page.locator("main h1")).to_be_visible()
