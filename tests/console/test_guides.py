"""The guides: linked from the settings, about the chatbot, and true of the console's words."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from playwright.sync_api import expect

from chatbots.models import Chatbot
from console.guides import GUIDES, read_guide, title_of
from tests.browser import is_easy_to_use, needs_chromium, signed_in, stays_at_home
from tests.config.test_docs import anchors
from tests.console.settings.saving import page_of
from tests.people import Role, member, staff

ROOT = Path(settings.BASE_DIR)
FOLDER = ROOT / "docs" / "guides"


def path_of(chatbot: Chatbot, guide: str) -> str:
    return f"{page_of(chatbot)}guides/{guide}/"


def test_each_file_is_a_guide() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(GUIDES)


def test_the_settings_page_links_to_each_by_its_title(chatbot: Chatbot) -> None:
    text = member(chatbot, Role.VIEWER).get(page_of(chatbot)).text

    for guide in GUIDES:
        assert f'<a href="{path_of(chatbot, guide)}">{title_of(guide)}</a>' in text


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_shows_its_file_and_leads_back_and_on(chatbot: Chatbot, guide: str) -> None:
    answer = member(chatbot, Role.VIEWER).get(path_of(chatbot, guide))

    assert answer.status_code == 200
    assert f"<h1>{title_of(guide)}</h1>" in answer.text
    others = [path_of(chatbot, one) for one in GUIDES if one != guide]
    for link in (page_of(chatbot), *others):
        assert f'href="{link}"' in answer.text
    headings = re.findall(r"^## (.+)$", (FOLDER / f"{guide}.md").read_text(), re.MULTILINE)
    assert re.findall(r'<h2 id="[\w-]+">(.+)</h2>', answer.text) == headings
    assert not re.search(r"href=\"[^\"]*\.md|```|\*\*", answer.text)


@pytest.mark.parametrize("guide", GUIDES)
def test_sections_have_the_anchors_that_a_forge_gives_them(chatbot: Chatbot, guide: str) -> None:
    shown = read_guide(guide, chatbot=chatbot, origin="https://example.org")

    assert {anchor for anchor, _ in shown.sections} < anchors(FOLDER / f"{guide}.md")
    linked = re.findall(r'href="[^"]*#([^"]+)"', shown.html)
    assert set(linked) <= {anchor for one in GUIDES for anchor in anchors(FOLDER / f"{one}.md")}


def test_code_is_about_the_chatbot_and_the_service() -> None:
    chatbot = Chatbot(slug="my_shop-2")

    html = read_guide("daily-extracts", chatbot=chatbot, origin="http://127.0.0.1:8461").html

    assert "http://127.0.0.1:8461/api/v1/chatbots/my_shop-2" in html
    assert "manage.py check_bucket my_shop-2" in html
    assert "compliance.example.com" not in html
    assert not re.search(r"\bacme\b(?!-)", html)
    assert "--bucket acme-files" in html
    # The service's address stays as it is.
    chatbot.slug = "shop"
    html = read_guide("daily-extracts", chatbot=chatbot, origin="https://privacy.acme.example").html

    assert "https://privacy.acme.example/api/v1/chatbots/shop" in html


def test_a_guide_that_is_not_there_and_another_chatbots_are_not_found(chatbot, neighbour, admin_client) -> None:
    assert admin_client.get(path_of(chatbot, "nothing")).status_code == 404
    assert member(chatbot).get(path_of(neighbour, GUIDES[0])).status_code == 404


def test_a_link_to_a_page_that_the_service_does_not_have_is_refused(chatbot, monkeypatch) -> None:
    monkeypatch.setattr("console.guides._text", lambda _name: "# A\n\n[operating](../operating.md)\n")

    with pytest.raises(ValueError, match=r"no page for \.\./operating\.md"):
        read_guide(GUIDES[0], chatbot=chatbot, origin="https://example.org")


# What the guides put in bold beside words of the console.
_OWN_BOLD = ("What you see", "Command", "Check", "You need", "A deletion cannot be undone")
# What the console puts together.
_MADE_UP = {"Data compliance turned on.", "Daily extracts turned on.", "1 conversation"}
_SENTENCE = re.compile(r"[.:,]$|`|\"")


def words_of_the_console() -> str:
    """Everything that a page can say, as one text without tags."""
    sources = [*(ROOT / "templates").rglob("*.html"), *(ROOT / "console").rglob("*.py")]
    sources += [*(ROOT / "chatbots").glob("*.py"), *(ROOT / "chatbots/operations").glob("*.py")]
    sources += [ROOT / "compliance/models/requests.py", *(ROOT / "conversations/models").glob("*.py")]
    return re.sub(r"\s+", " ", " ".join(map(_words_of, sources)))


def _words_of(source: Path) -> str:
    text = source.read_text()
    if source.suffix == ".html":
        return re.sub(r"{%.*?%}|<[^>]+>", "", text)
    return re.sub(r"\"\s+f?\"", "", text)  # texts that go over two lines


@pytest.mark.parametrize("guide", GUIDES)
def test_the_names_that_a_guide_gives_are_those_of_the_console(guide: str) -> None:
    console = words_of_the_console()
    text = re.sub(r"```.*?```|`[^`]*`", "", (FOLDER / f"{guide}.md").read_text(), flags=re.DOTALL)
    bold = [" ".join(one.split()) for one in re.findall(r"\*\*(.+?)\*\*", text, re.DOTALL)]
    names = [one for one in bold if not one.startswith(_OWN_BOLD) and not _SENTENCE.search(one)]
    said = [" ".join(one.split()) for one in re.findall(r"\"([^\"]+)\"", text)]

    assert len(names) > 5
    assert len(said) > 5
    assert [one for one in {*names, *said} - _MADE_UP if one.rstrip(":.") not in console] == []


@pytest.mark.long(reason="a browser draws pages in both themes, and axe looks at each")
@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_the_links_of_the_settings_lead_to_the_guides_by_keyboard(live_server, chromium, chatbot) -> None:
    watched = signed_in(chromium, live_server.url, staff(chatbot, Role.OFFICER), page_of(chatbot))
    page = watched.page
    for guide in GUIDES:
        page.goto(live_server.url + page_of(chatbot))
        page.get_by_role("link", name=title_of(guide), exact=True).press("Enter")
        expect(page).to_have_url(live_server.url + path_of(chatbot, guide))
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
