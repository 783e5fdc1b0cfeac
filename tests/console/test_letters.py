"""Letters to the person: which are offered, what they say under each rule, as files, and replaced by an operator."""

import re
from datetime import UTC, datetime
from html import escape, unescape
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, expect

from chatbots.models import ChangeLogEntry, Chatbot
from compliance import checks
from compliance.letters import Letter
from compliance.models import ComplianceRequest, LeftCopy
from compliance.requests import decisions
from compliance.requests.reasons import RejectReason
from tests.browser import browser, fits, in_a_browser, is_easy_to_use, signed_in, stays_at_home
from tests.console.made import VALUE, completed, failed, held, waiting
from tests.console.request_pages import address, decide, text_of
from tests.factories import ExportFactory, RequestFactory
from tests.people import Role, client_of, member, staff

PLACEHOLDERS = ("Dear [name of the person]", "[your name]", "[name of the company]", "[e-mail address")


def rejected(chatbot: Chatbot, reason: str = "legal_claims") -> ComplianceRequest:
    return decisions.reject(request_id=held(chatbot).pk, actor="user:1", reason=reason)


def made(chatbot: Chatbot, letter: str) -> ComplianceRequest:
    """A request whose state offers the letter."""
    counted = {"conversations_total": 2, "conversations": 2, "messages": 6, "files": 1}
    extended = {"extended_at": timezone.now(), "extended_by": "user:1", "extension_reason": "complexity"}
    makes: dict[str, Any] = {"held": held, "refused": rejected, "done": completed, "partly_done": completed}
    more: dict[str, Any] = {
        "done": counted,
        "partly_done": counted | {"result": "partial", "withheld": 3},
        "extended": extended,
    }
    return cast("ComplianceRequest", makes.get(letter, waiting)(chatbot, **more.get(letter, {})))


def file_of(client: Client, request: ComplianceRequest, letter: str, form: str = "txt") -> str:
    """Return a downloaded letter; of the HTML form its text."""
    answer = client.get(f"{address(request)}letters/{letter}.{form}")
    assert answer.status_code == 200
    text = answer.text
    if form == "html":
        text = unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", text, flags=re.DOTALL))
    return " ".join(text.split())


def offered_letters(text: str) -> list[str]:
    return re.findall(r'id="letter-(\w+)"', text)


# --- What they say -----------------------------------------------------------------------------------------

# Letter -> what it says under every rule, under GDPR, under CCPA.
SAID: dict[str, tuple[list[str], list[str], list[str]]] = {
    "received": (["by 12 January 2027 at the latest"], ["one month", "Article 12(3)"], ["45 days", "1798.130"]),
    "extended": (["because it is complex"], ["two months more", "Article 12(3)"], ["45 days more, once", "1798.130"]),
    "done": (["2 chats with 6 messages and 1 file"], ["Article 17", "Article 12(3)"], ["section 1798.105)"]),
    "partly_done": (
        ["deleted a part of your data: 2 chats", "We have to keep 3 chats"],
        ["Article 17(3)", "Article 12(4)", "Article 77", "Article 79"],
        ["1798.105(d)", "California Privacy Protection Agency", "Attorney General"],
    ),
    "held": (
        ["whether we have to keep it"],
        ["Article 17(3)", "Article 12(4)", "Article 77", "Article 79"],
        ["1798.105(d)", "California Privacy Protection Agency", "Attorney General"],
    ),
    "refused": (
        ["We need this data for a legal claim"],
        ["Article 17(3)(e)", "Article 12(4)", "supervisory authority", "go to court"],
        ["Section 1798.145", "California Privacy Protection Agency", "Attorney General"],
    ),
}
OF_GDPR = re.compile(r"GDPR|Article|supervisory")
OF_CCPA = re.compile(r"CCPA|California|1798")


@pytest.mark.parametrize("letter", Letter.values)
def test_a_letter_names_the_law_of_the_requests_rule(chatbot: Chatbot, letter: str) -> None:
    Chatbot.objects.update(name="Acme & Söhne", timezone="Pacific/Auckland")
    chatbot.refresh_from_db()
    request = made(chatbot, letter)
    ComplianceRequest.objects.update(
        reference="TICKET-7",
        requested_at=datetime(2026, 11, 30, 20, tzinfo=UTC),
        due_at=datetime(2027, 1, 12, 10, 59, 59, tzinfo=UTC),
    )
    user = staff(chatbot, Role.VIEWER)
    client = client_of(user)
    always, gdpr, ccpa = SAID[letter]
    always = [*always, "On 1 December 2026, you asked us", "“Acme & Söhne”", "TICKET-7", *PLACEHOLDERS]

    assert letter in offered_letters(text_of(client, request))
    by_rule = [("gdpr", gdpr, "txt"), ("gdpr", gdpr, "html"), ("ccpa", ccpa, "html"), ("30", [], "txt")]
    for rule, of_law, form in by_rule:
        ComplianceRequest.objects.update(deadline=rule)
        text = file_of(client, request, letter, form)
        assert [one for one in (*always, *of_law) if one not in text] == [], (rule, form)
        assert bool(OF_GDPR.search(text)) == (rule == "gdpr")
        assert bool(OF_CCPA.search(text)) == (rule == "ccpa")
        for hidden in (VALUE, user.username, "user:1", "too_many_conversations", "legal_claims", "{", "None"):
            assert hidden not in text


