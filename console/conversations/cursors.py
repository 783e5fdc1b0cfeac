"""The sealed places of the log and of a transcript, as they stand in addresses."""

import json
from datetime import datetime
from typing import Any, cast

from django.http import Http404, HttpRequest
from rest_framework.pagination import Cursor
from rest_framework.request import Request

from common.pagination import CursorPages, PageQuery
from common.problems import Problem
from console.common.paging import MOST_OF_CURSOR
from conversations.filtered_log import LogPosition
from conversations.messages import MessagePages


class LogCursors(CursorPages):
    """Where a page of the log begins, and the addresses of the pages beside it. See `filtered_log.read_page`.

    Raises Http404 for a cursor that none of our pages gave.
    """

    ordering = ("-started_at", "-id")

    def __init__(self, request: HttpRequest) -> None:
        given = request.GET.get("cursor")
        if given is not None and len(given) > MOST_OF_CURSOR:
            raise Http404
        super().__init__(PageQuery.model_validate({} if given is None else {"cursor": given}))
        self.request = cast("Request", request)
        self.base_url = request.build_absolute_uri()
        try:
            cursor = self.decode_cursor(self.request)
            self.behind = None if cursor is None else _place(cursor)
        except (Problem, ValueError, TypeError):
            raise Http404 from None
        self.is_backwards = cursor is not None and cursor.reverse

    def address_of(self, place: LogPosition | None, *, is_backwards: bool) -> str | None:
        """Return the address of the page that begins behind a place; None where there is no place."""
        if place is None:
            return None
        position: Any = json.dumps([place.started_at.isoformat(), place.number])
        return self.encode_cursor(Cursor(offset=0, reverse=is_backwards, position=position))


class TranscriptPages(MessagePages):
    """A transcript in pages. `?at=end` is the last one."""

    def decode_cursor(self, request: Request) -> Cursor | None:
        if self.query.cursor is None and request.GET.get("at") == "end":
            return Cursor(offset=0, reverse=True, position=None)
        return super().decode_cursor(request)


def _place(cursor: Cursor) -> LogPosition:
    started_at, number = json.loads(cast("str", cursor.position))
    return LogPosition(datetime.fromisoformat(started_at), number)
