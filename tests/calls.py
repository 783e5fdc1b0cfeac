"""Call the API as a client company does: signed, or with a token."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from django.test import Client

from chatbots.authentication import sign
from chatbots.models import ApiKey, Chatbot
from chatbots.operations.keys import create_api_key
from tests.document import assert_documented

ALICE = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": "alice-77"}

_ALL_SCOPES = tuple(ApiKey.Scope.values)


class Caller:
    """A client with one key of a chatbot. `path` is below `/api/v1/chatbots/{slug}/`, or from `/` on.

    Each response must match the API document.
    """

    def __init__(self, chatbot: Chatbot) -> None:
        self.chatbot = chatbot
        self.client = Client(raise_request_exception=False)

    def post(self, path: str, body: Any, **headers: str) -> Any:
        """Send a body: bytes as they are, anything else as JSON. Header names with `_` for `-`."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**self.credentials(raw), **{name.replace("_", "-"): value for name, value in headers.items()}}
        content_type = sent.pop("Content-Type", "application/json")
        # Named a second time because the test client leaves it out of a call with an empty body.
        url = self.url(path)
        response = self.client.generic("POST", url, raw, content_type, headers=sent, CONTENT_TYPE=content_type)
        assert_documented("post", url, response)
        return response

    def get(self, path: str, **headers: str) -> Any:
        url = self.url(path)
        response = self.client.get(url, headers={**self.credentials(b""), **headers})
        assert_documented("get", url, response)
        return response

    def url(self, path: str) -> str:
        return path if path.startswith("/") else f"/api/v1/chatbots/{self.chatbot.slug}/{path}"

    def credentials(self, body: bytes) -> dict[str, str]:
        """Return the headers that authenticate a call with this body; a stranger has none."""
        return {}


class TokenCaller(Caller):
    def __init__(self, chatbot: Chatbot, scopes: Sequence[str] = _ALL_SCOPES) -> None:
        super().__init__(chatbot)
        new = create_api_key(chatbot=chatbot, type=ApiKey.Type.TOKEN, label="test", actor="command", scopes=scopes)
        self.api_key, self.token = new.api_key, new.secret

    def credentials(self, body: bytes) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class SigningCaller(Caller):
    """Signs at the present second, or at `timestamp` if set."""

    timestamp: str = ""

    def __init__(
        self,
        chatbot: Chatbot,
        secret: str = "a_secure_secret",  # noqa: S107  the one of the documented vector
        scopes: Sequence[str] = (),
    ) -> None:
        super().__init__(chatbot)
        self.secret = secret
        self.api_key = create_api_key(
            chatbot=chatbot,
            type=ApiKey.Type.SIGNING,
            label="test",
            actor="command",
            scopes=scopes,
            taken_over_secret=secret,
        ).api_key

    def credentials(self, body: bytes) -> dict[str, str]:
        timestamp = self.timestamp or str(int(time.time()))
        return {
            "X-Mindsay-Timestamp": timestamp,
            "X-Mindsay-Signature": sign(secret=self.secret, timestamp=timestamp, body=body),
        }


def results_of(caller: Caller, path: str, *, towards: str = "next") -> Iterator[list[Any]]:
    """Yield the results of a list call page by page, to its end."""
    url: str | None = path
    while url:
        response = caller.get(url)
        assert response.status_code == 200
        answer = response.json()
        assert answer.keys() == {"results", "next", "previous"}
        yield answer["results"]
        url = answer[towards] and answer[towards].removeprefix("http://testserver")


PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "trace_id", "request_id", "errors"}


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """Return the problem of a response, after checking that it is complete and has this code."""
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = response.json()
    assert body.keys() == PROBLEM_MEMBERS
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"/api/docs/errors#{code}"
    assert body["trace_id"] == body["request_id"] == response.headers["X-Trace-ID"] != ""
    return body


def pointers(response: Any) -> dict[str, str]:
    """Return pointer -> code of the errors in an `invalid` problem."""
    return {error["pointer"]: error["code"] for error in problem(response, 400, "invalid")["errors"]}
