"""Django's WSGI handler, hardened for callers that send anything."""

from collections.abc import Callable
from importlib import import_module
from ipaddress import IPv6Address, ip_address
from typing import Any

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve

from config.web.limits import SMALL_BODY_BYTES

# Read behind a trusted proxy only. Nothing reads the others, and nothing may begin to.
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
    """The application that the web server runs."""

    request_class = Request

    def __init__(self, *, is_open: Callable[[], bool] = lambda: True) -> None:
        super().__init__()
        self._is_open = is_open

    def __call__(self, environ: dict[str, Any], start_response: Any) -> HttpResponseBase:
        _remove_untrusted_headers(environ)
        return super().__call__(environ, start_response)

    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        response = super().get_response(request)
        # Django sets it in a middleware, too late for responses of earlier middleware. Without a length the
        # connection would end with the response.
        if isinstance(response, HttpResponse):
            response.headers.setdefault("Content-Length", str(len(response.content)))
        return response

    def most_body_bytes(self, environ: dict[str, Any]) -> int:
        """Return how many bytes of the body the server reads: many only from a caller who is known.

        A view of the API says how many in `most_bytes_before_reading`; pages take a long form from logged-in staff.
        What is longer, the view refuses unread. While the service is not open every long body is, before a key or a
        session is read.
        """
        _remove_untrusted_headers(environ)
        request = self.request_class(environ)
        close_old_connections()
        if not self._is_open():
            return SMALL_BODY_BYTES
        try:
            match = resolve(request.path_info)
        except Resolver404:
            return SMALL_BODY_BYTES
        if request.path_info.startswith("/api/"):
            limit = getattr(getattr(match.func, "cls", None), "most_bytes_before_reading", None)
            return int(limit(request, match.kwargs)) if limit else SMALL_BODY_BYTES
        return settings.MAX_BODY_BYTES if _is_logged_in(request) else SMALL_BODY_BYTES


def _is_logged_in(request: HttpRequest) -> bool:
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    store = import_module(settings.SESSION_ENGINE).SessionStore
    return bool(key) and "_auth_user_id" in store(key)


def _remove_untrusted_headers(environ: dict[str, Any]) -> None:
    """Remove headers that only a proxy of ours may set, unless the call comes from one."""
    for name in _NEVER if _is_from_proxy(environ) else (*_FROM_PROXIES, *_NEVER):
        environ.pop(name, None)


def _is_from_proxy(environ: dict[str, Any]) -> bool:
    if not settings.BEHIND_PROXY:
        return False
    caller = environ.get("REMOTE_ADDR", "")
    try:
        address = ip_address(caller)
    except ValueError:
        # A caller on a UNIX socket has no address: the socket's permissions admitted it.
        return bool(caller == "localhost")
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any((mapped or address) in network for network in settings.PROXY_NETWORKS)
