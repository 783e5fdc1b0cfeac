"""Calls the service as a client's program does: over HTTP, signed, or with a token.

The address is an operator's setting (`CANARY_URL`): HTTPS, or this machine. No proxy is used and no redirect
followed: the token would go along.
"""

import json
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import urllib3
from django.conf import settings
from urllib3.connection import HTTPConnection, HTTPSConnection

from chatbots.authentication import SIGNATURE_HEADER, TIMESTAMP_HEADER, newest_signing_keys, sign
from common import outbound
from common.crypto import SecretUnreadable, decrypt
from common.outbound import LimitedConnection
from compliance.canary.errors import CALL_SECONDS, Inconclusive, Trouble, check_time
from compliance.models import Canary
from compliance.models.canary import canary_token_binding

# Answers are short, since the lists of a turn are.
_ANSWER_BYTES = 4 * outbound.MIB
_NO_ANSWER = (OSError, ValueError, outbound.AnswerTooLong, urllib3.exceptions.HTTPError, HTTPException)


class _Plain(LimitedConnection, HTTPConnection):
    pass


class _WithTLS(LimitedConnection, HTTPSConnection):
    pass


@dataclass(frozen=True)
class Client:
    """Makes calls below one chatbot's path. Raises Inconclusive if the service does not answer, or cannot for now.

    A refusal is an answer. `where` is the name of the call in the API's document. The keys are in the clear.
    """

    address: str
    slug: str
    secret: str = field(repr=False)
    token: str = field(repr=False)

    @classmethod
    def of(cls, canary: Canary) -> Self:
        """Return the client of a canary. Raises Inconclusive without an address, or without readable keys."""
        if not settings.CANARY_URL:
            raise Inconclusive(Trouble.NOT_SET_UP, "CANARY_URL")
        signing = newest_signing_keys([canary.chatbot_id]).get(canary.chatbot_id)
        token = None
        with suppress(SecretUnreadable):
            token = decrypt(canary.token_encrypted, bound_to=canary_token_binding(canary.chatbot_id))
        if signing is None or signing.secret is None or token is None:
            raise Inconclusive(Trouble.NOT_SET_UP, "keys")
        return cls(settings.CANARY_URL, canary.chatbot.slug, signing.secret, token)

    def read(self, where: str, path: str, body: Any = None) -> Any:
        """Return the document of a call that must succeed: a POST if it has a body."""
        return _require(where, *self.call(where, path, body))

    def call(self, where: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        return self._call(where, path, None if body is None else json.dumps(body).encode(), self._bearer)

    def upload(self, where: str, path: str, *, name: str, media_type: str, content: bytes, message_id: str) -> Any:
        """Send a file of a message; return the document of the answer."""
        body, content_type = urllib3.encode_multipart_formdata(
            [("message_id", message_id), ("file", (name, content, media_type))]
        )
        return _require(where, *self._call(where, path, body, self._bearer | {"Content-Type": content_type}))

    def file(self, path: str, body: Any, *, once: str) -> UUID:
        """File a request, signed, once for each `once`; return its id."""
        raw, timestamp = json.dumps(body).encode(), str(int(time.time()))
        signature = sign(secret=self.secret, timestamp=timestamp, body=raw)
        signed = {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signature, "Idempotency-Key": once}
        return UUID(_require(path, *self._call(path, path, raw, signed))["request_id"])

    @property
    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _call(self, where: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        check_time(where)
        status, answer = 0, b""
        # Raised outside the block: an error in it contains the address.
        with suppress(*_NO_ANSWER), outbound.within(CALL_SECONDS, answer_bytes=_ANSWER_BYTES):
            status, answer = self._send(f"/api/v1/chatbots/{self.slug}/{path}", body, headers)
        # A service that cannot answer has shown nothing: 503, also for a restored database, and 429.
        if not 200 <= status < 500 or status == 429:
            raise Inconclusive(Trouble.API_UNAVAILABLE, where)
        return status, answer

    def _send(self, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        target = urlsplit(self.address)
        is_plain = target.scheme == "http"
        kind: Any = _Plain if is_plain else partial(_WithTLS, ssl_context=outbound.tls_context())
        sent = {"Content-Type": "application/json", "Connection": "close", **headers}
        with closing(kind(target.hostname or "", target.port, timeout=CALL_SECONDS)) as connection:
            connection.request("GET" if body is None else "POST", path, body, sent, preload_content=False)
            answer = connection.getresponse()
            return answer.status, answer.read(decode_content=True)


def _require(where: str, status: int, body: bytes) -> Any:
    """Return the document of an answer. Raises Inconclusive if the call was refused, or the answer is no document."""
    if status < 300:
        with suppress(ValueError):
            return json.loads(body)
    raise Inconclusive(Trouble.API_REFUSED, where)
