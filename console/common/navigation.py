"""The side menu: the pages that the user may open."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from django.http import HttpRequest
from django.urls import reverse

from console.common.scope import DECIDE, MANAGE_REQUESTS, READ, SUPERUSER_ONLY, Role, has_role


class Entry(NamedTuple):
    label: str
    url: str
    icon: str
    is_here: bool


# None: every staff user, even without a role.
_Declared = tuple[str, str, str, tuple[Role, ...] | None]

_GROUPS: Mapping[str, Iterable[_Declared]] = {
    "Daily work": (
        ("Dashboard", "console:dashboard", "gauge", READ),
        ("Conversations", "console:conversations", "bubbles", READ),
        ("Look up", "console:lookup", "search", READ),
        ("Requests", "console:requests", "inbox", READ),
        ("Due", "console:due", "clock", READ),
        ("File a request", "console:file", "plus", MANAGE_REQUESTS),
        ("Legal holds", "console:holds", "closed", DECIDE),
        ("Help", "console:help", "help", None),
    ),
    "Files": (
        ("Exports", "console:exports", "download", READ),
        ("Daily extracts", "console:extracts", "calendar", READ),
    ),
    "Setup and monitoring": (
        ("Chatbots", "console:chatbots", "sliders", READ),
        ("Callbacks", "console:callbacks", "bell", READ),
        ("Workers", "console:workers", "pulse", READ),
        ("Change log", "console:changelog", "list", DECIDE),
        ("Users", "admin:auth_user_changelist", "people", SUPERUSER_ONLY),
        ("All records", "admin:records", "table", SUPERUSER_ONLY),
    ),
}
# Other URL prefixes of an entry's pages.
_OTHER_PREFIXES = {"console:chatbots": "settings/"}


def navigation(request: HttpRequest) -> list[tuple[str, list[Entry]]]:
    """Return the groups of entries that the user may open; the entry of the current page is marked."""
    groups = ((label, list(_entries(request, declared))) for label, declared in _GROUPS.items())
    return [(label, entries) for label, entries in groups if entries]


def _entries(request: HttpRequest, declared: Iterable[_Declared]) -> Iterator[Entry]:
    home = reverse("admin:index")
    for label, name, icon, roles in declared:
        if roles is None or has_role(request, roles):
            url = reverse(name)
            prefixes = [url, *([home + _OTHER_PREFIXES[name]] if name in _OTHER_PREFIXES else [])]
            is_here = request.path == url or (url != home and request.path.startswith(tuple(prefixes)))
            yield Entry(label, url, icon, is_here)
