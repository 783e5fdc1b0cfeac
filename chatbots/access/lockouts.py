"""Lock-outs after repeated failures: what django-axes asks of us, and how little it keeps.

Failures are counted by user name and address together. A name that nobody has may be a password or a chatter's
mail address, typed into the wrong field: a keyed digest of it stands in its place, so that it is counted alike and
nobody can tell by the lock-out which names exist.
"""

import logging
from datetime import datetime
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.handlers.proxy import AxesProxyHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.db.models import Max
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone

from chatbots.secrets import digest

logger = logging.getLogger(__name__)

# Of an address of version 6 its subscriber's network: one subscriber has more addresses than could be counted.
_SUBSCRIBER_BITS = 64


def is_locked(request: HttpRequest, user: User) -> bool:
    """Return whether this user may not try anything from where the call comes."""
    return bool(AxesProxyHandler.is_locked(request, {"username": user.get_username()}))


def note_failure(request: HttpRequest, user: User) -> None:
    """Count a wrong code as a wrong password is. The last of too many has the call answered by the lock-out page."""
    user_login_failed.send(sender=__name__, credentials={"username": user.get_username()}, request=request)


def answer(request: HttpRequest, response: HttpResponse | None, credentials: dict[str, Any] | None) -> HttpResponse:  # noqa: ARG001
    """Say that this address is locked out for this name, and until when."""
    until = _locked_until(request, credentials)
    seconds = max(1, round((until - timezone.now()).total_seconds()))
    page = render(
        request,
        "console/access/locked_out.html",
        {"title": "Too many failed log-ins", "until": until, "minutes": -(-seconds // 60)},
        status=429,
    )
    page["Retry-After"] = str(seconds)
    page["Cache-Control"] = "no-store"
    return page


def recorded_name(request: HttpRequest, credentials: dict[str, Any] | None) -> str:  # noqa: ARG001
    """Return under which name a failure is counted."""
    typed = str((credentials or {}).get("username") or "").replace("\0", "")
    if User.objects.filter(username=typed).exists():
        return typed
    return f"unknown:{digest('login', 0, typed).hex()[:16]}"


def client_address(request: HttpRequest) -> str | None:
    """Return where a call comes from, as far as that can be believed.

    Each proxy adds the address that called it at the end of X-Forwarded-For, so of ours the outermost has written
    the entry so many places from the end. What stands before it anybody can have sent.
    """
    told = request.META.get("REMOTE_ADDR", "")
    if settings.BEHIND_PROXY:
        chain = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
        told = chain[-settings.PROXY_COUNT] if len(chain) >= settings.PROXY_COUNT else ""
    try:
        address = ip_address(told.strip())
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ip_network((address, _SUBSCRIBER_BITS), strict=False).network_address)
    return str(address)


def nobody_named(*_: Any) -> str:
    """Return how axes names a client in its own log lines."""
    return "a client"


class LeanHandler(AxesDatabaseHandler):  # type: ignore[misc]  # it has no types
    """Keeps name, address and time; neither what was sent, nor what kind of browser sent it."""

    def user_login_failed(
        self, sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
    ) -> None:
        if request is None:
            raise ValueError("A log-in without its call cannot be counted: hand the request to authenticate().")
        _forget_browser(request)
        sent = request.GET, request.POST
        request.GET = request.POST = QueryDict()  # axes would store both
        try:
            super().user_login_failed(sender, credentials, request, **kwargs)
        finally:
            request.GET, request.POST = sent
        user = User.objects.filter(username=credentials.get("username") or "").values_list("pk", flat=True).first()
        event = "login.locked_out" if getattr(request, "axes_locked_out", False) else "login.failed"
        logger.warning("%s user=%s", event, user or "unknown")

    def user_logged_in(self, sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
        _forget_browser(request)
        super().user_logged_in(sender, request, user, **kwargs)
        logger.info("login.done user=%s", user.pk)


def _forget_browser(request: HttpRequest) -> None:
    for name in ("axes_user_agent", "axes_http_accept"):
        setattr(request, name, "")


def _locked_until(request: HttpRequest, credentials: dict[str, Any] | None) -> datetime:
    attempts = AccessAttempt.objects.filter(
        username=recorded_name(request, credentials), ip_address=client_address(request)
    )
    last: datetime | None = attempts.aggregate(last=Max("attempt_time"))["last"]
    return (last or timezone.now()) + settings.LOGIN_COOLOFF
