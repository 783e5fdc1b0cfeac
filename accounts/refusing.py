"""How a log-in is answered that is not looked at: with when and how to try again, and at little cost.

What a storm of log-ins meets again and again is refused before session, form and database are asked: each process
remembers for a second whom it refused. Its pages are the same for everybody, so they are rendered once.
"""

import time
from collections.abc import Callable
from functools import lru_cache

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from accounts import hashing, proof
from accounts.hashing import TooBusy
from accounts.lockouts import Locked, Why, client_address
from accounts.proof import PasswordNeeded

_BUSY_SECONDS = 5
_REMEMBERED_SECONDS = 1.0
_MOST_REMEMBERED = 10_000

_Who = tuple[str | None, str | None]


class LockoutMiddleware:
    """Answers Locked, TooBusy and PasswordNeeded, wherever a password or a code is checked or wanted."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._refused: dict[_Who, tuple[Locked, float]] = {}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if _is_login(request):
            if not hashing.has_a_place():
                return _busy()
            if known := self._known(request):
                return _locked(known)
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, Locked):
            if _is_login(request):
                self._remember(request, error)
            return _locked(error)
        if isinstance(error, PasswordNeeded):
            return proof.ask(request)
        return _busy() if isinstance(error, TooBusy) else None

    def _known(self, request: HttpRequest) -> Locked | None:
        now = time.monotonic()
        for who in _whose(request):
            locked, until = self._refused.get(who, (None, 0.0))
            if locked and now < until:
                return locked
        return None

    def _remember(self, request: HttpRequest, locked: Locked) -> None:
        if len(self._refused) >= _MOST_REMEMBERED:
            self._refused.clear()
        of_address, of_name = _whose(request)
        who = of_address if locked.why is Why.ADDRESS else of_name
        self._refused[who] = locked, time.monotonic() + _REMEMBERED_SECONDS


def _is_login(request: HttpRequest) -> bool:
    return request.method == "POST" and request.path == reverse("admin:login")


def _whose(request: HttpRequest) -> tuple[_Who, _Who]:
    address = client_address(request)
    return (address, None), (address, request.POST.get("username", ""))


def _locked(locked: Locked) -> HttpResponse:
    seconds = max(1, round((locked.until - timezone.now()).total_seconds()))
    text = _page(
        "locked_out", "Too many failed log-ins", why=locked.why.name, until=locked.until, minutes=-(-seconds // 60)
    )
    return _answer(text, seconds)


def _busy() -> HttpResponse:
    return _answer(_page("busy", "Not now"), _BUSY_SECONDS)


@lru_cache(maxsize=500)
def _page(name: str, title: str, **told: object) -> str:
    # Without its call: nothing of a call may stand in it.
    return render_to_string(f"accounts/{name}.html", {"title": title, **told})


def _answer(text: str, seconds: int) -> HttpResponse:
    return HttpResponse(text, status=429, headers={"Retry-After": str(seconds), "Cache-Control": "no-store"})
