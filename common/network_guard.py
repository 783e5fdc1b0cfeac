"""Keeps calls to addresses chosen by clients out of private networks.

Addresses are checked when they are set, and again before each connection, since a name can resolve to something else
a moment later. Private networks are allowed if a setting lists them (`CALLBACK_PRIVATE_NETWORKS`,
`BUCKET_PRIVATE_NETWORKS`); plain HTTP is for those only.
"""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from urllib3.connection import HTTPSConnection

from common.outbound import Addresses, LimitedConnection, resolve

# IPv6 addresses that carry an IPv4 address in their last 32 bits: IPv4-compatible ones, and those of NAT64.
_CARRIERS = (IPv6Network("::/96"), IPv6Network("64:ff9b::/96"))
# Python considers these public, but Oracle's and Azure's clouds use them internally.
_INSIDE = (IPv4Network("192.0.0.0/24"), IPv4Network("168.63.129.16/32"))
# All allocated IPv6 addresses. Python considers most others public too, such as site-local and translated ones.
_ALLOCATED = IPv6Network("2000::/3")


_DEFAULT_PORTS = {"https": 443, "http": 80}


class UrlRefused(ValueError):
    """The URL cannot be used. The text says what to do, and quotes nothing."""


class PlainUrl(NamedTuple):
    """A URL without login, query and fragment; scheme and host in lower case, no default port."""

    scheme: str
    host: str
    port: int | None
    path: str

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port else "")


def split_url(url: str, *, example: str) -> PlainUrl:
    """Split an `https` or `http` URL, without resolving its name. Raises UrlRefused."""
    try:
        found = urlsplit(url)
        scheme, host, port = found.scheme, found.hostname or "", found.port
    except ValueError:
        raise UrlRefused(f"This is no URL. Use one such as {example}.") from None
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if not is_plain or scheme not in _DEFAULT_PORTS or not host or port == 0:
        raise UrlRefused(f"Use a URL such as {example}, optionally with a port.")
    if "@" in found.netloc or "?" in url or "#" in url:
        raise UrlRefused("Use a URL with no login, no query and no fragment.")
    return PlainUrl(scheme, host, None if port == _DEFAULT_PORTS[scheme] else port, found.path)


def check_reachable(url: PlainUrl, *, setting: str) -> None:
    """Resolve the host and check its addresses. Raises UrlRefused. Not in a transaction: resolving can be slow."""
    try:
        addresses = addresses_of(url.host, url.port or _DEFAULT_PORTS[url.scheme])
    except (OSError, UnicodeError):
        raise UrlRefused("The host name does not resolve. Check its spelling.") from None
    check_addresses(addresses, scheme=url.scheme, setting=setting)


def check_addresses(addresses: Collection[str], *, scheme: str, setting: str) -> None:
    """Raise UrlRefused unless all these addresses may be called with this scheme."""
    if not all(is_allowed(address, setting=setting) for address in addresses):
        advice = f"Use a public one, or have the operator list the network in {setting}."
        raise UrlRefused(f"The URL leads to a private network. {advice}")
    if scheme == "http" and not all(is_allowed(address, setting=setting, encrypted=False) for address in addresses):
        raise unencrypted(setting)


def unencrypted(setting: str) -> UrlRefused:
    return UrlRefused(f"Use https. Plain http is for networks listed in {setting} only.")


def is_allowed(address: str, *, setting: str, encrypted: bool = True) -> bool:
    """Return whether this IP address may be called: public or listed in the setting; unencrypted only the latter."""
    effective = _effective_address(address)
    if any(effective in network for network in getattr(settings, setting)):
        return True
    return encrypted and _is_public(effective)


def addresses_of(host: str, port: int) -> list[str]:
    """Resolve a host to all its addresses. Raises OSError, UnicodeError."""
    return [str(address[0]) for *_, address in resolve(host, port)]


class Guarded(LimitedConnection):
    """Mixin for urllib3's connections that checks addresses before connecting."""

    setting: str
    refusal: type[Exception]  # what is raised when an address is refused

    def _addresses(self) -> Addresses:
        # The name is not resolved again: the connection uses one of the checked addresses.
        found = super()._addresses()
        encrypted = isinstance(self, HTTPSConnection)
        for *_, address in found:
            if not is_allowed(str(address[0]), setting=self.setting, encrypted=encrypted):
                raise self.refusal
        return found


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if not address.is_global or address.is_multicast:
        return False
    return address in _ALLOCATED or (address.version == 4 and not any(address in network for network in _INSIDE))


def _effective_address(address: str) -> IPv4Address | IPv6Address:
    """Return the address, or the IPv4 address that it embeds."""
    found = ip_address(address.partition("%")[0])  # without the zone of a link-local one
    if isinstance(found, IPv4Address):
        return found
    carried = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
    if carried is None and int(found) > 1 and any(found in carrier for carrier in _CARRIERS):
        carried = IPv4Address(int(found) & 0xFFFF_FFFF)
    return carried or found
