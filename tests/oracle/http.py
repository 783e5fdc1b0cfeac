"""A client company's program that calls the API: it signs, and repeats a call whose answer it did not get."""

import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class NoAnswer(OSError):
    """The connection was refused or lost, or the answer did not come in time. What became of the call is unknown."""


class Answer(NamedTuple):
    """A response. `body` is its JSON, or None where it is none."""

    status: int
    body: Any
    raw: bytes
    headers: Mapping[str, str]


class Client:
    """Calls the API of one chatbot: signed to file requests, with a token for all else, on a connection for each."""

    def __init__(self, address: str, slug: str, *, secret: str, token: str, timeout: float = 10.0) -> None:
        self.slug = slug
        self.secret = secret
        self.token = token
        self.timeout = timeout
        self._address = address
        self._base = f"/api/v1/chatbots/{slug}/"

    def at(self, address: str) -> "Client":
        """Return one with the same credentials that calls another web server."""
        return Client(address, self.slug, secret=self.secret, token=self.token, timeout=self.timeout)

    def file(self, path: str, body: Mapping[str, Any], *, key: str = "") -> Answer:
        """File a request, signed; with `key` as its Idempotency-Key, so that it may be repeated. Raises NoAnswer."""
        raw = json.dumps(body).encode()
        timestamp = str(int(time.time()))
        signature = hmac.new(self.secret.encode(), timestamp.encode() + raw, hashlib.sha256).hexdigest()
        headers = {"X-Mindsay-Timestamp": timestamp, "X-Mindsay-Signature": signature}
        return self.call("POST", path, raw, headers | ({"Idempotency-Key": key} if key else {}))

    def post(self, path: str, body: Any, *, key: str = "") -> Answer:
        return self.call("POST", path, json.dumps(body).encode(), {"Idempotency-Key": key} if key else {})

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    def upload(self, number: int, name: str, content: bytes, media_type: str = "text/plain") -> Answer:
        """Send a file of a conversation."""
        edge = hashlib.sha256(content).hexdigest()[:24]
        head = (
            f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            f"Content-Type: {media_type}\r\n\r\n"
        )
        raw = head.encode() + content + f"\r\n--{edge}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        return self.call("POST", f"conversations/{number}/files", raw, headers)

    def call(
        self, method: str, path: str, raw: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Call a path of the chatbot. Raises NoAnswer."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        if "X-Mindsay-Signature" not in sent:
            sent["Authorization"] = f"Bearer {self.token}"
        return ask(self._address + self._base + path, method=method, raw=raw, headers=sent, timeout=self.timeout)


def ask(
    url: str,
    *,
    method: str = "GET",
    raw: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> Answer:
    """Make one call to any address. Redirects are not followed. Raises NoAnswer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=timeout)
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, raw, headers or {})
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(type(error).__name__) from None
    finally:
        connection.close()
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    return Answer(response.status, body, content, {name.lower(): value for name, value in response.getheaders()})
