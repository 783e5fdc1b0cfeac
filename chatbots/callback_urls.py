"""Callback URLs: their validation, and the part that may be shown.

The form is checked when a URL is filed, without resolving its name. The address is checked at each connection
(`common.network_guard`), and once when a chatbot's own URL is set.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError

from common import network_guard
from common.network_guard import PlainUrl, UrlRefused, split_url

MOST_CHARACTERS = 500
# The canonical form, for constraints: no login, no query, no fragment.
CALLBACK_URL = r"^https?://[^/?#@[:space:]]+/[^?#[:space:]]*$"

_EXAMPLE = "https://hooks.example.com/privacy"
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
# Resolvers read such a name as an IP address, in one of many spellings.
_NUMBER = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)\.?")
_PATH = re.compile(r"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*")

_SETTING = "CALLBACK_PRIVATE_NETWORKS"


def canonical_url(url: str) -> str:
    """Return a URL in canonical form: scheme and host in lower case, no default port, a path. Resolves no name.

    Raises UrlRefused.
    """
    parts = _split(url)
    literal = _literal(parts.host)
    if literal is not None:
        network_guard.check_addresses([str(literal)], scheme=parts.scheme, setting=_SETTING)
    elif parts.scheme == "http" and not settings.CALLBACK_PRIVATE_NETWORKS:
        raise network_guard.unencrypted(_SETTING)
    return f"{parts.origin}{parts.path or '/'}"


def check_reachable(url: str) -> None:
    """Resolve the host of a URL in canonical form and check its addresses. Raises UrlRefused.

    Not in a transaction: name resolution can be slow.
    """
    network_guard.check_reachable(_split(url), setting=_SETTING)


def checked_url(url: str, *, field: str) -> str:
    """Return a URL in canonical form after checking its addresses. Raises ValidationError for the field.

    Not in a transaction, as `check_reachable`.
    """
    try:
        checked = canonical_url(url)
        check_reachable(checked)
    except UrlRefused as refused:
        raise ValidationError({field: str(refused)}) from None
    return checked


def receiver_of(url: str) -> str | None:
    """Return scheme and host of a URL in canonical form, the part that may be shown: a path can be a secret."""
    found = urlsplit(url)
    return f"{found.scheme}://{found.netloc}" if url else None


def _split(url: str) -> PlainUrl:
    parts = split_url(url, example=_EXAMPLE)
    if len(url) > MOST_CHARACTERS or not _is_host(parts.host):
        raise UrlRefused(f"Use a URL such as {_EXAMPLE}, of at most {MOST_CHARACTERS} characters.")
    if not _PATH.fullmatch(parts.path):
        raise UrlRefused("Percent-encode special characters in the path.")
    return parts


def _is_host(host: str) -> bool:
    if _literal(host) is not None:
        return True
    return len(host) <= 253 and bool(_NAME.fullmatch(host)) and not _NUMBER.fullmatch(host)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None
