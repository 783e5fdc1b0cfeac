"""Keep calls to clients' buckets out of private networks (`common.network_guard`).

`BUCKET_PRIVATE_NETWORKS` lists what is allowed all the same. The hosted bucket is the operator's and is not judged.
"""

from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError
from django.conf import settings

from common import network_guard
from common.network_guard import Guarded, Networks, addresses_of


class AddressRefused(BotoCoreError):
    """A connection would reach an address that clients' buckets must not have.

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
        addresses = addresses_of(host, port or default)
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
    return network_guard.is_allowed(address, networks=settings.BUCKET_PRIVATE_NETWORKS, encrypted=encrypted)


class GuardedConnection(Guarded):
    refusal = AddressRefused

    def networks(self) -> Networks:
        networks: Networks = settings.BUCKET_PRIVATE_NETWORKS
        return networks


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
