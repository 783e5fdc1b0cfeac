"""Require a recent password before changes that would outlive a stolen session."""

from typing import cast
from urllib.parse import urlencode, urlsplit

from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from accounts import lockouts, sessions

SEND_AGAIN = "again"


class PasswordNeeded(Exception):
    """The password was not entered recently. `LockoutMiddleware` redirects to the page that asks for it."""


def require_password(request: HttpRequest) -> None:
    """Raise PasswordNeeded unless the password was entered in this session within ten minutes."""
    if not sessions.is_proved(request):
        raise PasswordNeeded


def is_right(request: HttpRequest, password: str) -> bool:
    """Return whether this is the user's password, and record the time if so. Raises Locked or TooBusy."""
    user = cast("User", request.user)
    with lockouts.attempt(request, user.get_username()) as attempt:
        attempt.is_wrong = not user.check_password(password)
    if attempt.is_wrong:
        return False
    sessions.note_proof(request)
    return True


def ask(request: HttpRequest) -> HttpResponse:
    """Redirect to the page that asks for the password, with the page to return to."""
    parameters = {REDIRECT_FIELD_NAME: request.get_full_path()}
    if request.method not in {"GET", "HEAD"}:
        came_from = urlsplit(request.headers.get("Referer", ""))
        is_ours = came_from.netloc == request.get_host()
        parameters = {REDIRECT_FIELD_NAME: came_from.path if is_ours else reverse("admin:index"), SEND_AGAIN: "1"}
    return HttpResponseRedirect(f"{reverse('console:confirm_password')}?{urlencode(parameters)}")


def next_url(request: HttpRequest) -> str:
    """Return the page in the URL's parameter, or the dashboard if it is on another host."""
    there = request.GET.get(REDIRECT_FIELD_NAME, "")
    is_ours = url_has_allowed_host_and_scheme(there, {request.get_host()}, require_https=request.is_secure())
    return there if is_ours else reverse("admin:index")
