"""How long the body of a call may be, said before it is read: a long one only of a caller who is known.

A view of the API says it in `body_leave`. Pages take a long form of somebody who is logged in.
"""

from importlib import import_module

from django.conf import settings
from django.db import close_old_connections
from django.http import HttpRequest
from django.urls import Resolver404, resolve

from config.web.limits import SMALL_BODY_BYTES


def most_body_bytes(request: HttpRequest) -> int:
    """Return how many bytes of a body are read. What is longer, the call itself refuses without it."""
    close_old_connections()
    try:
        match = resolve(request.path_info)
    except Resolver404:
        return SMALL_BODY_BYTES
    if request.path_info.startswith("/api/"):
        leave = getattr(getattr(match.func, "cls", None), "body_leave", None)
        return int(leave(request, match.kwargs)) if leave else SMALL_BODY_BYTES
    return settings.MAX_BODY_BYTES if _is_logged_in(request) else SMALL_BODY_BYTES


def _is_logged_in(request: HttpRequest) -> bool:
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    store = import_module(settings.SESSION_ENGINE).SessionStore
    return bool(key) and "_auth_user_id" in store(key)
