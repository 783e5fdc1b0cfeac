"""Helpers that save a form of the settings page."""

from typing import Any

from django.test import Client

from chatbots.models import Chatbot


def page_of(chatbot: Chatbot) -> str:
    return f"/admin/settings/{chatbot.slug}/"


def shown(client: Client, chatbot: Chatbot) -> str:
    answer = client.get(page_of(chatbot))
    assert answer.status_code == 200
    return answer.text


def save(client: Client, chatbot: Chatbot, action: str, /, **data: Any) -> Any:
    """Submit the form of an action such as `uci` or `keys/3f9a/limit`."""
    return client.post(f"{page_of(chatbot)}{action}/", data)


def rules_of(chatbot: Chatbot, **changes: object) -> dict[str, Any]:
    """The settings as a browser submits them, with the values shown before.

    Switched-off checkboxes are not sent at all.
    """
    names = ("name", "timezone", "max_conversations_per_deletion", "four_eyes", "grace_minutes", "require_action")
    present = {name: getattr(chatbot, name) for name in (*names, "token_names_conversation", "callback_url")}
    filled_in = {name: value for name, value in (present | changes).items() if value is not False}
    return filled_in | {f"initial-{name}": value for name, value in present.items()}


def assert_saved(answer: Any, chatbot: Chatbot, section: str) -> None:
    assert (answer.status_code, answer.headers.get("Location")) == (302, f"{page_of(chatbot)}#{section}")


def assert_refused(answer: Any, message: str) -> None:
    """Fail unless the page is shown again with this error in its summary, and on no other page."""
    assert answer.status_code == 200
    assert "Not saved." in answer.text
    assert message in answer.text
