"""The forms of the filing pages, as a browser would submit them."""

from html.parser import HTMLParser
from typing import Any

from django.test import Client

from chatbots.models import ChangeLogEntry, Chatbot
from compliance.models import ComplianceRequest, Replay
from conversations.models import Conversation

# The clock of previews.
NOW = "console.filing.drafts.timezone.now"


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, list[str]]] = []
        self.texts: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append({})
        elif tag == "input" and self.forms and "name" in given:
            is_left_out = given.get("type") in {"radio", "checkbox"} and "checked" not in given
            if not is_left_out:
                self.forms[-1].setdefault(given["name"], []).append(given.get("value", ""))
        elif tag == "a":
            self.links.append(given.get("href", ""))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


class Answer:
    """A page, its text, and its forms by their next step."""

    def __init__(self, response: Any) -> None:
        self.response = response
        self.status = response.status_code
        self.html = response.content.decode()
        parser = _Forms()
        parser.feed(self.html)
        self.text = " ".join(" ".join(parser.texts).split())
        self.links = parser.links
        self.forms = [form for form in parser.forms if "step" in form]

    def form(self, step: str) -> dict[str, list[str]]:
        return next(form for form in self.forms if form["step"] == [step])

    @property
    def is_preview(self) -> bool:
        return "Nothing has been filed yet." in self.text


class Filer:
    """A person who files in one chatbot."""

    def __init__(self, client: Client, chatbot: Chatbot, page: str = "") -> None:
        self.client = client
        self.path = f"/admin/file/{chatbot.slug}/{page}"

    def post(self, data: dict[str, Any]) -> Answer:
        answer = Answer(self.client.post(self.path, data))
        assert "no-store" in answer.response["Cache-Control"]
        return answer

    def preview(self, value: str = "alice", **fields: Any) -> Answer:
        named = {"whom": "chatter", "key": "member_id", "value": value} if value else {}
        return self.post({"step": "preview", "action": "delete", **named, **fields})

    def preview_many(self, *values: str, **fields: Any) -> Answer:
        pasted = {"pasted": "\r\n".join(values)} if values else {}
        return self.post({"step": "preview", "action": "delete", "key": "member_id", **pasted, **fields})

    def confirm(self, preview: Answer, typed: str = "") -> Answer:
        return self.post({**preview.form("file"), "typed": typed})


def everything() -> tuple[int, ...]:
    """The number of rows in all tables that filing could write."""
    return tuple(model.objects.count() for model in (ComplianceRequest, ChangeLogEntry, Replay, Conversation))


def filed() -> ComplianceRequest:
    """The only request."""
    return ComplianceRequest.objects.get()
