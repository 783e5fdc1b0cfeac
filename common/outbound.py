"""Limits for outbound calls: bounded in time and size, whatever the server does.

The timeout of a socket applies to each wait, so a server that sends a byte now and then never exceeds it. `within`
sets a limit for everything its block does on connections made here: connecting, handshakes, sending, receiving. The
limit belongs to the running code, not to a connection, which can be pooled and used by another thread; no watchdog
could be late or lost in a fork.

Name resolution cannot be interrupted: none begins after the limit, and a running one ends as resolv.conf says.
"""

import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any, ParamSpec, TypeVar

from django.core.mail.backends import smtp
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

_P = ParamSpec("_P")
_T = TypeVar("_T")

MIB = 1024 * 1024

# A call to a storage with all its tries, each of which gets half of the remaining time; or one piece of a download.
# With the time of a part at the minimum rate and of one name resolution, it fits in the lease of a claim
# (compliance/work/claims.py).
STORAGE_SECONDS = 30.0
# Completing an upload: the storage assembles a large file.
STORAGE_COMPLETING_SECONDS = 60.0
STORAGE_LEAST_RATE = 256 * 1024  # bytes a second
# S3's longest answer is a page of a thousand keys of 1,024 bytes each, before encoding.
STORAGE_ANSWER_BYTES = 4 * MIB
# Fetching a role's credentials, inside a call to the storage.
STS_SECONDS = 10.0
# One callback, including name resolution. Only the status of the answer is used.
CALLBACK_SECONDS = 10.0
# A test callback, for which a client or an officer waits.
TEST_CALLBACK_SECONDS = 5.0
CALLBACK_CONNECT_SECONDS = 5.0
CALLBACK_ANSWER_BYTES = 64 * 1024
# One look-up of an identity, including name resolution. Its answer is read: its body up to this, and its head.
LOOKUP_SECONDS = 5.0
LOOKUP_BODY_BYTES = 64 * 1024
LOOKUP_ANSWER_BYTES = 2 * LOOKUP_BODY_BYTES
# One mail, including the connection.
MAIL_SECONDS = 20.0
MAIL_ANSWER_BYTES = 256 * 1024

Addresses = Sequence[tuple[Any, ...]]


class AnswerTooLong(Exception):
    """The server sent more than any answer to this call can have."""


class _Limit:
    def __init__(self, seconds: float, answer_bytes: int | None, outer: "_Limit | None") -> None:
        self.ends_at = time.monotonic() + seconds
        self._bytes_left = answer_bytes
        self._outer = outer
        if outer:
            self.ends_at = min(self.ends_at, outer.ends_at)

    def left(self) -> float:
        return self.ends_at - time.monotonic()

    def take(self, count: int) -> None:
        if self._bytes_left is not None:
            self._bytes_left -= count
            if self._bytes_left < 0:
                raise AnswerTooLong
        if self._outer:
            self._outer.take(count)


_LIMIT: ContextVar[_Limit | None] = ContextVar("outbound_limit", default=None)


@contextmanager
def within(seconds: float, *, answer_bytes: int | None = None) -> Iterator[None]:
    """Limit the operations of the block on connections made here.

    After the time, socket operations raise TimeoutError; beyond `answer_bytes`, AnswerTooLong. Nested blocks keep to
    both limits. Do not yield inside: a generator would impose its limit on its consumer.
    """
    token = _LIMIT.set(_Limit(seconds, answer_bytes, _LIMIT.get()))
    try:
        yield
    finally:
        _LIMIT.reset(token)


def seconds_left(default: float) -> float:
    """Return the remaining time of the current limit, negative when over; `default` without a limit."""
    limit = _LIMIT.get()
    return limit.left() if limit else default


