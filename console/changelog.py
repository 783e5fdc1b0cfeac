"""The change log of a chatbot, for its officers, as a page and as a CSV; and names for the actors in it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone

from chatbots.changelog import VOCABULARY
from chatbots.models import ApiKey, ChangeLogEntry, Chatbot
from common.times import rfc3339
from console.common.lists import paginate
from console.common.pages import csv_file, page, render
from console.common.scope import DECIDE, scope_of
from conversations import csv_cells

_COLUMNS = ("id", "at", "event", "actor", "actor_name", "request_id", "data")
# Entries that a download reads at a time.
_DOWNLOADED_AT_ONCE = 1_000


@dataclass(frozen=True)
class EntryRow:
    """A change log entry with labels. `details` are (name, value, URL or None)."""

    entry: ChangeLogEntry
    event: str
    actor: str
    details: list[tuple[str, str, str | None]]


class Filtered(NamedTuple):
    """The entries of a chatbot that the URL asks for; none with a `problem`, which says what is wrong with it."""

    chatbots: list[Chatbot]
    chatbot: Chatbot
    event: str
    request_id: str
    problem: str
    entries: QuerySet[ChangeLogEntry]


@page
def changelog(request: HttpRequest) -> HttpResponse:
    chosen = _filtered(request)
    found = paginate(request, chosen.entries)
    return render(
        request,
        "console/changelog.html",
        title="Change log",
        **chosen._asdict() | {"entries": _rows(found.rows)},
        events=[(each, _label(each)) for each in VOCABULARY],
        page=found,
    )


@page
def download(request: HttpRequest) -> HttpResponseBase:
    """Send the entries of the page, on all its pages, as a CSV in the chatbot's dialect. Times are in UTC."""
    chosen = _filtered(request)
    name = f"{timezone.now():%Y%m%d_%H%M%S}_change_log.csv"
    return csv_file(name, _csv(chosen.entries, chosen.chatbot.csv_dialect))


def _csv(entries: QuerySet[ChangeLogEntry], dialect: str) -> Iterator[str]:
    yield csv_cells.first_line(_COLUMNS, dialect)
    rows = list(entries.order_by("-id")[:_DOWNLOADED_AT_ONCE])
    while rows:
        names = names_of(entry.actor for entry in rows)
        yield "".join(csv_cells.line(_cells(entry, names), dialect) for entry in rows)
        rows = list(entries.filter(id__lt=rows[-1].pk).order_by("-id")[:_DOWNLOADED_AT_ONCE])


def _cells(entry: ChangeLogEntry, names: dict[str, str]) -> Iterator[str]:
    yield from (str(entry.pk), rfc3339(entry.at), entry.event, entry.actor, names[entry.actor])
    yield from (str(entry.request_id or ""), json.dumps(entry.data))


def _filtered(request: HttpRequest) -> Filtered:
    scope = scope_of(request, roles=DECIDE)
    # An index serves one chatbot at a time.
    chatbot = scope.first
    if chatbot is None:
        raise PermissionDenied
    entries = ChangeLogEntry.objects.filter(chatbot=chatbot)
    event, request_id = request.GET.get("event", ""), request.GET.get("request", "").strip()
    problem = ""
    if event in VOCABULARY:
        entries = entries.filter(event=event)
    elif event:
        entries, problem = entries.none(), "Unknown event."
    if request_id and (request_uuid := _uuid(request_id)) is not None:
        entries = entries.filter(request_id=request_uuid)
    elif request_id:
        entries, problem = (
            entries.none(),
            "This is not a request id, such as 01981f7e-0000-7000-8000-0123456789ab.",
        )
    return Filtered(scope.visible, chatbot, event, request_id, problem, entries)


def _rows(entries: list[ChangeLogEntry]) -> list[EntryRow]:
    names = names_of(one for entry in entries for one in _people(entry))
    return [
        EntryRow(
            entry,
            _label(entry.event),
            names[entry.actor],
            [_detail(name, value, names) for name, value in entry.data.items()],
        )
        for entry in entries
    ]


def _people(entry: ChangeLogEntry) -> Iterable[str]:
    """Yield the actor, and the user that the entry is about."""
    yield entry.actor
    if isinstance(entry.data.get("user"), int):
        yield f"user:{entry.data['user']}"


def _detail(name: str, value: Any, names: dict[str, str]) -> tuple[str, str, str | None]:
    url = reverse("console:conversation", args=[value]) if name == "conversation" else None
    text = {True: "on", False: "off", None: "none"}[value] if value is None or isinstance(value, bool) else str(value)
    return name.replace("_", " "), names.get(f"user:{value}", text) if name == "user" else text, url


def _label(event: str) -> str:
    label = event.replace("apikey", "API key").replace("uci", "UCI").replace(".", " ").replace("_", " ")
    return label[:1].upper() + label[1:]


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


_OTHERS = {"command": "Operator (command)", "worker": "Worker", "replay": "Replay of the ledger"}


def names_of(actors: Iterable[str]) -> dict[str, str]:
    """Return a name for each actor, with two queries at most."""
    known = set(actors)
    users, prefixes = _ids(known, "user"), _ids(known, "api")
    names: dict[str, str] = {}
    if numbers := [int(one) for one in users if one.isdecimal()]:
        found = User.objects.filter(pk__in=numbers).values_list("pk", "username")
        names |= {f"user:{pk}": username for pk, username in found}
    if prefixes:
        keys = ApiKey.objects.filter(prefix__in=prefixes).values_list("prefix", "label")
        names |= {f"api:{prefix}": f"API key {label} ({prefix})" for prefix, label in keys}
    return {actor: names.get(actor) or _OTHERS.get(actor, actor) for actor in known}


def _ids(actors: Iterable[str], kind: str) -> list[str]:
    return [actor.partition(":")[2] for actor in actors if actor.startswith(f"{kind}:")]
