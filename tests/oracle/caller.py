"""A client company's program that calls the API: once, or repeatedly until the outcome of a call is known."""

import hashlib
import hmac
import http.client
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.oracle.model import now
from tests.oracle.violations import Violations

# The codes of a service that cannot serve a call for now: after a fault, or if the bot makes too many long ones.
_TOO_MANY = 429
_FOR_NOW = {503, _TOO_MANY}
# The seconds, besides the time of faults, in which a call may have no answer with its outcome; and the seconds after
# a fault from which each call must have an answer.
_PATIENCE, _CALM = 60.0, 90.0


class NoAnswer(OSError):
    """The connection was refused or lost, or the answer did not come in time. The outcome of the call is unknown."""


class Silent(Exception):
    """A call has had no answer with its outcome for longer than any fault explains."""


class Answer(NamedTuple):
    """A response. `body` is its JSON, or None if it is not JSON."""

    status: int
    body: Any
    raw: bytes
    headers: Mapping[str, str]

    @property
    def code(self) -> str:
        return str(self.body.get("code", "")) if isinstance(self.body, dict) else ""

    def __str__(self) -> str:
        return f"{self.status} {self.code}".strip()


class Client:
    """Calls the API of one chatbot: signed to file requests, with a token for all else, on a connection for each.

    Each call raises NoAnswer.
    """

    def __init__(self, address: str, slug: str, *, secret: str, token: str, timeout: float = 10.0) -> None:
        self.slug, self.secret, self.token = slug, secret, token
        self._timeout = timeout
        self._base = f"{address}/api/v1/chatbots/{slug}/"

    def at(self, address: str) -> "Client":
        """Return one with the same credentials that calls another web server."""
        return Client(address, self.slug, secret=self.secret, token=self.token, timeout=self._timeout)

    def file(self, path: str, body: Mapping[str, Any], *, key: str = "") -> Answer:
        """File a request, signed; with `key` as its Idempotency-Key, so that it may be repeated."""
        raw = json.dumps(body).encode()
        timestamp = str(int(time.time()))
        signature = hmac.new(self.secret.encode(), timestamp.encode() + raw, hashlib.sha256).hexdigest()
        headers = {"X-Mindsay-Timestamp": timestamp, "X-Mindsay-Signature": signature}
        return self.call("POST", path, raw, headers | ({"Idempotency-Key": key} if key else {}))

    def post(self, path: str, body: Any, *, key: str = "") -> Answer:
        return self.call("POST", path, json.dumps(body).encode(), {"Idempotency-Key": key} if key else {})

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    def upload(self, number: int, name: str, content: bytes) -> Answer:
        edge = hashlib.sha256(content).hexdigest()[:24]
        head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        raw = f"{head}Content-Type: text/plain\r\n\r\n".encode() + content + f"\r\n--{edge}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        return self.call("POST", f"conversations/{number}/files", raw, headers)

    def call(
        self, method: str, path: str, raw: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        sent = {"Content-Type": "application/json", **(headers or {})}
        if "X-Mindsay-Signature" not in sent:
            sent["Authorization"] = f"Bearer {self.token}"
        return ask(self._base + path, method=method, raw=raw, headers=sent, timeout=self._timeout)


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


class Traffic:
    """Counts calls and their answers, from all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()

    def note(self, what: str, answer: str) -> None:
        with self._lock:
            self.calls[what] += 1
            self.answers[answer] += 1


class Caller:
    """Calls until the outcome is known. A refusal that the present fault excuses is repeated.

    Any other that is not in `ok` is a violation. `longest_pause` are the seconds between two attempts.
    """

    def __init__(
        self, client: Client, violations: Violations, traffic: Traffic, *, longest_pause: float = 2.0
    ) -> None:
        self.client = client
        self.bot = client.slug
        self._violations, self._traffic, self._longest_pause = violations, traffic, longest_pause

    def get(self, what: str, path: str, *, ok: Collection[int] = (200,)) -> Answer:
        return self._surely(what, ok, lambda: self.client.get(path))

    def post(self, what: str, path: str, body: Any, *, ok: Collection[int] = (200,)) -> Answer:
        """Make a repeatable call with a token."""
        return self._surely(what, ok, lambda: self.client.post(path, body))

    def lines(self, what: str, path: str, documents: Collection[Mapping[str, Any]]) -> Answer:
        raw = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents).encode()
        headers = {"Content-Type": "application/x-ndjson"}
        return self._surely(what, (200,), lambda: self.client.call("POST", path, raw, headers))

    def file(self, what: str, path: str, body: Mapping[str, Any], key: str) -> Answer:
        """File with a signature, each time anew, and always with the same key."""
        return self._surely(what, (200,), lambda: self.client.file(path, body, key=key))

    def batch(self, what: str, requests: Collection[Mapping[str, Any]], key: str) -> Answer:
        body = {"requests": list(requests)}
        return self._surely(what, (200,), lambda: self.client.post("requests/batch", body, key=key))

    def upload(self, number: int, name: str, content: bytes) -> Answer | None:
        try:
            answer = self.client.upload(number, name, content)
        except NoAnswer as error:
            self._traffic.note("upload", str(error))
            return None
        self._traffic.note("upload", str(answer))
        if answer.status not in {201, 404, 410, *_FOR_NOW}:
            self._refused("upload", answer)
        return answer

    def _surely(self, what: str, ok: Collection[int], call: Callable[[], Answer]) -> Answer:
        asked = now()
        pause = 0.1
        while True:
            answer = None
            try:
                answer = call()
                said = str(answer)
            except NoAnswer as error:
                said = str(error)
            self._traffic.note(what, said)
            if answer is not None:
                if answer.status in ok:
                    return answer
                if answer.status == 500:
                    self._refused(what, answer)
                elif answer.status not in _FOR_NOW and answer.code not in self._violations.outages.excuses:
                    self._refused(what, answer)
                    return answer
            self._has_reason(what, said, asked)
            time.sleep(pause)
            pause = min(pause * 1.5, self._longest_pause)

    def _has_reason(self, what: str, said: str, asked: datetime) -> None:
        """Check that faults explain why a call must be repeated. Raises Silent if they do not."""
        outages, which = self._violations.outages, f"{what} of {self.bot}"
        if not said.startswith(str(_TOO_MANY)) and not outages.lately(_CALM):
            told = f"{which} was answered with {said}, and the last fault was over {_CALM:.0f} s ago"
            self._violations.add("no answer", told)
        if (now() - asked).total_seconds() - outages.within(asked, now()) > _PATIENCE:
            self._violations.add("no answer", f"{which} had no answer for {_PATIENCE:.0f} s without a fault")
            raise Silent(what)

    def _refused(self, what: str, answer: Answer) -> None:
        faults = [f"{fault.get('pointer')} {fault.get('code')}" for fault in (answer.body or {}).get("errors", [])]
        told = f"{answer} {faults} (call {answer.headers.get('x-trace-id', '')})"
        self._violations.add("wrong answer", f"{what} of {self.bot} was answered with {told}")


def new_key() -> str:
    return secrets.token_hex(12)
