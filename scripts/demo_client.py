"""The demo's two clients: a company's program, and a staff member's browser. Standard library only."""

import hashlib
import hmac
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, NamedTuple

FINAL = {"completed", "failed", "cancelled", "rejected", "on_hold"}


class Answer(NamedTuple):
    status: int
    body: Any


class Client:
    """Calls the API of one chatbot: signed to file requests, with a token for all else."""

    def __init__(self, address: str, slug: str, *, secret: str, token: str) -> None:
        self._base = f"{address}/api/v1/chatbots/{slug}/"
        self._secret = secret
        self._token = token

    def file(self, path: str, body: dict[str, Any], *, secret: str | None = None) -> Answer:
        """File a request, signed: HMAC-SHA256 over the timestamp and the body as sent."""
        raw = json.dumps(body).encode()
        timestamp = str(int(time.time()))
        key = (secret or self._secret).encode()
        signature = hmac.new(key, timestamp.encode() + raw, hashlib.sha256).hexdigest()
        return self._call(path, raw, {"X-Mindsay-Timestamp": timestamp, "X-Mindsay-Signature": signature})

    def post(self, path: str, body: Any) -> Answer:
        return self._call(path, json.dumps(body).encode(), self._bearer())

    def get(self, path: str) -> Answer:
        return self._call(path, None, self._bearer())

    def follow(self, request_id: str, *, seconds: float) -> dict[str, Any]:
        """Poll the status until the request has ended or is on hold, or the time is over; return the last status."""
        deadline = time.monotonic() + seconds
        while True:
            status: dict[str, Any] = self.get(f"requests/{request_id}").body
            if status.get("status") in FINAL or time.monotonic() > deadline:
                return status
            time.sleep(0.05)

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    def _call(self, path: str, raw: bytes | None, headers: dict[str, str]) -> Answer:
        headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self._base + path, raw, headers)  # noqa: S310  an http address
        status, text = _open(urllib.request.build_opener(), request)
        try:
            return Answer(status, json.loads(text))
        except ValueError:
            return Answer(status, {})


class Browser:
    """A browser in which a staff user is logged in to the admin."""

    def __init__(self, address: str, *, user: str, password: str) -> None:
        self._address = address
        # As browsers do on the machine itself, where there is no HTTPS.
        cookies = CookieJar(DefaultCookiePolicy(secure_protocols=("http", "https")))
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
        _, page = self.get("/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        form = {"username": user, "password": password, "csrfmiddlewaretoken": token[1] if token else ""}
        self._open("/admin/login/", urllib.parse.urlencode(form).encode())

    def get(self, path: str) -> tuple[int, str]:
        """Return the status and the text of a page."""
        return self._open(path, None)

    def _open(self, path: str, form: bytes | None) -> tuple[int, str]:
        return _open(self._opener, urllib.request.Request(self._address + path, form))  # noqa: S310  an http address


def _open(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> tuple[int, str]:
    """Return status and text, of an error too."""
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
