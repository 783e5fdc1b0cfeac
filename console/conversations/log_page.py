"""The conversations log of a chatbot: filters and cursors around `conversations.filtered_log`.

The filters are closed lists and days only, since they are part of the URL.
"""

import json
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django import forms
from django.conf.global_settings import LANGUAGES as DJANGOS_LANGUAGES
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.utils import timezone
from rest_framework.pagination import Cursor
from rest_framework.request import Request

from chatbots.models import Chatbot
from common.pagination import CursorPages
from common.problems import Problem
from common.times import EARLIEST, LATEST, midnight
from console.common.lists import choice_filter, day_filter, page_query
from console.common.pages import page, render
from console.common.scope import DECIDE, may, scope_of
from conversations import filtered_log
from conversations.filtered_log import CsatFilter, LogFilters, LogPosition, ScoreFilter, StateFilter
from conversations.models import Conversation
from conversations.protection import find_restricted

DEFAULT_HOURS = 48
ONE_DAY = timedelta(days=1)

# Primary language subtags and their names: no free text gets into a URL.
LANGUAGES = dict(
    sorted(
        (
            {name.partition("-")[0]: label for name, label in reversed(DJANGOS_LANGUAGES) if "-" not in name}
            | {"zh": "Chinese", "no": "Norwegian"}
        ).items(),
        key=lambda one: one[1],
    )
)

_YES_NO = [("yes", "Yes"), ("no", "No")]
_DAYS = [MinValueValidator(EARLIEST.date()), MaxValueValidator(LATEST.date() - 2 * ONE_DAY)]


class LogFilterForm(forms.Form):
    """The filters of a page and its time window, whose days are those of the chatbot's time zone.

    An unknown filter is reported and not applied. The others are applied.
    """

    since = day_filter(label="From day", validators=_DAYS)
    until = day_filter(label="To day", validators=_DAYS)
    channel = choice_filter(Conversation.Channel.choices, label="Channel")
    language = choice_filter(LANGUAGES.items(), label="Language")
    score = choice_filter(ScoreFilter.choices, label="Conversation score")
    csat = choice_filter(CsatFilter.choices, label="CSAT")
    handover = choice_filter(_YES_NO, label="Agent handover")
    started = choice_filter([("user", "The user"), ("bot", "The bot, by a push")], label="Started by")
    uploads = choice_filter(_YES_NO, label="With files")
    state = choice_filter(StateFilter.choices, label="Deletion")

    def __init__(self, given: QueryDict, *, zone: ZoneInfo) -> None:
        super().__init__(given, label_suffix="")
        self.is_valid()
        self.first_day, self.last_day = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        now = timezone.now()
        self.starts_at, self.ends_at = EARLIEST, now + ONE_DAY
        if self.first_day:
            self.starts_at = midnight(self.first_day, zone)
        if self.last_day:
            self.ends_at = midnight(self.last_day + ONE_DAY, zone)
        if self.has_default_window:
            self.starts_at = now - timedelta(hours=DEFAULT_HOURS)

    @property
    def has_default_window(self) -> bool:
        return not (self.first_day or self.last_day)

    @property
    def parameters(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.cleaned_data.items() if value not in (None, "")}

    @property
    def chips(self) -> list[tuple[str, str]]:
        return [(name, f"{self.fields[name].label}: {self._text(name)}") for name in self.parameters]

    def _text(self, name: str) -> str:
        field, value = self.fields[name], self.parameters[name]
        offered: Any = field.choices if isinstance(field, forms.ChoiceField) else ()
        return str(dict(offered).get(value, value))

    @property
    def filters(self) -> LogFilters:
        chosen = self.cleaned_data
        is_yes = {"yes": True, "no": False, "bot": True, "user": False}
        return LogFilters(
            channel=chosen.get("channel") or None,
            language=chosen.get("language") or None,
            score=ScoreFilter(chosen["score"]) if chosen.get("score") else None,
            csat=CsatFilter(chosen["csat"]) if chosen.get("csat") else None,
            state=StateFilter(chosen["state"]) if chosen.get("state") else None,
            has_agent_handover=is_yes.get(chosen.get("handover", "")),
            has_push=is_yes.get(chosen.get("started", "")),
            has_file_upload=is_yes.get(chosen.get("uploads", "")),
        )


class Link(NamedTuple):
    text: str
    url: str


@page
def log(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    chatbot = scope.first
    if chatbot is None:
        return render(request, "console/conversations/none.html", title="Conversations")
    chosen = LogFilterForm(request.GET, zone=ZoneInfo(chatbot.timezone))
    cursors = LogCursors(request)
    found = filtered_log.read_page(
        chatbot=chatbot,
        filters=chosen.filters,
        starts_at=chosen.starts_at,
        ends_at=chosen.ends_at,
        behind=cursors.behind,
        is_backwards=cursors.is_backwards,
    )
    is_empty = not found.rows and not found.searched_to
    return render(
        request,
        "console/conversations/log.html",
        title="Conversations",
        chatbot=chatbot,
        chatbots=scope.visible,
        chosen=chosen,
        chips=[Link(text, log_url(chatbot, chosen, without=name)) for name, text in chosen.chips],
        clear_url=log_url(chatbot),
        found=found,
        restricted=find_restricted(chatbot.pk, [row.number for row in found.rows]),
        sees_restricted=may(request, chatbot, DECIDE),
        older_url=cursors.url_of(found.older, is_backwards=False),
        newer_url=cursors.url_of(found.newer, is_backwards=True),
        is_backwards=cursors.is_backwards,
        last_day=_last_day(chatbot, chosen) if is_empty and cursors.behind is None else None,
    )


class LogCursors(CursorPages):
    """The start of a page of the log, and the URLs of the pages beside it. Raises Http404 for an invalid cursor."""

    ordering = ("-started_at", "-id")

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(page_query(request))
        self.request = cast("Request", request)
        self.base_url = request.build_absolute_uri()
        try:
            cursor = self.decode_cursor(self.request)
            self.behind = None if cursor is None else _place(cursor)
        except (Problem, ValueError, TypeError):
            raise Http404 from None
        self.is_backwards = cursor is not None and cursor.reverse

    def url_of(self, place: LogPosition | None, *, is_backwards: bool) -> str | None:
        """Return the URL of the page that begins after a place, or None without a place."""
        if place is None:
            return None
        position: Any = json.dumps([place.started_at.isoformat(), place.number])
        return self.encode_cursor(Cursor(offset=0, reverse=is_backwards, position=position))


def _place(cursor: Cursor) -> LogPosition:
    started_at, number = json.loads(cast("str", cursor.position))
    return LogPosition(datetime.fromisoformat(started_at), number)


def log_url(chatbot: Chatbot, chosen: LogFilterForm | None = None, *, without: str = "", **also: str) -> str:
    """Return the URL of a chatbot's log with the chosen filters, except the one in `without`."""
    parameters = {"chatbot": chatbot.slug, **(chosen.parameters if chosen else {}), **also}
    parameters.pop(without, None)
    return f"{reverse('console:conversations')}?{urlencode(parameters)}"


def _last_day(chatbot: Chatbot, chosen: LogFilterForm) -> Link | None:
    newest = filtered_log.newest_before(chatbot, chosen.ends_at)
    if newest is None or newest >= chosen.starts_at:
        return None
    day = newest.astimezone(ZoneInfo(chatbot.timezone)).date().isoformat()
    return Link(day, log_url(chatbot, chosen, since=day, until=day))