def test_each_state_offers_its_letters(chatbot: Chatbot) -> None:
    client = member(chatbot)
    extended = made(chatbot, "extended")
    retention = RequestFactory.create(
        chatbot=chatbot, kind="retention", variable=None, uci_value=None, uci_digest=None
    )
    for request, expected in (
        (waiting(chatbot), ["received"]),
        (failed(chatbot), ["received"]),
        (extended, ["received", "extended"]),
        (held(chatbot), ["received", "held"]),
        (rejected(chatbot), ["received", "refused"]),
        (completed(chatbot), ["received", "done"]),
        (completed(chatbot, result="partial"), ["received", "partly_done"]),
    ):
        assert offered_letters(text_of(client, request)) == expected
        another = next(letter for letter in Letter.values if letter not in expected)
        assert client.get(f"{address(request)}letters/{another}.txt").status_code == 404
    assert client.get(f"{address(retention)}letters/received.txt").status_code == 404
    for name in ("received.pdf", "nothing.txt"):
        assert client.get(f"{address(extended)}letters/{name}").status_code == 404


# What a refused deletion names under GDPR, and a refused export; then the same under CCPA.
BY_REASON = {
    "identity_not_confirmed": ("Article 12(2) and (6)", "Article 12(2) and (6)", "1798.130", "1798.130"),
    "wrong_value": ("Article 12(2) and (6)", "Article 12(2) and (6)", "1798.130", "1798.130"),
    "duplicate": ("", "", "", ""),
    "unfounded_or_excessive": ("Article 12(5)", "Article 12(5)", "1798.145", "1798.145"),
    "legal_obligation": ("Article 17(3)(b)", "", "1798.105(d)", ""),
    "legal_claims": ("Article 17(3)(e)", "", "1798.145", "1798.145"),
    "rights_of_others": ("Article 17(3)", "Article 15(4)", "1798.145", "1798.145"),
    "not_our_data": ("", "", "", ""),
    "filed_by_mistake": ("", "", "", ""),
    "other": ("Article 17(3)", "", "1798.105(d)", ""),
}
_PROVISIONS = r"Article 12\(2\) and \(6\)|Article 12\(5\)|Article 15\(4\)|Article 17\(3\)(?:\([be]\))?"
_SECTIONS = r"1798\.(?:130|145|105\(d\))"


def test_a_refusal_gives_its_reason_with_the_provision_for_it(chatbot: Chatbot) -> None:
    client = member(chatbot)
    assert BY_REASON.keys() == set(RejectReason.values)
    for reason, provisions in BY_REASON.items():
        request = rejected(chatbot, reason)
        for (rule, kind), expected in zip(product(("gdpr", "ccpa"), ("deletion", "export")), provisions, strict=True):
            ComplianceRequest.objects.filter(pk=request.pk).update(deadline=rule, kind=kind)
            text = file_of(client, request, "refused")
            found = re.findall(_PROVISIONS if rule == "gdpr" else _SECTIONS, text)
            assert found == ([expected] if expected else []), (reason, rule, kind)
            assert " This is the reason: " in text
            assert reason not in text


def test_what_was_done_depends_on_the_kind_and_on_what_was_found(chatbot: Chatbot) -> None:
    client = member(chatbot)
    request = completed(chatbot, conversations_total=1, conversations=1, messages=2)

    def said(**fields: Any) -> str:
        ComplianceRequest.objects.filter(pk=request.pk).update(**fields)
        return file_of(client, request, "done")

    assert "we deleted your data: 1 chat with 2 messages." in said()
    # Another deletion has erased two of three, and counted their messages.
    assert "we deleted your data: 3 chats." in said(conversations_total=3)
    assert "so there was nothing to delete" in said(result="nothing_found", conversations_total=1)
    text = said(kind="export", unverified_left_out=3, deadline="gdpr")
    assert "have found none that we can send you" in text
    assert "We left out 3 chats, because we could not be sure" in text
    text = said(result="done", shared_conversations=1)
    assert "a copy of your data. It contains 1 chat with 2 messages. You can open it with any" in text
    assert "We left out 1 chat, because other people took part" in text
    assert "messages. To read it, open index.html in any browser." in said(formats="csv json html")
    assert "It is a ZIP file: unpack it first. You can open conversations.csv with" in said(
        formats="csv", archive="zip"
    )
    assert "It is made for programs to read." in said(formats="json", archive="")
    assert "[Add the information of Article 15(1) and (2) GDPR" in text


