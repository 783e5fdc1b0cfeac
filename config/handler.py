"""Django's WSGI handler, hardened for callers that send anything."""

import re
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import Any

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest

# The path must be what a proxy's rules see: no other form of target, no needless escape.
_PLAIN_TARGET = re.compile(r"/(?!/)[^#]*")
_NEEDLESS_ESCAPE = re.compile(r"[^?]*%(2[def]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e)", re.IGNORECASE)
_NOT_PLAIN = b"The target must be a path with one leading slash and no needless escapes.\n"

# More than the proxies take.
_PIECE_BYTES, _MOST_PIECES = 64 * 1024, 512

# Read behind a trusted proxy only. No code may read the other X-Forwarded headers.
_FROM_PROXIES = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO")
_NEVER = (
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
    "HTTP_FORWARDED",
    "HTTP_X_REAL_IP",
)


class Request(WSGIRequest):
    """A request that treats a broken Content-Type as an empty one.

    Django reads the header before any view or middleware can answer, so an unknown encoding in a parameter
    (`charset*=x''a`) would end as a 500 without a problem's body. The views refuse an empty one with 415.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc]  # not in the stubs
        except (LookupError, ValueError, SuspiciousOperation):  # the last: a query that this charset cannot decode
            self.content_type, self.content_params = "", {}


class Handler(WSGIHandler):
    request_class = Request

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        target = environ.get("RAW_URI", "/")  # gunicorn's: as it was sent
        if not _PLAIN_TARGET.fullmatch(target) or _NEEDLESS_ESCAPE.match(target):
            start_response("400 Bad Request", [("Content-Type", "text/plain"), ("Connection", "close")])
            answer: Any = [_NOT_PLAIN]
        else:
            _remove_untrusted_headers(environ)
            answer = super().__call__(environ, start_response)
        if _is_from_proxy(environ):
            _receive_rest(environ["wsgi.input"])
        return answer


def _remove_untrusted_headers(environ: dict[str, Any]) -> None:
    """Remove headers that only a proxy of ours may set, unless the call comes from one."""
    for name in _NEVER if _is_from_proxy(environ) else (*_FROM_PROXIES, *_NEVER):
        environ.pop(name, None)


def _receive_rest(body: Any) -> None:
    """Receive the unread rest of a body, which a proxy sends at once.

    gunicorn would close the connection while the proxy sends, which can lose the answer: then the proxy returns 503.
    """
    with suppress(Exception):  # gunicorn has its own errors for malformed chunks and lost connections
        for _ in range(_MOST_PIECES):
            if not body.read(_PIECE_BYTES):
                return


def _is_from_proxy(environ: dict[str, Any]) -> bool:
    if not settings.BEHIND_PROXY:
        return False
    if environ["REMOTE_ADDR"] == "":
        # A caller on a UNIX socket: the socket's permissions admitted it.
        return True
    address = ip_address(environ["REMOTE_ADDR"])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any((mapped or address) in network for network in settings.PROXY_NETWORKS)
