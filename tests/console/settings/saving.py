"""Helpers that open the pages of the settings, and save their forms."""

import re
from typing import Any

from django.test import Client

from chatbots.models import ChangeLogEntry, Chatbot

# Each page with the anchors of its sections.
PAGES = {
    "compliance": ("compliance", "rules", "calls"),
    "identity": ("uci", "assurance", "resolver"),
    "bucket": ("bucket", "extracts"),
    "retention": ("retention",),
    "keys": ("keys",),
    "callbacks": ("callbacks",),
    "members": ("members",),
}


def page_of(chatbot: Chatbot, page: str = "") -> str:
    """Return the address of a page of the settings; without a name, of the overview."""
    return f"/admin/settings/{chatbot.slug}/{page}{'/' if page else ''}"


def section_of(chatbot: Chatbot, section: str) -> str:
    [page] = [page for page, sections in PAGES.items() if section in sections]
    return f"{page_of(chatbot, page)}#{section}"


def shown(client: Client, chatbot: Chatbot, *pages: str) -> str:
    """Return what these pages of the settings show; without a name, what all of them show."""
    answers = [client.get(page_of(chatbot, page)) for page in pages or ("", *PAGES)]
    assert {answer.status_code for answer in answers} == {200}
    return "".join(answer.text for answer in answers)


def save(client: Client, chatbot: Chatbot, action: str, /, **data: Any) -> Any:
    """Submit the form of an action such as `uci` or `keys/3f9a/limit`."""
    return client.post(f"{page_of(chatbot)}{action}/", data)


def rules_of(chatbot: Chatbot, **changes: object) -> dict[str, Any]:
    """The settings as a browser submits them, with the values shown before.

    Switched-off checkboxes are not sent at all.
    """
    names = ("name", "timezone", "max_conversations_per_deletion", "four_eyes", "grace_minutes", "require_action")
    present = {name: getattr(chatbot, name) for name in (*names, "token_names_conversation", "callback_url")}
    is_number = chatbot.deadline.isdecimal()
    present["deadline"] = "days" if is_number else chatbot.deadline
    present["deadline_days"] = chatbot.deadline if is_number else ""
    filled_in = {name: value for name, value in (present | changes).items() if value is not False}
    return filled_in | {f"initial-{name}": value for name, value in present.items()}


def assert_saved(answer: Any, chatbot: Chatbot, section: str) -> None:
    assert (answer.status_code, answer.headers.get("Location")) == (302, section_of(chatbot, section))


def assert_refused(answer: Any, message: str) -> None:
    """Fail unless a page is shown again with this error in its summary, and on no other page."""
    assert answer.status_code == 200
    assert "Not saved." in answer.text
    assert message in answer.text


def page_shown(answer: Any) -> str:
    """Return the name of the page of the settings that a response shows."""
    found: list[str] = re.findall(r'<a href="/admin/settings/[\w-]+/(\w*)/?" aria-current="page">', answer.text)
    [name] = found
    return name


def recorded(event: str) -> list[Any]:
    return list(ChangeLogEntry.objects.filter(event=event).order_by("id").values_list("data", flat=True))
