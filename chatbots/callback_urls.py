"""Callback URLs: which are accepted, and which part may be shown.

The form is checked when a URL is filed, without resolving its name. The address is checked at each connection
(`common.network_guard`), and once when a chatbot's own URL is set.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from django.conf import settings

from common.network_guard import addresses_of, is_allowed

MOST_CHARACTERS = 500

_EXAMPLE = "https://hooks.example.com/privacy"
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
# Resolvers read such a name as an IP address, in one of many spellings.
_NUMBER = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)\.?")
_PATH = re.compile(r"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*")

_INSIDE = (
    "The URL leads to a private network. Use a public one, or have the operator list the network in "
    "CALLBACK_PRIVATE_NETWORKS."
)
_UNENCRYPTED = "Use https. Plain http is for networks listed in CALLBACK_PRIVATE_NETWORKS only."


class CallbackUrlRefused(ValueError):
    """The URL cannot be used. The text says what to do, and quotes nothing."""


def canonical_url(url: str) -> str:
    """Return a URL in canonical form: scheme and host in lower case, no default port, a path. Resolves no name.

    Raises CallbackUrlRefused.
    """
    scheme, host, port, path = _parts(url)
    literal = _literal(host)
    if literal is not None and not _may_be_called(str(literal)):
        raise CallbackUrlRefused(_INSIDE)
    if scheme == "http":
        listed = _may_be_called(str(literal), encrypted=False) if literal else settings.CALLBACK_PRIVATE_NETWORKS
        if not listed:
            raise CallbackUrlRefused(_UNENCRYPTED)
    shown = f"[{host}]" if ":" in host else host
    is_default = port in {None, 80 if scheme == "http" else 443}
    return f"{scheme}://{shown}{'' if is_default else f':{port}'}{path or '/'}"


def check_reachable(url: str) -> None:
    """Resolve the host of a URL in canonical form and check its addresses. Raises CallbackUrlRefused.

    Not in a transaction: name resolution can be slow.
    """
    scheme, host, port, _ = _parts(url)
    try:
        addresses = addresses_of(host, port or 443)
    except (OSError, UnicodeError):
        raise CallbackUrlRefused("The host name does not resolve. Check its spelling.") from None
    if not all(_may_be_called(address) for address in addresses):
        raise CallbackUrlRefused(_INSIDE)
    if scheme == "http" and not all(_may_be_called(address, encrypted=False) for address in addresses):
        raise CallbackUrlRefused(_UNENCRYPTED)


def receiver_of(url: str) -> str | None:
    """Return scheme and host of a URL in canonical form, the part that may be shown: a path can be a secret."""
    found = urlsplit(url)
    return f"{found.scheme}://{found.netloc}" if url else None


def _parts(url: str) -> tuple[str, str, int | None, str]:
    try:
        found = urlsplit(url)
        scheme, host, port = found.scheme, found.hostname or "", found.port
    except ValueError:
        raise CallbackUrlRefused(f"This is no URL. Use one such as {_EXAMPLE}.") from None
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= MOST_CHARACTERS
    if not plain or scheme not in {"https", "http"} or port == 0 or not _is_host(host):
        raise CallbackUrlRefused(
            f"Use a URL such as {_EXAMPLE}, optionally with a port, of at most {MOST_CHARACTERS} characters."
        )
    if "@" in found.netloc or "?" in url or "#" in url:
        raise CallbackUrlRefused("Use scheme, host and path only: no login, no query, no fragment.")
    if not _PATH.fullmatch(found.path):
        raise CallbackUrlRefused("Percent-encode special characters in the path.")
    return scheme, host, port, found.path


def _is_host(host: str) -> bool:
    if _literal(host) is not None:
        return True
    return len(host) <= 253 and bool(_NAME.fullmatch(host)) and not _NUMBER.fullmatch(host)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None


def _may_be_called(address: str, *, encrypted: bool = True) -> bool:
    return is_allowed(address, networks=settings.CALLBACK_PRIVATE_NETWORKS, encrypted=encrypted)
