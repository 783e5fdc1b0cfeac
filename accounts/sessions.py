"""Expiry of staff sessions: after the log-in, after inactivity, and with their second factor.

The times are stored in the session, which is written at most once a minute, and not for pages that a script polls
(whose views have `counts_as_activity = False`).
"""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import auth
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.sessions.backends.base import SessionBase
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.http import urlencode
from django_otp import DEVICE_ID_SESSION_KEY
from django_otp.middleware import OTPMiddleware

if TYPE_CHECKING:
    from django.contrib.auth.models import User

logger = logging.getLogger(__name__)

_BEGAN = "access_began"
_SEEN = "access_seen"
_PROVED = "access_proved"
_LOGIN = "access_login"

# How long an entered password counts as recent.
_PROVED_SECONDS = 600

# How often the time of the last page is stored.
_NOTED_EVERY = 60


class SessionMiddleware:
    """Ends expired sessions before the view and notes activity after it. Includes django-otp's middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._with_device = OTPMiddleware(self._noted)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith("/api/"):
            return self._get_response(request)
        if settings.SECRET_KEY_FALLBACKS:
            _accept_fallbacks(request)
        answer: HttpResponseBase = self._with_device(request)
        return answer

    def process_view(
        self,
        request: HttpRequest,
        view: Callable[..., Any],
        args: Any,  # noqa: ARG002
        kwargs: Any,  # noqa: ARG002
    ) -> HttpResponse | None:
        if not _is_logged_in(request):
            return None
        reason = _end_reason(request)
        if reason is None:
            return None
        auth.logout(request)
        if not _counts(view):
            return HttpResponse(status=401)
        if request.path == reverse("admin:login"):
            return None
        there = {"ended": reason} | (
            {REDIRECT_FIELD_NAME: request.get_full_path()} if request.method in {"GET", "HEAD"} else {}
        )
        return HttpResponseRedirect(f"{reverse('admin:login')}?{urlencode(there)}")

    def _noted(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        match = request.resolver_match
        if match is not None and _counts(match.func) and _is_logged_in(request):
            _note(request.session)
        return response


def begin(*, request: HttpRequest, user: "User", **_signal: Any) -> None:
    """Start a session: clear failures and record the log-in."""
    from accounts import lockouts  # noqa: PLC0415  (needs the models, and this is read with the settings)
    from accounts.models import StaffLogin  # noqa: PLC0415

    lockouts.clear(request, user)
    login = StaffLogin.objects.create(user=user, address=lockouts.client_address(request))
    request.session[_BEGAN] = request.session[_SEEN] = request.session[_PROVED] = int(time.time())
    request.session[_LOGIN] = login.pk
    logger.info("login.done user=%s", user.pk)


def record_logout(*, request: HttpRequest, **_signal: Any) -> None:
    from accounts.models import StaffLogin  # noqa: PLC0415  (as above)

    StaffLogin.objects.filter(pk=request.session.get(_LOGIN, 0)).update(ended_at=Now())


def note_proof(request: HttpRequest) -> None:
    request.session[_PROVED] = int(time.time())


def is_proved(request: HttpRequest) -> bool:
    return bool(time.time() - request.session.get(_PROVED, 0) < _PROVED_SECONDS)


def _counts(view: Callable[..., Any]) -> bool:
    return bool(getattr(view, "counts_as_activity", True))


def _is_logged_in(request: HttpRequest) -> bool:
    # Without a cookie there is no session, unless the view has just created one.
    session = request.session
    return (session.session_key is not None or session.modified) and auth.SESSION_KEY in session


def hashes_of(user: "User") -> list[str]:
    """Return the hashes that bind a session to a user's password: under SECRET_KEY, then under the fallbacks."""
    return [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]


def _accept_fallbacks(request: HttpRequest) -> None:
    """Bind a session to SECRET_KEY if a fallback has bound it.

    Django would do this too, but with a new session id: a running call with the former id would then log the user
    out. While processes with the new key run beside those with the old one, this happens at every second page.
    """
    if not _is_logged_in(request):
        return
    session = request.session
    user = auth.load_backend(session[auth.BACKEND_SESSION_KEY]).get_user(session[auth.SESSION_KEY])
    if user is None:
        return
    newest, *fallbacks = hashes_of(user)
    if any(constant_time_compare(session.get(auth.HASH_SESSION_KEY, ""), one) for one in fallbacks):
        session[auth.HASH_SESSION_KEY] = newest


def _end_reason(request: HttpRequest) -> str | None:
    session, now = request.session, time.time()
    if now - session.get(_BEGAN, now) > settings.SESSION_COOKIE_AGE:
        return "age"
    if now - session.get(_SEEN, now) > settings.SESSION_IDLE.total_seconds():
        return "idle"
    # django-otp removes the id of a missing device from the session.
    had_device = DEVICE_ID_SESSION_KEY in session
    user = request.user
    if not (user.is_active and user.is_staff) or (had_device and getattr(user, "otp_device", None) is None):
        return "access"
    return None


def _note(session: SessionBase) -> None:
    now = int(time.time())
    session.setdefault(_BEGAN, now)
    every = min(_NOTED_EVERY, settings.SESSION_IDLE.total_seconds() / 10)
    if now - session.get(_SEEN, 0) >= every:
        session[_SEEN] = now
