"""Make one call to a client's receiver: signed, guarded, and over in time whatever the receiver does."""

import json
import logging
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

import urllib3
from django.conf import settings
from urllib3.connection import HTTPConnection, HTTPSConnection

from chatbots.authentication import SIGNATURE_HEADER, sign
from chatbots.network_guard import Guarded, Networks
from compliance.callbacks.claiming import Outcome, Taken
from compliance.models import Callback
from config.logs import describe_kind
from config.times import rfc3339

logger = logging.getLogger(__name__)

Failure = Callback.Failure

TIMESTAMP_HEADER = "X-Mindsay-Request-Timestamp"
KEY_HEADER = "X-Mindsay-Key"

CONNECT_SECONDS = 5.0
CALL_SECONDS = 10.0
# Of the answer's body, so that the receiver meets no broken connection. It is thrown away.
_READ_BYTES = 4096


class _AddressRefused(Exception):
    """The connection would reach, or has reached, an address that receivers must not have."""


class _Guarded(Guarded):
    refusal = _AddressRefused
    watch: Callable[[socket.socket], None]

    def networks(self) -> Networks:
        networks: Networks = settings.CALLBACK_PRIVATE_NETWORKS
        return networks

    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        self.watch(made)
        return made


class _HTTPConnection(_Guarded, HTTPConnection):
    encrypted = False


class _HTTPSConnection(_Guarded, HTTPSConnection):
    encrypted = True


def body_of(callback: Taken) -> bytes:
    """Return what is told: ids, codes and the client's own reference. Nothing of the chatter."""
    return json.dumps(
        {
            "callback_id": str(callback.id),
            "event": f"request.{callback.status}",
            "chatbot": callback.slug,
            "request_id": str(callback.request_id),
            "kind": callback.kind,
            "reference": callback.reference,
            "status": callback.status,
            "hold_reason": callback.hold_reason,
            "result": callback.result,
            "error_code": callback.error_code or None,
            "occurred_at": rfc3339(callback.occurred_at),
        }
    ).encode()


class Call:
    """One call, which a thread makes (`run`) while whoever waits for it may end it (`abort`).

    No proxy is asked, whatever the environment says: it would resolve the name, unseen by us. No redirect is
    followed: it could lead anywhere. Of an answer, the status alone counts.
    """

    def __init__(self, callback: Taken, *, key: str, secret: str, tls: ssl.SSLContext) -> None:
        self.callback = callback
        self.deadline = time.monotonic() + CALL_SECONDS
        self._key, self._secret, self._tls = key, secret, tls
        self._status: int | None = None
        self._line: socket.socket | None = None  # the connection, by a handle of our own
        self._is_aborted = False

    def run(self) -> Outcome:
        """Make the call and return what became of it. Raises nothing."""
        try:
            self._send()
        except Exception as error:  # whatever it was, it is this call's alone
            # An answer that breaks off after its status is one.
            failure = _failure_of(error)
            if self._status is None:
                if failure is Failure.BAD_ANSWER:
                    logger.warning("callback.failed callback=%s kind=%s", self.callback.id, describe_kind(error))
                return Outcome(error=failure)
        return self.so_far()

    def so_far(self) -> Outcome:
        """Return the outcome as it is now: also of a call that is not over, and will not be waited for."""
        status = self._status
        if status is None:
            return Outcome(error=Failure.NO_ANSWER)
        is_success = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
        return Outcome(status, None if is_success else Failure.BAD_STATUS)

    def abort(self) -> None:
        """End the call, in whatever state its thread is. Only the name service cannot be interrupted."""
        self._is_aborted = True
        if line := self._line:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _send(self) -> None:
        target = urlsplit(self.callback.url)
        body = body_of(self.callback)
        timestamp = str(int(time.time()))
        connection = self._connection(target)
        connection.watch = self._watch
        try:
            connection.connect()
            # It now counts for each wait for the receiver; the deadline, for all of them together.
            connection.timeout = CALL_SECONDS
            connection.request(
                "POST",
                target.path,
                body=body,
                headers={
                    "Content-Type": "application/json",
                    "User-Agent": "data-compliance-callbacks/1",
                    "Connection": "close",
                    TIMESTAMP_HEADER: timestamp,
                    SIGNATURE_HEADER: sign(secret=self._secret, timestamp=timestamp, body=body),
                    KEY_HEADER: self._key,
                },
                preload_content=False,
            )
            answer = connection.getresponse()
            self._status = answer.status
            answer.read(_READ_BYTES, decode_content=False)
            answer.close()
        finally:
            connection.close()
            if self._line:
                self._line.close()

    def _connection(self, target: SplitResult) -> _HTTPConnection | _HTTPSConnection:
        host = target.hostname or ""
        if target.scheme == "http":
            return _HTTPConnection(host, target.port, timeout=CONNECT_SECONDS)
        return _HTTPSConnection(host, target.port, timeout=CONNECT_SECONDS, ssl_context=self._tls)

    def _watch(self, made: socket.socket) -> None:
        """Keep a handle on the connection. Raises TimeoutError when it comes too late to be used."""
        self._line = made.dup()
        if self._is_aborted or time.monotonic() > self.deadline:
            made.close()
            raise TimeoutError


def _failure_of(error: Exception) -> Failure:
    match error:
        case _AddressRefused():
            return Failure.ADDRESS_REFUSED
        case urllib3.exceptions.NameResolutionError() | socket.gaierror() | UnicodeError():
            return Failure.NAME_UNKNOWN
        case ssl.SSLError() | urllib3.exceptions.SSLError():
            return Failure.TLS_FAILED
        case OSError() | urllib3.exceptions.TimeoutError() | urllib3.exceptions.NewConnectionError():
            return Failure.NO_ANSWER
        case _:
            return Failure.BAD_ANSWER
