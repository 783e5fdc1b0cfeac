"""Keeps calls to clients' buckets out of private networks, except `BUCKET_PRIVATE_NETWORKS` (`common.network_guard`).

The operator's own bucket is not checked.
"""

from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError
from django.conf import settings

from common import network_guard
from common.network_guard import Guarded, Networks, addresses_of


class AddressRefused(BotoCoreError):
    """The address of a client's bucket is not allowed.

    An error of botocore, which passes it on unchanged and does not retry it.
    """

    fmt = "The address is refused."


class EndpointRefused(ValueError):
    """The endpoint cannot be used. The text says what to do."""


def check_endpoint(url: str) -> str:
    """Return an endpoint in canonical form: scheme and host in lower case, no default port. Resolves its name.

    Raises EndpointRefused if it is malformed, does not resolve, or is in a private network that
    `BUCKET_PRIVATE_NETWORKS` does not list. Plain HTTP is for listed networks only.
    """
    scheme, host, port = _parts(url)
    default = 80 if scheme == "http" else 443
    try:
        addresses = addresses_of(host, port or default)
    except (OSError, UnicodeError):
        raise EndpointRefused("The name of the endpoint does not resolve. Check its spelling.") from None
    if not all(is_allowed(address) for address in addresses):
        raise EndpointRefused(
            "The endpoint resolves to an address in a private network. Use a public one, or have the operator "
            "list the network in BUCKET_PRIVATE_NETWORKS."
        )
    if scheme == "http" and not all(is_allowed(address, encrypted=False) for address in addresses):
        raise EndpointRefused("Use https. Plain http is for networks listed in BUCKET_PRIVATE_NETWORKS only.")
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + (f":{port}" if port and port != default else "")


def is_allowed(address: str, *, encrypted: bool = True) -> bool:
    """Return whether a client's bucket may have this IP address; unencrypted only in a listed network."""
    return network_guard.is_allowed(address, networks=settings.BUCKET_PRIVATE_NETWORKS, encrypted=encrypted)


class GuardedConnection(Guarded):
    refusal = AddressRefused

    def networks(self) -> Networks:
        networks: Networks = settings.BUCKET_PRIVATE_NETWORKS
        return networks


def _parts(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port. Raises EndpointRefused."""
    try:
        found = urlsplit(url)
        scheme, host, port = found.scheme, found.hostname or "", found.port
    except ValueError:
        raise EndpointRefused("This is no URL. Use one such as https://s3.example.com.") from None
    plain = url.isascii() and url.isprintable() and " " not in url
    if not plain or scheme not in {"https", "http"} or not host or port == 0:
        raise EndpointRefused("Use a URL such as https://s3.example.com, optionally with a port.")
    if "@" in found.netloc or found.path.strip("/") or "?" in url or "#" in url:
        raise EndpointRefused("Use scheme, host and port only: no login, no path, no query.")
    return scheme, host, port
