"""Keep calls to clients' buckets out of private networks: an endpoint is a client's word, the network ours.

Addresses are judged twice: when the endpoint is set, and for each connection, on the address that the socket has
really reached and before a byte is sent, since a name can resolve to something else a moment later.
`BUCKET_PRIVATE_NETWORKS` lists what is allowed all the same. The hosted bucket is the operator's and is not judged.
"""

import os
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool
from botocore.config import Config
from botocore.exceptions import BotoCoreError, HTTPClientError
from botocore.httpsession import URLLib3Session
from django.conf import settings

# IPv6 addresses that carry an IPv4 address in their last 32 bits: IPv4-compatible ones, and those of NAT64.
_CARRIERS = (IPv6Network("::/96"), IPv6Network("64:ff9b::/96"))
# Site-local, and NAT64 of one network's own: Python takes both for global.
_LOCAL = (IPv6Network("fec0::/10"), IPv6Network("64:ff9b:1::/48"))


class AddressRefused(BotoCoreError):
    """A connection would reach, or has reached, an address that clients' buckets must not have.

    One of botocore's errors, so that it travels through it unchanged; a kind that it does not try again.
    """

    fmt = "The address is refused."


class EndpointRefused(ValueError):
    """An endpoint cannot be used. The text says what to do, for whoever typed it."""


def check_endpoint(url: str) -> str:
    """Return an endpoint in its one form: scheme and host in lower case, no default port. Asks the name service.

    Raises EndpointRefused: malformed, unknown to the name service, or inside a private network that
    `BUCKET_PRIVATE_NETWORKS` does not list. Plain HTTP is for listed networks only.
    """
    scheme, host, port = _parts(url)
    default = 80 if scheme == "http" else 443
    try:
        addresses = _addresses_of(host, port or default)
    except (OSError, UnicodeError):
        raise EndpointRefused("The name of the endpoint does not resolve. Look at its spelling.") from None
    if not all(is_allowed(address) for address in addresses):
        raise EndpointRefused(
            "The endpoint resolves to an address inside a private network. Name a public one, or have the operator "
            "list the network in BUCKET_PRIVATE_NETWORKS."
        )
    if scheme == "http" and not all(is_allowed(address, encrypted=False) for address in addresses):
        raise EndpointRefused("Use https. Plain http is for networks listed in BUCKET_PRIVATE_NETWORKS only.")
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + (f":{port}" if port and port != default else "")


def is_allowed(address: str, *, encrypted: bool = True) -> bool:
    """Say whether clients' buckets may lie at this IP address; without encryption only in a listed network."""
    meant = _meant(address)
    if any(meant in network for network in settings.BUCKET_PRIVATE_NETWORKS):
        return True
    return encrypted and meant.is_global and not (meant.is_multicast or any(meant in local for local in _LOCAL))


class GuardedSender:
    """Sends a client's calls in place of botocore's own sender: register it for the event `before-send.s3`.

    It speaks to the endpoint directly, never through a proxy: a proxy would resolve the name, unseen by us.
    """

    def __init__(self, config: Config) -> None:
        self._session = _GuardedSession(
            timeout=(config.connect_timeout, config.read_timeout),  # type: ignore[attr-defined]
            verify=os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE") or True,
            proxies={},
        )

    def __call__(self, request: Any, **_kwargs: Any) -> Any:
        return self._session.send(request)


class _Guarded:
    """Mixed into a connection of botocore's: looks whom it speaks to before it speaks."""

    _dns_host: str
    host: str
    port: int
    encrypted: bool

    def _new_conn(self) -> socket.socket:
        # Before a connection is made, so that nothing inside is even knocked at; after it, since the name may
        # have been answered differently the second time.
        for address in _addresses_of(self._dns_host, self.port):
            self._check(address)
        made: socket.socket = super()._new_conn()  # type: ignore[misc]
        try:
            self._check(made.getpeername()[0])
        except BaseException:
            made.close()
            raise
        return made

    def _check(self, address: str) -> None:
        if not is_allowed(address, encrypted=self.encrypted):
            raise AddressRefused


# The stubs see a conflict between the bases that botocore gives its own connections.
class _HTTPConnection(_Guarded, AWSHTTPConnection):  # type: ignore[misc]
    encrypted = False


class _HTTPSConnection(_Guarded, AWSHTTPSConnection):  # type: ignore[misc]
    encrypted = True


class _HTTPPool(AWSHTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(AWSHTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _GuardedSession(URLLib3Session):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Not in the stubs; urllib3 documents its own part.
        manager: Any = self._manager  # type: ignore[attr-defined]
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def send(self, request: Any) -> Any:
        try:
            return super().send(request)
        except HTTPClientError as error:
            cause = error.kwargs.get("error")
            # Bare again: as an HTTPClientError it would be tried twice more.
            if isinstance(cause, AddressRefused):
                raise cause from None
            raise


def _parts(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port, if it has one. Raises EndpointRefused."""
    try:
        found = urlsplit(url)
        scheme, host, port = found.scheme, found.hostname or "", found.port
    except ValueError:
        raise EndpointRefused("This is no address. Use one such as https://s3.example.com.") from None
    plain = url.isascii() and url.isprintable() and " " not in url
    if not plain or scheme not in {"https", "http"} or not host or port == 0:
        raise EndpointRefused("Use an address such as https://s3.example.com, with a port if need be.")
    if "@" in found.netloc or found.path.strip("/") or "?" in url or "#" in url:
        raise EndpointRefused("Give scheme, host and port alone: no login, no path, no query.")
    return scheme, host, port


def _addresses_of(host: str, port: int) -> list[str]:
    """Ask the name service for all addresses of a host. Raises OSError."""
    answers = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]


def _meant(address: str) -> IPv4Address | IPv6Address:
    """Return the address itself, or the IPv4 address that packets to it end up at."""
    found = ip_address(address.partition("%")[0])  # a link-local one has its interface behind it
    if isinstance(found, IPv4Address):
        return found
    carried = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
    if carried is None and int(found) > 1 and any(found in carrier for carrier in _CARRIERS):
        carried = IPv4Address(int(found) & 0xFFFF_FFFF)
    return carried or found
