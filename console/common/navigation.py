"""The side menu: the pages that the user may open."""

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


def _may_read(request: HttpRequest) -> bool:
    return is_superuser(request) or bool(chatbots_with_role(request, READ))


def _may_manage(request: HttpRequest) -> bool:
    return is_superuser(request) or bool(chatbots_with_role(request, MANAGE_REQUESTS))


def _may_decide(request: HttpRequest) -> bool:
    return is_superuser(request) or bool(chatbots_with_role(request, DECIDE))


_Declared = tuple[str, str, str, Callable[[HttpRequest], bool]]

_GROUPS: tuple[tuple[str, tuple[_Declared, ...]], ...] = (
    (
        "Daily work",
        (
            ("Dashboard", "console:dashboard", "gauge", _may_read),
            ("Conversations", "console:conversations", "bubbles", _may_read),
            ("Look up", "console:lookup", "search", _may_read),
            ("Requests", "console:requests", "inbox", _may_read),
            ("File a request", "console:file", "plus", _may_manage),
        ),
    ),
    (
        "Files",
        (
            ("Exports", "console:exports", "download", _may_read),
            ("Daily extracts", "console:extracts", "calendar", _may_read),
        ),
    ),
    (
        "Setup and monitoring",
        (
            ("Chatbots", "console:chatbots", "sliders", _may_read),
            ("Callbacks", "console:callbacks", "bell", _may_read),
            ("Workers", "console:workers", "pulse", _may_read),
            ("Change log", "console:changelog", "list", _may_decide),
            ("Users", "admin:auth_user_changelist", "people", is_superuser),
            ("All records", "admin:records", "table", is_superuser),
        ),
    ),
)


# Other URL prefixes of an entry's pages.
_OTHER_PREFIXES = {"console:chatbots": "settings/"}


def navigation(request: HttpRequest) -> list[Group]:
    """Return the groups of entries that the user may open; the entry of the current page is marked."""
    groups = (Group(label, list(_entries(request, declared))) for label, declared in _GROUPS)
    return [group for group in groups if group.entries]


def _entries(request: HttpRequest, declared: tuple[_Declared, ...]) -> Iterator[Entry]:
    home = reverse("admin:index")
    for label, name, icon, may in declared:
        if may(request):
            url = reverse(name)
            prefixes = [url, *([home + _OTHER_PREFIXES[name]] if name in _OTHER_PREFIXES else [])]
            is_here = request.path == url or (url != home and request.path.startswith(tuple(prefixes)))
            yield Entry(label, url, icon, is_here)
