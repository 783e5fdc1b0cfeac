"""Help: every page of `docs/staff/`, for all staff; guides also about a chatbot; true of the console's words."""

import re
from html import escape, unescape
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from markdown_it import MarkdownIt
from playwright.sync_api import expect

from chatbots.models import Chatbot
from config.openapi import guide as clients
from console.help import GUIDES, page_names, path_of, read_index, read_page, title_of
from tests.browser import in_a_browser, is_easy_to_use, signed_in, stays_at_home
from tests.config.test_docs import anchors
from tests.console.settings.saving import page_of, shown
from tests.people import Role, client_of, member, staff

ROOT = Path(settings.BASE_DIR)
ORIGIN = "https://example.org"
NAMES = page_names()
MOST_WORDS = 1_800


def address(name: str) -> str:
    return reverse("console:help_page", args=[name])


def guide_of(chatbot: Chatbot, guide: str) -> str:
    return f"{page_of(chatbot)}guides/{guide}/"


@pytest.fixture
def newcomer(db: None) -> Client:
    """A staff user without a role in any chatbot."""
    return client_of(User.objects.create_user("newcomer", is_staff=True))


def test_the_index_lists_each_file_by_its_title() -> None:
    listed = [entry for group in read_index() for entry in group.entries]

    assert {entry.name for entry in listed} == {path.stem for path in (ROOT / "docs/staff").glob("*.md")} - {"index"}
    assert [entry.title for entry in listed] == [title_of(entry.name) for entry in listed]
    assert all(group.entries for group in read_index())
    [contents] = re.findall(
        r"```{toctree}\n:hidden:\n\n(.*?)```", (ROOT / "docs/staff/index.md").read_text(), re.DOTALL
    )
    assert contents.split() == [entry.name for entry in listed]


def test_every_staff_user_finds_each_page_from_the_menu(newcomer: Client) -> None:
    index = reverse("console:help")

    assert f'href="{index}"' in newcomer.get("/admin/second-factor/set-up/").text
    text = newcomer.get(index).text
    assert [name for name in NAMES if name not in GUIDES and f'href="{address(name)}"' not in text] == []


@pytest.mark.parametrize("path", [reverse("console:help"), address("log-in")])
def test_others_have_to_log_in_first(path: str, client: Client, newcomer: Client) -> None:
    User.objects.update(is_staff=False)

    for one in (client, newcomer):
        assert one.get(path).headers["Location"].startswith("/admin/login/")


