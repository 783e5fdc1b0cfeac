"""Keep calls to addresses that clients name out of private networks: the address is their word, the network ours.

Addresses are judged when one is set, and again for each connection before it is made, since a name can resolve to
something else a moment later.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from common.outbound import Addresses, LimitedConnection, resolve

Networks = Collection[IPv4Network | IPv6Network]

# IPv6 addresses that carry an IPv4 address in their last 32 bits: IPv4-compatible ones, and those of NAT64.
_CARRIERS = (IPv6Network("::/96"), IPv6Network("64:ff9b::/96"))
# Python takes these for public. Clouds speak to their own machines from there: Oracle's, and Azure's.
_INSIDE = (IPv4Network("192.0.0.0/24"), IPv4Network("168.63.129.16/32"))
# All of IPv6 that is given out. Python takes most of the rest for public too, such as site-local addresses and those
# that a translator maps to IPv4.
_GIVEN_OUT = IPv6Network("2000::/3")


def is_allowed(address: str, *, networks: Networks, encrypted: bool = True) -> bool:
    """Say whether this IP address may be called: a public one, or one in `networks`; in the clear only the latter."""
    meant = _meant(address)
    if any(meant in network for network in networks):
        return True
    return encrypted and _is_public(meant)


def addresses_of(host: str, port: int) -> list[str]:
    """Ask the name service for all addresses of a host. Raises OSError, UnicodeError."""
    return [str(address[0]) for *_, address in resolve(host, port)]


class Guarded(LimitedConnection, ABC):
    """Mixed into a connection of urllib3's: looks whom it would speak to before it connects."""

    encrypted: bool
    refusal: type[Exception]  # what is raised when an address is refused

    @abstractmethod
    def networks(self) -> Networks:
        """Return the private networks that are allowed all the same."""

    def _addresses(self) -> Addresses:
        # The name is not asked again: the connection goes to one of the very addresses that were judged.
        found = super()._addresses()
        for *_, address in found:
            if not is_allowed(str(address[0]), networks=self.networks(), encrypted=self.encrypted):
                raise self.refusal
        return found


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if not address.is_global or address.is_multicast:
        return False
    return address in _GIVEN_OUT or (address.version == 4 and not any(address in network for network in _INSIDE))


def _meant(address: str) -> IPv4Address | IPv6Address:
    """Return the address itself, or the IPv4 address that packets to it end up at."""
    found = ip_address(address.partition("%")[0])  # a link-local one has its interface behind it
    if isinstance(found, IPv4Address):
        return found
    carried = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
    if carried is None and int(found) > 1 and any(found in carrier for carrier in _CARRIERS):
        carried = IPv4Address(int(found) & 0xFFFF_FFFF)
    return carried or found
