"""Keeps calls to addresses chosen by clients out of private networks.

Addresses are checked when they are set, and again before each connection, since a name can resolve to something else
a moment later.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from common.outbound import Addresses, LimitedConnection, resolve

Networks = Collection[IPv4Network | IPv6Network]

# IPv6 addresses that carry an IPv4 address in their last 32 bits: IPv4-compatible ones, and those of NAT64.
_CARRIERS = (IPv6Network("::/96"), IPv6Network("64:ff9b::/96"))
# Python considers these public, but Oracle's and Azure's clouds use them internally.
_INSIDE = (IPv4Network("192.0.0.0/24"), IPv4Network("168.63.129.16/32"))
# All allocated IPv6 addresses. Python considers most others public too, such as site-local and translated ones.
_ALLOCATED = IPv6Network("2000::/3")


def is_allowed(address: str, *, networks: Networks, encrypted: bool = True) -> bool:
    """Return whether this IP address may be called: public or in `networks`; unencrypted only the latter."""
    effective = _effective_address(address)
    if any(effective in network for network in networks):
        return True
    return encrypted and _is_public(effective)


def addresses_of(host: str, port: int) -> list[str]:
    """Resolve a host to all its addresses. Raises OSError, UnicodeError."""
    return [str(address[0]) for *_, address in resolve(host, port)]


class Guarded(LimitedConnection, ABC):
    """Mixin for urllib3's connections that checks addresses before connecting."""

    encrypted: bool
    refusal: type[Exception]  # what is raised when an address is refused

    @abstractmethod
    def networks(self) -> Networks:
        """Return the private networks that are allowed."""

    def _addresses(self) -> Addresses:
        # The name is not resolved again: the connection uses one of the checked addresses.
        found = super()._addresses()
        for *_, address in found:
            if not is_allowed(str(address[0]), networks=self.networks(), encrypted=self.encrypted):
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