def words(html: str) -> list[str]:
    """Return the words that a reader sees."""
    without_buttons = re.sub(r"<button.*?</button>", "", html, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", " ", without_buttons)).split()


def test_a_page_shows_its_file_as_plain_commonmark_does(newcomer) -> None:
    for name in NAMES:
        text = re.sub(r"<!--.*?-->", "", path_of(name).read_text(), flags=re.DOTALL)
        plain = MarkdownIt("commonmark").enable("table").render(text)

        answer = newcomer.get(address(name))

        assert answer.status_code == 200
        [shown] = re.findall(r'<article class="card guide">(.*)</article>', answer.text, re.DOTALL)
        code = r"<pre.*?</pre>|<code.*?</code>"  # a page replaces the names in it
        assert words(f"<h1>{title_of(name)}</h1>{re.sub(code, '', shown, flags=re.DOTALL)}") == words(
            re.sub(code, "", plain, flags=re.DOTALL)
        )
        assert f"<h1>{escape(title_of(name))}</h1>" in answer.text
        assert not re.search(r"href=\"[^\"]*\.md|```|\*\*|&lt;picture|&lt;!--", answer.text)
        assert shown.count("<table") == plain.count("<table")
        assert shown.count('class="in-light"') == shown.count('class="in-dark"') == plain.count("<picture>") <= 2


def test_sections_have_the_anchors_that_a_forge_gives_them() -> None:
    for name in NAMES:
        shown = read_page(name, origin=ORIGIN)

        assert {anchor for anchor, _ in shown.sections} <= anchors(path_of(name))
        for href in re.findall(r'href="([^"]*#[^"]+)"', shown.html):
            path, _, anchor = href.partition("#")
            other = path.rstrip("/").rpartition("/")[2] or name
            assert anchor in anchors(path_of(other)), href


def test_a_page_is_short() -> None:
    for name in NAMES:
        assert len(path_of(name).read_text().split()) <= MOST_WORDS


def test_pages_of_the_console_link_to_the_help_for_their_task(chatbot: Chatbot) -> None:
    officer = member(chatbot, Role.OFFICER)
    for page, name in {
        "/admin/": "monitoring",
        "/admin/requests/": "after-filing",
        f"/admin/file/{chatbot.slug}/": "erase-data",
        "/admin/conversations/": "conversations",
        "/admin/lookup/": "look-up",
        "/admin/changelog/": "monitoring",
        page_of(chatbot, "identity"): "identities",
        page_of(chatbot, "keys"): "keys",
        page_of(chatbot, "callbacks"): "keys",
        page_of(chatbot, "members"): "roles",
    }.items():
        assert f'href="{address(name)}"' in officer.get(page).text, page


# The page of the settings that links to it.
PAGE_OF_GUIDE = {
    "data-compliance": "compliance",
    "daily-extracts": "bucket",
    "retention": "retention",
    "bucket-credentials": "bucket",
}


def test_a_page_of_the_settings_links_to_each_guide_by_its_title(chatbot: Chatbot) -> None:
    viewer = member(chatbot, Role.VIEWER)

    for guide in GUIDES:
        text = re.sub(r"<svg.*?</svg>", "", shown(viewer, chatbot, PAGE_OF_GUIDE[guide]))
        assert f'href="{guide_of(chatbot, guide)}">{escape(title_of(guide))}</a>' in text


def test_the_settings_link_to_the_guide_for_clients_about_the_chatbot(chatbot: Chatbot) -> None:
    text = shown(client_of(User.objects.create_superuser("root")), chatbot)

    for name in ("", "identify-chatters", "identity-tokens"):
        assert f'href="{clients.url(name, chatbot.slug)}"' in text


def test_a_guide_leads_back_and_on(chatbot) -> None:
    for guide in GUIDES:
        answer = member(chatbot, Role.VIEWER).get(guide_of(chatbot, guide))

        assert answer.status_code == 200
        for link in (page_of(chatbot), *(guide_of(chatbot, one) for one in GUIDES if one != guide)):
            assert f'href="{link}"' in answer.text


def test_code_is_about_the_chatbot_and_the_service() -> None:
    chatbot = Chatbot(slug="my_shop-2")

    html = read_page("daily-extracts", chatbot=chatbot, origin="http://127.0.0.1:8461").html

    assert "http://127.0.0.1:8461/api/v1/chatbots/my_shop-2" in html
    assert "manage.py check_bucket my_shop-2" in html
    assert "compliance.example.com" not in html
    assert not re.search(r"\bacme\b(?!-)", html)
    assert "--bucket acme-files" in html
    # The service's address stays as it is.
    chatbot.slug = "shop"
    html = read_page("daily-extracts", chatbot=chatbot, origin="https://privacy.acme.example").html

    assert "https://privacy.acme.example/api/v1/chatbots/shop" in html


def test_what_is_not_there_and_guides_of_another_chatbot_are_not_found(chatbot, neighbour, admin_client) -> None:
    assert admin_client.get(guide_of(chatbot, "nothing")).status_code == 404
    assert admin_client.get(guide_of(chatbot, "log-in")).status_code == 404
    assert admin_client.get(address("nothing")).status_code == 404
    assert admin_client.get(address("index")).status_code == 404
    assert member(chatbot).get(guide_of(neighbour, GUIDES[0])).status_code == 404


def test_a_link_to_a_page_that_the_service_does_not_have_is_refused(monkeypatch) -> None:
    monkeypatch.setattr("console.help._text", lambda _name: "# A\n\n[operating](../operating.md)\n")

    with pytest.raises(ValueError, match=r"no page for \.\./operating\.md"):
        read_page("log-in", origin=ORIGIN)


# What the pages put in bold beside words of the console.
_OWN_BOLD = ("What you see", "Command", "Check", "You need", "A deletion cannot be undone")
# What the console puts together.
_MADE_UP = {"Data compliance turned on.", "Daily extracts turned on.", "1 conversation", "Conversation opened"}
_SENTENCE = re.compile(r"[.:,]$|`|\"")


def words_of_the_console() -> str:
    """Everything that a page can say, as one text without tags."""
    sources = [*(ROOT / "templates").rglob("*.html"), *(ROOT / "console").rglob("*.py")]
    sources += [*(ROOT / "chatbots").glob("*.py"), *(ROOT / "chatbots/operations").glob("*.py")]
    sources += [*(ROOT / "compliance/models").glob("*.py"), *(ROOT / "conversations/models").glob("*.py")]
    sources += [ROOT / "compliance/letters.py", ROOT / "compliance/requests/decisions.py"]
    sources += [*(ROOT / "accounts").glob("*.py")]
    return re.sub(r"\s+", " ", " ".join(map(_words_of, sources)))


def _words_of(source: Path) -> str:
    text = source.read_text()
    if source.suffix == ".html":
        given = re.findall(r"\"([^\"]*)\"", " ".join(re.findall(r"{%.*?%}", text)))  # to tags, such as a label
        return " ".join([re.sub(r"{%.*?%}|<[^>]+>", "", text), *given])
    return re.sub(r"\"\s+f?\"", "", text)  # texts that go over two lines


@pytest.fixture(scope="module")
def console() -> str:
    return words_of_the_console()


def test_the_names_that_a_page_gives_are_those_of_the_console(console) -> None:
    for path in [*map(path_of, NAMES), ROOT / "docs/clients/identify-chatters.md"]:
        text = re.sub(r"```.*?```|`[^`]*`|<picture>.*?</picture>", "", path.read_text(), flags=re.DOTALL)
        bold = [" ".join(one.split()) for one in re.findall(r"\*\*(.+?)\*\*", text, re.DOTALL)]
        names = [one for one in bold if not one.startswith(_OWN_BOLD) and not _SENTENCE.search(one)]
        said = [" ".join(one.split()) for one in re.findall(r"\"([^\"]+)\"", text)]

        assert len(names) + len(said) > 5
        assert [one for one in {*names, *said} - _MADE_UP if one.rstrip(":.") not in console] == []


@in_a_browser
def test_the_links_of_the_settings_lead_to_the_guides_by_keyboard(live_server, chromium, chatbot) -> None:
    watched = signed_in(chromium, live_server.url, staff(chatbot, Role.OFFICER), page_of(chatbot))
    page = watched.page
    for guide in GUIDES:
        page.goto(live_server.url + page_of(chatbot, PAGE_OF_GUIDE[guide]))
        page.get_by_role("link", name=title_of(guide), exact=True).press("Enter")
        expect(page).to_have_url(live_server.url + guide_of(chatbot, guide))
        expect(page.get_by_role("heading", level=1)).to_have_text(title_of(guide))
        contents = page.get_by_role("navigation", name="On this page")
        contents.get_by_role("link", name="What can go wrong").press("Enter")
        expect(page.get_by_role("heading", name="What can go wrong")).to_be_in_viewport()
        page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=live_server.url)
        page.get_by_role("button", name="Copy this code").first.press("Enter")
        expect(page.get_by_role("button", name="Copied").first).to_be_visible()
        assert f" {chatbot.slug}" in page.evaluate("navigator.clipboard.readText()")
        is_easy_to_use(page)
    stays_at_home(watched, live_server.url)


