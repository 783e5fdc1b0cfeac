"""The entries at the side of each page: those that lead somewhere for this user."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse

from console.common.scope import DECIDE, MANAGE_REQUESTS, READ, chatbots_with_role, is_superuser


@dataclass(frozen=True)
class Entry:
    label: str
    url: str
    icon: str
    is_here: bool


@dataclass(frozen=True)
class Group:
    label: str
    entries: list[Entry]


def _everybody(request: HttpRequest) -> bool:
    return is_superuser(request) or bool(chatbots_with_role(request, READ))


def _tends(request: HttpRequest) -> bool:
    return is_superuser(request) or bool(chatbots_with_role(request, MANAGE_REQUESTS))


def _decides(request: HttpRequest) -> bool:
    return is_superuser(request) or bool(chatbots_with_role(request, DECIDE))


_Declared = tuple[str, str, str, Callable[[HttpRequest], bool]]

_GROUPS: tuple[tuple[str, tuple[_Declared, ...]], ...] = (
    (
        "Daily work",
        (
            ("Dashboard", "console:dashboard", "gauge", _everybody),
            ("Conversations", "console:conversations", "bubbles", _everybody),
            ("Look up", "console:lookup", "search", _everybody),
            ("Requests", "console:requests", "inbox", _everybody),
            ("File a request", "console:file", "plus", _tends),
        ),
    ),
    (
        "Files",
        (
            ("Exports", "console:exports", "download", _everybody),
            ("Daily extracts", "console:extracts", "calendar", _everybody),
        ),
    ),
    (
        "Set up and watch",
        (
            ("Chatbots", "console:chatbots", "sliders", _everybody),
            ("Callbacks", "console:callbacks", "bell", _everybody),
            ("Workers", "console:workers", "pulse", _everybody),
            ("Change log", "console:changelog", "list", _decides),
            ("Users", "admin:auth_user_changelist", "people", is_superuser),
            ("All records", "admin:records", "table", is_superuser),
        ),
    ),
)


# Pages that stand elsewhere than below the entry they belong to: where theirs begin, below the home of all.
_ELSEWHERE = {"console:chatbots": "settings/"}


def navigation(request: HttpRequest) -> list[Group]:
    """Return the groups of entries that this user may open; the one whose page this is, or is below it, is marked."""
    groups = (Group(label, list(_entries(request, declared))) for label, declared in _GROUPS)
    return [group for group in groups if group.entries]


def _entries(request: HttpRequest, declared: tuple[_Declared, ...]) -> Iterator[Entry]:
    home = reverse("admin:index")
    for label, name, icon, may in declared:
        if may(request):
            url = reverse(name)
            places = [url, *([home + _ELSEWHERE[name]] if name in _ELSEWHERE else [])]
            is_here = request.path == url or (url != home and request.path.startswith(tuple(places)))
            yield Entry(label, url, icon, is_here)
