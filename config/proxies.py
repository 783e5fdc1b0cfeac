"""Whether what a call says of other addresses than its own is believed."""

from ipaddress import IPv6Address, ip_address
from typing import Any

from django.conf import settings

# Of these the two first are read, behind a proxy of ours. The others nothing reads, and nothing shall begin to.
_BELIEVED = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO")
_NEVER = (
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
    "HTTP_FORWARDED",
    "HTTP_X_REAL_IP",
)


def forget_hearsay(environ: dict[str, Any]) -> None:
    """Take out of a call what only a proxy of ours may say, unless it comes from one."""
    for name in _NEVER if _is_from_proxy(environ) else (*_BELIEVED, *_NEVER):
        environ.pop(name, None)


def _is_from_proxy(environ: dict[str, Any]) -> bool:
    if not settings.BEHIND_PROXY:
        return False
    caller = environ.get("REMOTE_ADDR", "")
    try:
        address = ip_address(caller)
    except ValueError:
        # Who calls by a socket in the file system has no address, and was let in by its permissions.
        return bool(caller == "localhost")
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any((mapped or address) in network for network in settings.PROXY_NETWORKS)