@in_a_browser
def test_the_search_finds_a_page_by_keyboard_and_sends_nothing(live_server, chromium, chatbot) -> None:
    watched = signed_in(chromium, live_server.url, staff(chatbot, Role.VIEWER), reverse("console:help"))
    page = watched.page
    is_easy_to_use(page)
    asked = len(watched.asked)
    search = page.get_by_role("searchbox", name="Find a page by its words")
    search.fill("recovery CODES")
    expect(page.get_by_role("status")).to_have_text("1 page")
    expect(page.get_by_role("main").get_by_role("listitem")).to_have_count(1)
    search.fill("xyzzy")
    expect(page.get_by_role("status")).to_have_text("No page has all of these words.")
    search.fill("recovery codes")
    search.press("Enter")
    assert len(watched.asked) == asked
    expect(page.get_by_role("link", name=title_of("log-in"))).to_be_focused()

    page.keyboard.press("Enter")
    expect(page).to_have_url(live_server.url + address("log-in"))
    picture = page.get_by_role("img", name="The page that sets up")
    expect(picture).to_have_count(1)  # the other theme's is hidden
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("complete", value=True)
    assert picture.evaluate("image => image.naturalWidth") > 0
    page.get_by_role("button", name="Theme").click()
    expect(page.get_by_role("img", name="The page that sets up")).to_have_attribute("src", re.compile("dark"))
    is_easy_to_use(page)
    stays_at_home(watched, live_server.url)

    plain = signed_in(chromium, live_server.url, staff(chatbot), reverse("console:help"), script=False).page
    expect(plain.get_by_role("searchbox")).to_be_hidden()
    expect(plain.get_by_role("link", name=title_of("log-in"))).to_be_visible()
