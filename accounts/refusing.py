"""Responses to refused log-ins, at little cost.

Each process caches the log-ins that it refused for a second, and refuses repeated ones before it reads session, form
or database. The pages contain nothing of the request and are cached too.
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
from accounts.lockouts import LimitKind, Locked, client_address
from accounts.proof import PasswordNeeded

_BUSY_SECONDS = 5
_CACHE_SECONDS = 1.0
_MAX_CACHED = 10_000

_Caller = tuple[str | None, str | None]


class LockoutMiddleware:
    """Responds to Locked, TooBusy and PasswordNeeded."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._refused: dict[_Caller, tuple[Locked, float]] = {}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if _is_login(request):
            if not hashing.has_capacity():
                return _busy()
            if known := self._cached(request):
                return _locked(known)
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, Locked):
            if _is_login(request):
                self._cache(request, error)
            return _locked(error)
        if isinstance(error, PasswordNeeded):
            return proof.ask(request)
        return _busy() if isinstance(error, TooBusy) else None

    def _cached(self, request: HttpRequest) -> Locked | None:
        now = time.monotonic()
        for caller in _callers(request):
            locked, until = self._refused.get(caller, (None, 0.0))
            if locked and now < until:
                return locked
        return None

    def _cache(self, request: HttpRequest, locked: Locked) -> None:
        if len(self._refused) >= _MAX_CACHED:
            self._refused.clear()
        of_address, of_name = _callers(request)
        caller = of_address if locked.kind is LimitKind.ADDRESS else of_name
        self._refused[caller] = locked, time.monotonic() + _CACHE_SECONDS


def _is_login(request: HttpRequest) -> bool:
    return request.method == "POST" and request.path == reverse("admin:login")


def _callers(request: HttpRequest) -> tuple[_Caller, _Caller]:
    address = client_address(request)
    return (address, None), (address, request.POST.get("username", ""))


def _locked(locked: Locked) -> HttpResponse:
    seconds = max(1, round((locked.until - timezone.now()).total_seconds()))
    text = _page(
        "locked_out", "Too many failed log-ins", kind=locked.kind.name, until=locked.until, minutes=-(-seconds // 60)
    )
    return _answer(text, seconds)


def _busy() -> HttpResponse:
    return _answer(_page("busy", "Temporarily unavailable"), _BUSY_SECONDS)


@lru_cache(maxsize=500)
def _page(name: str, title: str, **context: object) -> str:
    # Without the request: the page is cached.
    return render_to_string(f"accounts/{name}.html", {"title": title, **context})


def _answer(text: str, seconds: int) -> HttpResponse:
    return HttpResponse(text, status=429, headers={"Retry-After": str(seconds), "Cache-Control": "no-store"})
