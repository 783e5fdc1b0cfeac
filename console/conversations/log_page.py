"""The conversations log of a chatbot. `conversations.filtered_log` reads a page; this adds filters and cursors."""

import json
from datetime import datetime
from typing import Any, NamedTuple, cast
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from rest_framework.pagination import Cursor
from rest_framework.request import Request

from chatbots.models import Chatbot
from common.pagination import CursorPages
from common.problems import Problem
from console.common.lists import page_query
from console.common.pages import page, render
from console.common.scope import one_of, visible_chatbots
from console.conversations import filters
from conversations import filtered_log
from conversations.filtered_log import LogPosition


class Link(NamedTuple):
    text: str
    url: str


@page
def log(request: HttpRequest) -> HttpResponse:
    chatbots = visible_chatbots(request)
    chatbot = one_of(chatbots, request.GET)
    if chatbot is None:
        return render(request, "console/conversations/none.html", title="Conversations")
    chosen = filters.read(request.GET, zone=ZoneInfo(chatbot.timezone), now=timezone.now())
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
        chatbots=chatbots,
        chosen=chosen,
        chips=[Link(chip.text, log_url(chatbot, chosen, without=chip.name)) for chip in chosen.chips],
        clear_url=log_url(chatbot),
        found=found,
        older_url=cursors.url_of(found.older, is_backwards=False),
        newer_url=cursors.url_of(found.newer, is_backwards=True),
        is_backwards=cursors.is_backwards,
        last_day=_last_day(chatbot, chosen) if is_empty and cursors.behind is None else None,
    )


class LogCursors(CursorPages):
    """Where a page of the log begins, and the URLs of the pages beside it. Raises Http404 for an invalid cursor."""

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
        """Return the URL of the page that begins behind a place; None without a place."""
        if place is None:
            return None
        position: Any = json.dumps([place.started_at.isoformat(), place.number])
        return self.encode_cursor(Cursor(offset=0, reverse=is_backwards, position=position))


def _place(cursor: Cursor) -> LogPosition:
    started_at, number = json.loads(cast("str", cursor.position))
    return LogPosition(datetime.fromisoformat(started_at), number)


def log_url(chatbot: Chatbot, chosen: filters.LogQuery | None = None, *, without: str = "", **also: str) -> str:
    """Return the URL of a chatbot's log with the chosen filters, but one."""
    parameters = {"chatbot": chatbot.slug, **(chosen.parameters if chosen else {}), **also}
    parameters.pop(without, None)
    return f"{reverse('console:conversations')}?{urlencode(parameters)}"


def _last_day(chatbot: Chatbot, chosen: filters.LogQuery) -> Link | None:
    """Return the last day before the window's end on which a conversation began."""
    newest = filtered_log.newest_before(chatbot, chosen.ends_at)
    if newest is None or newest >= chosen.starts_at:
        return None
    day = newest.astimezone(ZoneInfo(chatbot.timezone)).date().isoformat()
    return Link(day, log_url(chatbot, chosen, since=day, until=day))
