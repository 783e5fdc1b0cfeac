"""Calls to servers of others: over in time and bounded in size, whatever the other side does.

The timeout of a socket counts for each wait, so a server that sends a byte now and then never meets it. `within` sets
a limit for all that its block does on connections made here: the connecting, the handshakes, what is sent, what comes
back. The limit belongs to the code that runs, not to a connection: a connection can wait in a pool between two calls
and be used in another thread, and there is no watcher that could come late or be lost in a fork.

Only the name service cannot be interrupted: no look-up begins after the limit, and one that has begun ends as the
machine's resolv.conf says.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

_P = ParamSpec("_P")
_T = TypeVar("_T")

MIB = 1024 * 1024

# One call to a storage with all its tries, each of which gets half of what is left; one piece of a download. With the
# time that a part takes at the least rate, and one look-up of a name, it fits in the lease of a claim
# (compliance/work/claims.py).
STORAGE_SECONDS = 30.0
# A large file is put together from its parts meanwhile.
STORAGE_COMPLETING_SECONDS = 60.0
STORAGE_LEAST_RATE = 256 * 1024  # bytes a second
# The longest answer that S3 describes is a page of a thousand keys, of 1,024 bytes each before they are encoded.
STORAGE_ANSWER_BYTES = 4 * MIB
# To borrow the credentials of a role, which happens inside a call to the storage.
STS_SECONDS = 10.0
# One callback, from the look-up of the receiver's name on. Of the answer only the status counts.
CALLBACK_SECONDS = 10.0
CALLBACK_CONNECT_SECONDS = 5.0
CALLBACK_ANSWER_BYTES = 64 * 1024
# One mail, from the connection on.
MAIL_SECONDS = 20.0
MAIL_ANSWER_BYTES = 256 * 1024

Addresses = Sequence[tuple[Any, ...]]


class AnswerTooLong(Exception):
    """The other side sent more than any answer to this call can have."""


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
    """Limit what the block does on connections made here, in the thread that runs it.

    When the time is over, each operation on a socket raises TimeoutError; when more than `answer_bytes` came,
    AnswerTooLong. A block within a block has what both leave. Do not yield inside: a generator would put its limit on
    whoever iterates it.
    """
    token = _LIMIT.set(_Limit(seconds, answer_bytes, _LIMIT.get()))
    try:
        yield
    finally:
        _LIMIT.reset(token)


def seconds_left(default: float) -> float:
    """Return for how long the limit in force still lasts, below zero when it is over; `default` where none is."""
    limit = _LIMIT.get()
    return limit.left() if limit else default


class Socket(socket.socket):
    """A connection that keeps to the limit in force. Without one its own timeout counts, as for any socket."""

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
        # One operation keeps to it as a whole, also where it sends or receives in many steps.
        self.settimeout(left)
        try:
            return operation(*args, **options)
        finally:
            self.settimeout(own)


class TLSSocket(Socket, ssl.SSLSocket):
    """The same, encrypted: what a context wraps whose `sslsocket_class` this is."""

    def do_handshake(self, block: bool = False) -> None:
        self._timed(super().do_handshake, block)


def _count(size: int) -> None:
    if limit := _LIMIT.get():
        limit.take(size)


def tls_context() -> ssl.SSLContext:
    """Return what trusts the certificates that this machine trusts, and makes connections that keep to limits."""
    context = ssl.create_default_context()
    context.sslsocket_class = TLSSocket
    return context


def resolve(host: str, port: int) -> Addresses:
    """Ask the name service for all addresses of a host. Raises OSError, UnicodeError."""
    if seconds_left(1.0) <= 0:
        raise TimeoutError("The time for this call is over.")
    return socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)


def connect(addresses: Addresses, *, timeout: float, options: Sequence[tuple[Any, ...]] | None = ()) -> Socket:
    """Connect to the first of these addresses that answers, each within `timeout` seconds. Raises OSError."""
    failure: OSError = OSError("The name has no address.")
    for family, kind, protocol, _, address in addresses:
        made = Socket(family, kind, protocol)
        try:
            for option in options or ():
                made.setsockopt(*option)
            made.settimeout(timeout)
            with within(timeout):
                made.connect(address)
        except OSError as error:
            made.close()
            failure = error
        else:
            return made
    raise failure


class LimitedConnection:
    """Mixed into a connection of urllib3's: it keeps to limits. TLS needs a context that makes `TLSSocket`s, too."""

    _dns_host: str
    host: str
    port: int
    timeout: Any
    socket_options: Any

    def _addresses(self) -> Addresses:
        """Return where to connect to, in the order to be tried."""
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
