"""Asks for the password again before what would outlive a stolen session: a second factor, a key, a role."""

from typing import cast
from urllib.parse import urlencode, urlsplit

from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from accounts import lockouts, sessions

_SEND_AGAIN = "again"


class PasswordNeeded(Exception):
    """The password was not given lately. `LockoutMiddleware` leads to the page that asks for it."""


def require_password(request: HttpRequest) -> None:
    """Raise PasswordNeeded unless whoever has the session gave its password in the last ten minutes."""
    if not sessions.is_proved(request):
        raise PasswordNeeded


def is_right(request: HttpRequest, password: str) -> bool:
    """Say whether it is the password of the session's user; then it counts as given. Raises Locked, or TooBusy."""
    user = cast("User", request.user)
    with lockouts.attempt(request, user.get_username()) as attempt:
        if not user.check_password(password):
            attempt.failed()
            return False
        attempt.was_no_failure()
    sessions.note_proof(request)
    return True


def ask(request: HttpRequest) -> HttpResponse:
    """Lead to the page that asks, and from there back to the page that was opened, or whose form was sent."""
    told = {REDIRECT_FIELD_NAME: request.get_full_path()}
    if request.method not in {"GET", "HEAD"}:
        came_from = urlsplit(request.headers.get("Referer", ""))
        is_ours = came_from.netloc == request.get_host()
        told = {REDIRECT_FIELD_NAME: came_from.path if is_ours else reverse("admin:index"), _SEND_AGAIN: "1"}
    return HttpResponseRedirect(f"{reverse('console:confirm_password')}?{urlencode(told)}")


def has_form_to_send_again(request: HttpRequest) -> bool:
    return _SEND_AGAIN in request.GET


def way_back(request: HttpRequest) -> str:
    there = request.GET.get(REDIRECT_FIELD_NAME, "")
    is_ours = url_has_allowed_host_and_scheme(there, {request.get_host()}, require_https=request.is_secure())
    return there if is_ours else reverse("admin:index")