def test_the_letter_about_a_deletion_says_which_copies_are_left(chatbot: Chatbot) -> None:
    client = member(chatbot)
    request = completed(chatbot)
    assert "delete the files in your own bucket" not in file_of(client, request, "done")
    for hosting in ("hosted", "client"):
        export = ExportFactory.create(
            request=completed(chatbot, uci_digest=request.uci_digest),
            hosting=hosting,
            key=hosting,
            expires_at=datetime(2027, 2, 3, tzinfo=UTC),
        )
        LeftCopy.objects.create(chatbot=chatbot, deletion=request, export=export)

    for letter, result in (("done", "done"), ("partly_done", "partial")):
        ComplianceRequest.objects.filter(pk=request.pk).update(result=result)
        text = file_of(client, request, letter)
        assert "We keep that copy until 3 February 2027" in text
        assert "delete the files in your own bucket" in text
        assert "Our backups cannot be changed" in text

    ComplianceRequest.objects.filter(kind="deletion").exclude(pk=request.pk).update(uci_digest=b"another" * 4)
    assert "We keep that copy" not in file_of(client, request, "partly_done")


# --- As files ----------------------------------------------------------------------------------------------


def test_a_letter_is_a_download_that_is_not_stored_and_runs_nothing(chatbot: Chatbot) -> None:
    client, request = member(chatbot), waiting(chatbot)
    for form, media_type in (("txt", "text/plain"), ("html", "text/html")):
        answer = client.get(f"{address(request)}letters/received.{form}")
        assert answer["Content-Type"] == f"{media_type}; charset=utf-8"
        name = f"letter-received-{str(request.pk)[:8]}.{form}"
        assert answer["Content-Disposition"] == f'attachment; filename="{name}"'
        assert "no-store" in answer["Cache-Control"]
        assert {"sandbox", "default-src 'none'"} <= {*answer["Content-Security-Policy"].split("; ")}
    assert not re.search(r"<script|<link|<img|src=|url\(|@import|https?:", answer.text)
    # Nothing but the request's id and the letter's name is in an address.
    links = re.findall(r'"([^"]*/letters/[^"]*)"', text_of(client, request))
    assert links == [f"{address(request)}letters/received.{form}" for form in ("txt", "html")]
    assert not ChangeLogEntry.objects.exists()


def test_a_hostile_name_is_only_text_in_html(chatbot: Chatbot) -> None:
    hostile = "<script>alert('x')</script> & \\ \"Acme\" {{ today }}"
    Chatbot.objects.update(name=hostile)
    client, request = member(chatbot), waiting(chatbot)

    assert hostile in client.get(f"{address(request)}letters/received.txt").text
    page, file = text_of(client, request), client.get(f"{address(request)}letters/received.html").text
    for html in (page, file):
        assert escape(hostile) in html
        assert "<script>alert" not in html


# --- Answered ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["held", "refused"])
def test_support_staff_record_that_a_letter_was_sent(chatbot: Chatbot, letter: str) -> None:
    user = staff(chatbot, Role.SUPPORT)
    client, request = client_of(user), made(chatbot, letter)
    button = "I sent this letter"
    assert button in text_of(client, request)
    assert button not in text_of(member(chatbot), request)
    assert button not in text_of(client, waiting(chatbot))

    assert client.post(address(request, "answer"), {"letter": "received"}).status_code == 409
    answer = client.post(address(request, "answer"), {"letter": letter})

    assert (answer.status_code, answer["Location"]) == (302, address(request))
    request.refresh_from_db()
    assert request.answered_at
    text = text_of(client, request)
    assert "Answered" in text
    assert button not in text
    assert ChangeLogEntry.objects.filter(event="request.answered").get().data == {"letter": letter}


def test_a_decision_page_returns_the_letters_too(chatbot: Chatbot) -> None:
    request = held(chatbot)
    answer = decide(member(chatbot, Role.OFFICER), request, "reject", "")
    assert answer.status_code == 400
    assert offered_letters(answer.text) == ["received", "held"]


# --- Replaced templates ------------------------------------------------------------------------------------


