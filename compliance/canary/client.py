"""Calls the service as a client's program does: over HTTP, signed, or with a token.

The address is an operator's setting (`CANARY_URL`), so it may lie anywhere. Plain HTTP goes to this machine only. No
proxy is asked and no redirect followed: the token would go along.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from ipaddress import ip_address
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from chatbots.authentication import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from common import outbound
from common.outbound import Addresses, LimitedConnection
from compliance.canary.trouble import Budget, CannotTell, Trouble

# One call, with the name's resolution. Few bytes are answered: the lists of a turn are short.
_SECONDS = 10.0
_ANSWER_BYTES = 4 * outbound.MIB
_CONNECT_SECONDS = 5.0
_BOUNDARY = "canary-5b1f2c7e9d"


class _NotHere(Exception):
    """Plain HTTP would leave this machine."""


_NO_ANSWER = (
    *(OSError, UnicodeError, ValueError, _NotHere, outbound.AnswerTooLong),
    *(urllib3.exceptions.HTTPError, HTTPException),
)


class _HTTPConnection(LimitedConnection, HTTPConnection):
    def _addresses(self) -> Addresses:
        found = super()._addresses()
        if not all(ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found):
            raise _NotHere
        return found


class _HTTPSConnection(LimitedConnection, HTTPSConnection):
    pass


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    @property
    def is_served(self) -> bool:
        return self.status < 400

    def json(self, where: str) -> Any:
        """Return the document of the answer. Raises CannotTell if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise CannotTell(Trouble.API_REFUSED, where) from None


class Client:
    """Calls below one chatbot's path. Raises CannotTell where the service does not answer, or cannot for now.

    A refusal is an answer. `where` is the name of the call in the API's document.
    """

    def __init__(self, address: str, slug: str, *, secret: str, token: str, budget: Budget) -> None:
        self._target = urlsplit(address)
        self._base = f"/api/v1/chatbots/{slug}/"
        self._secret, self._token = secret, token
        self._budget = budget

    def get(self, where: str, path: str) -> Answer:
        return self._call(where, "GET", path, b"", self._bearer)

    def post(self, where: str, path: str, body: Any) -> Answer:
        return self._call(where, "POST", path, json.dumps(body).encode(), self._bearer)

    def upload(self, where: str, path: str, *, name: str, media_type: str, content: bytes, message_id: str) -> Answer:
        head = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="message_id"\r\n\r\n{message_id}\r\n'
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            f"Content-Type: {media_type}\r\n\r\n"
        )
        body = head.encode() + content + f"\r\n--{_BOUNDARY}--\r\n".encode()
        form = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        return self._call(where, "POST", path, body, self._bearer | form)

    def file(self, where: str, path: str, body: Any, *, once: str) -> UUID:
        """File a request, signed, once for each `once`; return its id. Raises CannotTell also if it is refused."""
        raw, timestamp = json.dumps(body).encode(), str(int(time.time()))
        signature = sign(secret=self._secret, timestamp=timestamp, body=raw)
        signed = {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signature, "Idempotency-Key": once}
        answer = self._call(where, "POST", path, raw, signed)
        return UUID(_require(answer, where)["request_id"])

    def read(self, where: str, path: str) -> Any:
        """Return the document of a call that has to succeed."""
        return _require(self.get(where, path), where)

    def send(self, where: str, path: str, body: Any) -> Any:
        """The same of a POST."""
        return _require(self.post(where, path, body), where)

    @property
    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    def _call(self, where: str, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        self._budget.check(where)
        sent = {"Content-Type": "application/json", "Connection": "close", **headers}
        answer: Answer | None = None
        try:
            with outbound.within(_SECONDS, answer_bytes=_ANSWER_BYTES):
                answer = self._send(method, self._base + path, body, sent)
        except _NO_ANSWER:
            pass
        # Raised outside the except block, whose error would name the address. Until the service can answer, it has
        # shown nothing: 503 also of a restored database, and 429.
        if answer is None or answer.status >= 500 or answer.status == 429:
            raise CannotTell(Trouble.API_UNAVAILABLE, where)
        return answer

    def _send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        connection = self._connection()
        try:
            connection.request(method, path, body=body or None, headers=headers, preload_content=False)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(decode_content=True))
        finally:
            connection.close()

    def _connection(self) -> _HTTPConnection | _HTTPSConnection:
        host, port = self._target.hostname or "", self._target.port
        if self._target.scheme == "http":
            return _HTTPConnection(host, port, timeout=_CONNECT_SECONDS)
        return _HTTPSConnection(host, port, timeout=_CONNECT_SECONDS, ssl_context=_tls())


@cache
def _tls() -> SSLContext:
    return outbound.tls_context()


def _require(answer: Answer, where: str) -> Any:
    if not 200 <= answer.status < 300:
        raise CannotTell(Trouble.API_REFUSED, where)
    return answer.json(where)