class Socket(socket.socket):
    """A socket that keeps to the current limit; without one, to its own timeout."""

    def connect(self, address: Any) -> None:
        self._timed(super().connect, address)

    def recv(self, *args: Any) -> bytes:
        data: bytes = self._timed(super().recv, *args)
        _count(len(data))
        return data

    def recv_into(self, *args: Any) -> int:
        size: int = self._timed(super().recv_into, *args)
        _count(size)
        return size

    def send(self, *args: Any) -> int:
        return self._timed(super().send, *args)

    def sendall(self, *args: Any) -> None:
        self._timed(super().sendall, *args)

    def _timed(self, operation: Callable[_P, _T], *args: _P.args, **options: _P.kwargs) -> _T:
        limit = _LIMIT.get()
        if limit is None:
            return operation(*args, **options)
        left = limit.left()
        if left <= 0:
            raise TimeoutError("The time for this call is over.")
        own = self.gettimeout()
        # Applies to the whole operation, even if it sends or receives in many steps.
        self.settimeout(left)
        try:
            return operation(*args, **options)
        finally:
            self.settimeout(own)


class TLSSocket(Socket, ssl.SSLSocket):
    """The same with TLS, as `sslsocket_class` of a context."""

    def do_handshake(self, block: bool = False) -> None:
        self._timed(super().do_handshake, block)


def _count(size: int) -> None:
    if limit := _LIMIT.get():
        limit.take(size)


def tls_context() -> ssl.SSLContext:
    """Return a context with the machine's trusted certificates that creates `TLSSocket`s."""
    context = ssl.create_default_context()
    context.sslsocket_class = TLSSocket
    return context


def resolve(host: str, port: int) -> Addresses:
    """Resolve a host to all its addresses. Raises OSError, UnicodeError."""
    if seconds_left(1.0) <= 0:
        raise TimeoutError("The time for this call is over.")
    return socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)


def connect(addresses: Addresses, *, timeout: float, options: Sequence[tuple[Any, ...]] | None = ()) -> Socket:
    """Connect to the first address that answers within `timeout` seconds. Raises OSError."""
    failure: OSError = OSError("The name has no address.")
    for family, kind, protocol, _, address in addresses:
        sock = Socket(family, kind, protocol)
        try:
            for option in options or ():
                sock.setsockopt(*option)
            sock.settimeout(timeout)
            with within(timeout):
                sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def mail_failure(error: OSError | ValueError) -> str:
    """Return a code for why a mail was not sent. The error's text and arguments name addresses."""
    match error:
        case smtplib.SMTPRecipientsRefused() | ValueError():
            return "recipient_refused"
        case smtplib.SMTPSenderRefused() | smtplib.SMTPDataError():
            return "mail_refused"
        case smtplib.SMTPAuthenticationError():
            return "login_refused"
        case ssl.SSLError():
            return "tls_failed"
        case smtplib.SMTPResponseException() | smtplib.SMTPNotSupportedError():
            return "bad_answer"
    return "no_answer"


class LimitedConnection:
    """Mixin for urllib3's connections that keeps to limits. TLS also needs a context with `TLSSocket`."""

    _dns_host: str
    host: str
    port: int
    timeout: Any
    socket_options: Any

    def _addresses(self) -> Addresses:
        return resolve(self._dns_host, self.port)

    def _new_conn(self) -> socket.socket:
        this: Any = self
        try:
            return connect(self._addresses(), timeout=self.timeout, options=self.socket_options)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, this, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(this, "No connection in time.") from error
        except OSError as error:
            raise NewConnectionError(this, "No connection.") from error


class _SMTP(smtplib.SMTP):
    def _get_socket(self, host: str, port: int, timeout: Any) -> socket.socket:
        return connect(resolve(host, port), timeout=timeout)

    def getreply(self) -> tuple[int, bytes]:
        try:
            return super().getreply()
        except AnswerTooLong:
            self.close()
            raise smtplib.SMTPResponseException(500, "The answer is too long.") from None


class _SMTPOverTLS(smtplib.SMTP_SSL, _SMTP):
    """Wraps the connection of `_SMTP` in TLS."""


class EmailBackend(smtp.EmailBackend):
    """Django's SMTP backend with limits. Use it within `within`, which bounds every call."""

    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return _SMTPOverTLS if self.use_ssl else _SMTP

    @cached_property
    def ssl_context(self) -> ssl.SSLContext:
        context: ssl.SSLContext = super().ssl_context
        context.sslsocket_class = TLSSocket
        return context