def test_an_operator_replaces_single_templates(chatbot: Chatbot, settings: Any, tmp_path: Path) -> None:
    settings.LETTER_TEMPLATES = str(tmp_path)
    (tmp_path / "received.txt").write_text(
        '{% extends "letter.txt" %}{% block subject %}Hello{% endblock %}\n'
        "{% block body %}Dear customer\\\nof {{ chatbot }},\nwelcome.{% endblock %}"
    )
    (tmp_path / "letter.html").write_text("<h1>{{ subject }}</h1>{% for one in paragraphs %}<p>{{ one }}{% endfor %}")
    client, request = member(chatbot), held(chatbot)

    assert checks.letters_can_be_written() == []
    text = client.get(f"{address(request)}letters/received.txt").text
    assert text.startswith("Hello\n\nDate: ")
    assert f"\n\nDear customer\nof {chatbot.name}, welcome.\n\n" in text
    assert client.get(f"{address(request)}letters/received.html").text.startswith("<h1>Hello</h1><p>Date: ")
    assert "Your request has to wait" in file_of(client, request, "held")


def test_a_faulty_template_is_found_by_the_check_and_leaves_the_page_usable(chatbot, settings, tmp_path) -> None:
    settings.LETTER_TEMPLATES = str(tmp_path)
    (tmp_path / "received.txt").write_text(
        '{% extends "letter.txt" %}\n{% block body %}\n{{ chatbott }}{% endblock %}'
    )
    (tmp_path / "held.txt").write_text("\n{% if kind %}\nwithout an end")
    (tmp_path / "ccpa.txt").write_text('{% include "nothing.txt" %}')
    (tmp_path / "letter.html").write_text("{{ paragraphs|join }}")

    found = [str(one.msg).removeprefix("A letter cannot be written: ") for one in checks.letters_can_be_written()]
    assert [one.partition(": ")[0] for one in sorted(found)] == [
        "ccpa.txt, line 1",
        "held.txt, line 2",
        "letter.html, line 1",
        "received.txt, line 3",
    ]
    assert "There is no variable chatbott." in " ".join(found)

    client, request = member(chatbot), held(chatbot)
    text = text_of(client, request)
    assert "The template of this letter does not render." in text
    assert offered_letters(text) == ["received"]
    assert client.get(f"{address(request)}letters/held.txt").status_code == 503
    for folder in ("letters", str(tmp_path / "none")):
        settings.LETTER_TEMPLATES = folder
        assert [one.id for one in checks.letters_can_be_written()] == ["compliance.E015"]


# --- In a browser ------------------------------------------------------------------------------------------


def letter_shown(page: Page, name: str) -> Any:
    return page.get_by_role("region", name=f"Letter: {name}")


@in_a_browser
def test_a_letter_is_chosen_copied_downloaded_and_recorded_as_sent(live_server, chatbot: Chatbot) -> None:
    request = rejected(chatbot)
    user = staff(chatbot, Role.SUPPORT)
    with browser() as chromium:
        watched = signed_in(chromium, live_server.url, user, address(request))
        page = watched.page
        expect(letter_shown(page, "Refused")).to_be_visible()
        is_easy_to_use(page)
        stays_at_home(watched, live_server.url)
        page.get_by_text("Received", exact=True).press("Enter")
        expect(letter_shown(page, "Received")).to_be_visible()
        expect(letter_shown(page, "Refused")).to_be_hidden()

        page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=live_server.url)
        panel = page.locator("details.letter[open]")
        panel.get_by_role("button", name="Copy this letter").press("Enter")
        expect(panel.get_by_role("button", name="Copied")).to_be_visible()
        with page.expect_download() as download:
            panel.get_by_role("link", name="Download .txt").click()
        assert download.value.suggested_filename == f"letter-received-{str(request.pk)[:8]}.txt"
        file = download.value.path().read_text()
        assert page.evaluate("navigator.clipboard.readText()") == file
        assert VALUE not in page.content() + file

        page.get_by_text("Refused", exact=True).click()
        page.get_by_role("button", name="I sent this letter").click()
        expect(page.get_by_text("The request is recorded as answered.")).to_be_visible()
        is_easy_to_use(page)
        page.context.close()

        plain = signed_in(chromium, live_server.url, user, address(request), script=False, width=360).page
        expect(letter_shown(plain, "Refused")).to_be_visible()
        expect(plain.get_by_role("button", name="Copy this letter")).to_have_count(0)
        assert fits(plain)
        page = chromium.new_page()
        page.set_content(client_of(user).get(f"{address(request)}letters/refused.html").text)
        is_easy_to_use(page)
