"""Make one call to a client's receiver: signed, guarded, and over in time whatever the receiver does."""

import json
import logging
import socket
import ssl
import time
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from chatbots.callback_secrets import Signers
from common import outbound
from common.logs import describe_kind
from common.network_guard import Guarded
from common.times import rfc3339
from compliance.callbacks.leases import Outcome, Taken
from compliance.models import Callback

logger = logging.getLogger(__name__)

Failure = Callback.Failure

# Of the answer's body, so that the receiver meets no broken connection. It is thrown away.
_READ_BYTES = 4096


class _AddressRefused(Exception):
    """The connection would reach an address that receivers must not have."""


class _Guarded(Guarded):
    setting = "CALLBACK_PRIVATE_NETWORKS"
    refusal = _AddressRefused


class _HTTPConnection(_Guarded, HTTPConnection):
    pass


class _HTTPSConnection(_Guarded, HTTPSConnection):
    pass


def body_of(callback: Taken) -> bytes:
    """Return the body: ids, codes and the client's own reference. Nothing about the chatter."""
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
    """One call, which a thread makes (`run`). Nothing of it happens after its deadline.

    No proxy is asked, whatever the environment says: it would resolve the name, unseen by us. No redirect is
    followed: it could lead anywhere. Of an answer, the status alone counts.
    """

    def __init__(self, callback: Taken, *, signers: Signers, tls: ssl.SSLContext) -> None:
        self.callback = callback
        self.deadline = time.monotonic() + outbound.CALLBACK_SECONDS
        self._signers, self._tls = signers, tls
        self._status: int | None = None

    def run(self) -> Outcome:
        """Make the call and return what became of it. Raises nothing."""
        try:
            with outbound.within(self.deadline - time.monotonic(), answer_bytes=outbound.CALLBACK_ANSWER_BYTES):
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
        """Return the outcome as it is now: also of a call that is not over, since a name is still looked up."""
        status = self._status
        if status is None:
            return Outcome(error=Failure.NO_ANSWER)
        is_success = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
        return Outcome(status, None if is_success else Failure.BAD_STATUS)

    def _send(self) -> None:
        target = urlsplit(self.callback.url)
        body = body_of(self.callback)
        timestamp = str(int(time.time()))
        connection = self._connection(target)
        try:
            connection.request(
                "POST",
                target.path,
                body=body,
                headers={
                    "Content-Type": "application/json",
                    "User-Agent": "data-compliance-callbacks/1",
                    "Connection": "close",
                    **self._signers.headers(message_id=self.callback.id, timestamp=timestamp, body=body),
                },
                preload_content=False,
            )
            answer = connection.getresponse()
            self._status = answer.status
            answer.read(_READ_BYTES, decode_content=False)
            answer.close()
        finally:
            connection.close()

    def _connection(self, target: SplitResult) -> _HTTPConnection | _HTTPSConnection:
        host = target.hostname or ""
        # For each address of the host; what follows has all the time that is left.
        timeout = outbound.CALLBACK_CONNECT_SECONDS
        if target.scheme == "http":
            return _HTTPConnection(host, target.port, timeout=timeout)
        return _HTTPSConnection(host, target.port, timeout=timeout, ssl_context=self._tls)


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
