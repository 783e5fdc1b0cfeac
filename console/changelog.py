"""The change log of a chatbot, for its officers, as a page and as a CSV; and names for the actors in it."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from django import forms
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
from console.common.lists import FilterForm, paginate
from console.common.pages import csv_file, page, render
from console.common.scope import DECIDE, ChatbotScope, scope_of
from conversations import csv_cells

_COLUMNS = ("id", "at", "event", "actor", "actor_name", "request_id", "data")
# Entries that a download reads at a time.
_DOWNLOADED_AT_ONCE = 1_000


class ChangelogForm(FilterForm):
    event = forms.ChoiceField(required=False, error_messages={"invalid_choice": "Unknown event."})
    request = forms.UUIDField(
        label="Request ID",
        required=False,
        error_messages={"invalid": "This is not a request id, such as 01981f7e-0000-7000-8000-0123456789ab."},
        widget=forms.TextInput(attrs={"maxlength": 36, "autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        event: Any = self.fields["event"]
        event.choices = [("", "All events"), *((each, _label(each)) for each in VOCABULARY)]

    def entries(self, chatbot: Chatbot) -> QuerySet[ChangeLogEntry]:
        entries = ChangeLogEntry.objects.filter(chatbot=chatbot)
        if not self.is_valid():
            return entries.none()
        chosen = {"event": self.cleaned_data["event"], "request_id": self.cleaned_data["request"]}
        return entries.filter(**{name: value for name, value in chosen.items() if value})


@page
def changelog(request: HttpRequest) -> HttpResponse:
    scope, chatbot = _scope(request)
    form = ChangelogForm(request.GET)
    found = paginate(request, form.entries(chatbot))
    return render(
        request,
        "console/changelog.html",
        title="Change log",
        scope=scope,
        chatbot=chatbot,
        form=form,
        entries=list(_rows(found.rows)),
        page=found,
    )


@page
def download(request: HttpRequest) -> HttpResponseBase:
    """Send the entries of the page, on all its pages, as a CSV in the chatbot's dialect. Times are in UTC."""
    _, chatbot = _scope(request)
    name = f"{timezone.now():%Y%m%d_%H%M%S}_change_log.csv"
    return csv_file(name, _csv(ChangelogForm(request.GET).entries(chatbot), chatbot.csv_dialect))


def _scope(request: HttpRequest) -> tuple[ChatbotScope, Chatbot]:
    """Return the chatbots of the page and the one that is shown: an index serves one at a time."""
    scope = scope_of(request, roles=DECIDE)
    if scope.first is None:
        raise PermissionDenied
    return scope, scope.first


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


_Details = list[tuple[str, str, str | None]]


def _rows(entries: list[ChangeLogEntry]) -> Iterator[tuple[ChangeLogEntry, str, str, _Details]]:
    """Yield entries with their event, actor and details in words. Details are (name, value, URL or None)."""
    names = names_of(one for entry in entries for one in _people(entry))
    for entry in entries:
        details = [_detail(name, value, names) for name, value in entry.data.items()]
        yield entry, _label(entry.event), names[entry.actor], details


def _people(entry: ChangeLogEntry) -> Iterable[str]:
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
