"""Make one call to an address that a client has set: guarded, and over in time whatever the server does.

No proxy is used, even if the environment sets one: it would resolve the name, unseen by us. No redirect is followed:
it could lead anywhere.
"""

import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import SplitResult, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from common import outbound
from common.logs import describe_kind
from common.network_guard import Guarded


class CallFailure(StrEnum):
    """Why no whole answer came: a code of ours, never a library's text."""

    NO_ANSWER = "no_answer"
    NAME_UNKNOWN = "name_unknown"
    ADDRESS_REFUSED = "address_refused"
    TLS_FAILED = "tls_failed"
    BAD_ANSWER = "bad_answer"
    TOO_LONG = "answer_too_long"


@dataclass(frozen=True)
class Answer:
    """The outcome of a call. With a status and a failure, the answer broke off after its head.

    `kind` names the error of a BAD_ANSWER, for a log.
    """

    status: int | None = None
    body: bytes = b""
    failure: CallFailure | None = None
    kind: str = ""


class _AddressRefused(Exception):
    """The connection would reach an address that clients must not have."""


class _Guarded(Guarded):
    setting = "CALLBACK_PRIVATE_NETWORKS"
    refusal = _AddressRefused


class _HTTPConnection(_Guarded, HTTPConnection):
    pass


class _HTTPSConnection(_Guarded, HTTPSConnection):
    pass


class GuardedPost:
    """One POST, which a thread makes (`run`). Nothing of it happens after `deadline` (of `time.monotonic`).

    At most `body_bytes` of the answer's body are kept. If it has more, that is a failure where `is_whole`; otherwise
    the rest is not read.
    """

    def __init__(
        self, url: str, *, seconds: float, answer_bytes: int, body_bytes: int, is_whole: bool, tls: ssl.SSLContext
    ) -> None:
        self.deadline = time.monotonic() + seconds
        self._url, self._tls = url, tls
        self._answer_bytes, self._body_bytes, self._is_whole = answer_bytes, body_bytes, is_whole
        self._status: int | None = None
        self._body = b""

    def run(self, *, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Make the call and return its outcome. Raises nothing."""
        try:
            with outbound.within(self.deadline - time.monotonic(), answer_bytes=self._answer_bytes):
                self._send(body, headers)
        except Exception as error:  # any error concerns only this call
            failure = _failure_of(error)
            if self._status is not None and failure is not CallFailure.TOO_LONG:
                failure = CallFailure.NO_ANSWER
            kind = describe_kind(error) if failure is CallFailure.BAD_ANSWER else ""
            return Answer(self._status, failure=failure, kind=kind)
        return Answer(self._status, self._body)

    def partial_result(self) -> Answer:
        """Return the answer of a call that is still running at its deadline, because its name is being resolved."""
        return Answer(self._status, failure=CallFailure.NO_ANSWER)

    def _send(self, body: bytes, headers: Mapping[str, str]) -> None:
        target = urlsplit(self._url)
        connection = self._connection(target)
        try:
            connection.request(
                "POST",
                target.path,
                body=body,
                headers={"Content-Type": "application/json", "Connection": "close", **headers},
                preload_content=False,
            )
            answer = connection.getresponse()
            self._status = answer.status
            self._body = self._read(answer)
            answer.close()
        finally:
            connection.close()

    def _read(self, answer: urllib3.BaseHTTPResponse) -> bytes:
        if not self._is_whole:
            return answer.read(self._body_bytes, decode_content=False)
        found = b""
        # Up to the end: only then a body that is shorter than announced is noticed.
        while piece := answer.read(self._body_bytes + 1 - len(found), decode_content=False):
            found += piece
            if len(found) > self._body_bytes:
                raise outbound.AnswerTooLong
        return found

    def _connection(self, target: SplitResult) -> _HTTPConnection | _HTTPSConnection:
        host = target.hostname or ""
        # For each address of the host; later operations have all the time that is left.
        timeout = outbound.CALLBACK_CONNECT_SECONDS
        if target.scheme == "http":
            return _HTTPConnection(host, target.port, timeout=timeout)
        return _HTTPSConnection(host, target.port, timeout=timeout, ssl_context=self._tls)


def _failure_of(error: Exception) -> CallFailure:
    match error:
        case _AddressRefused():
            return CallFailure.ADDRESS_REFUSED
        case urllib3.exceptions.NameResolutionError() | socket.gaierror() | UnicodeError():
            return CallFailure.NAME_UNKNOWN
        case ssl.SSLError() | urllib3.exceptions.SSLError():
            return CallFailure.TLS_FAILED
        case outbound.AnswerTooLong():
            return CallFailure.TOO_LONG
        case OSError() | urllib3.exceptions.TimeoutError() | urllib3.exceptions.NewConnectionError():
            return CallFailure.NO_ANSWER
        case _:
            return CallFailure.BAD_ANSWER
