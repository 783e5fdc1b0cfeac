"""Cursor pagination: `{"results": [...], "next": <url or null>, "previous": <url or null>}`.

A cursor is a row's position in the order of the list, and the page begins after it: insertions and deletions
elsewhere shift nothing, a page costs the same at any depth, and nothing is counted.

DRF's own cursor is the first column of the order and an offset among equal values. It ends at 1,000 equal ones, and
skips a row when another is deleted. Here it has all columns, so the order must be total: its last column is unique.
It is also encrypted: a position can be the time of a chatter's message, URLs end up in logs, and clients cannot forge
one.
"""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import accumulate
from typing import Any, cast

import pydantic
from django.core.exceptions import ValidationError
from django.db.models import BooleanField, F, Field, Func, Model, QuerySet, Value
from django.db.models.lookups import GreaterThan, LessThan
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from common.crypto import SecretUnreadable, decrypt, encrypt
from common.db import reading_in_index_order
from common.problems import Problem, invalid_field
from common.query import Query, Whole


class PageQuery(Query):
    """The parameters of every list call. A subclass with other limits overrides `limit`."""

    cursor: str | None = pydantic.Field(None, max_length=2_000, examples=["v1:k1:Zm9sbG93IG5leHQgYXMgaXQgaXM="])
    """Where the page begins, as in the `next` or `previous` of an answer. It holds for this call alone."""
    limit: Whole = pydantic.Field(50, ge=1, le=200, examples=[50])
    """The most results of a page."""


class CursorPages(CursorPagination):
    """Paginator of a call. A subclass sets `ordering`: columns without nulls, all ascending or all descending, the
    last one unique. An index on the queryset's filters and these columns makes pages cheap.

    Raises Problem(`invalid`) for a cursor of another call.
    """

    ordering: tuple[str, ...]
    # For lists where PostgreSQL would otherwise sort all rows of a chatbot: it has no statistics for each chatbot.
    in_index_order = False
    template = None

    def __init__(self, query: PageQuery) -> None:
        self.query = query

    def get_page_size(self, request: Request) -> int:  # noqa: ARG002  DRF's signature
        return self.query.limit

    def paginate_queryset(  # type: ignore[override]  # it always pages
        self,
        queryset: QuerySet[Any, Any],
        request: Request,
        view: APIView | None = None,  # noqa: ARG002
    ) -> list[Any]:
        """Return the rows of the page: objects, or dictionaries with the columns of the order."""
        self.request = request
        self.base_url = request.build_absolute_uri()
        self.cursor = self.decode_cursor(request)
        is_reverse = self.cursor is not None and self.cursor.reverse
        position = cast("str", self.cursor.position) if self.cursor else None
        if position is not None:
            queryset = queryset.filter(self._after(position, queryset.model, is_reverse=is_reverse))
        limit = self.get_page_size(request)
        order = [_reversed(name) for name in self.ordering] if is_reverse else self.ordering
        with reading_in_index_order() if self.in_index_order else nullcontext():
            rows = list(queryset.order_by(*order)[: limit + 1])
        page = self.fitting(rows[:limit])
        following: str | None = None
        if len(rows) > len(page):
            following = self._get_position_from_instance(rows[len(page)], self.ordering)
        # DRF builds the links from these.
        if is_reverse:
            page.reverse()
            self.previous_position, self.next_position = following, position
        else:
            self.previous_position, self.next_position = position, following
        self.has_previous = self.previous_position is not None
        self.has_next = self.next_position is not None
        self.page = page
        return page

    def fitting(self, rows: list[Any]) -> list[Any]:
        """Return the rows that fit on the page: all, unless a subclass has another limit."""
        return rows

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.get_next_link(), "previous": self.get_previous_link()})

    def decode_cursor(self, request: Request) -> Cursor | None:
        if self.query.cursor is None:
            return None
        try:
            is_reverse, position = json.loads(decrypt(self.query.cursor, bound_to=self._binding(request)))
        except (SecretUnreadable, ValueError, TypeError):
            raise _invalid_cursor() from None
        return Cursor(offset=0, reverse=bool(is_reverse), position=position)

    def encode_cursor(self, cursor: Cursor) -> str:
        dumped = encrypt(json.dumps([cursor.reverse, cursor.position]), bound_to=self._binding(self.request))
        return replace_query_param(self.base_url or "", self.cursor_query_param, dumped)

    def _get_position_from_instance(self, instance: Any, ordering: Sequence[str]) -> str:
        names = [name.lstrip("-") for name in ordering]
        values = [instance[name] if isinstance(instance, dict) else getattr(instance, name) for name in names]
        return json.dumps([str(value) for value in values])

    def _after(self, position: str, model: type[Model], *, is_reverse: bool) -> LessThan | GreaterThan:
        """Return the condition for rows after a position: a row comparison, which is one range of the index."""
        names = [name.lstrip("-") for name in self.ordering]
        fields = [cast("Field[Any, Any]", model._meta.get_field(name)) for name in names]
        try:
            values = [
                Value(field.to_python(text), output_field=field)
                for field, text in zip(fields, json.loads(position), strict=True)
            ]
        except (ValidationError, ValueError, TypeError):  # from a version with another order
            raise _invalid_cursor() from None
        is_downwards = self.ordering[0].startswith("-")
        comparison = GreaterThan if is_downwards == is_reverse else LessThan
        return comparison(_row(*map(F, names)), _row(*values))

    def _binding(self, request: Request) -> str:
        return f"cursor:{request.path_info}:{','.join(self.ordering)}"


class BoundedPages(CursorPages):
    """Paginator that ends a page early if its rows are long. The queryset returns dictionaries with `size` in bytes.

    It should have only the columns of the order and `size`, so that long columns are read for the page's rows only.
    """

    most_bytes = 8 * 1024 * 1024

    def fitting(self, rows: list[Any]) -> list[Any]:
        sums = accumulate(row["size"] for row in rows)
        within = sum(size <= self.most_bytes for size in sums)
        return rows[: max(within, 1)]  # or a longer row would block the pages after it


def _reversed(name: str) -> str:
    return name[1:] if name.startswith("-") else f"-{name}"


def _row(*parts: Any) -> Func:
    return Func(*parts, function="ROW", output_field=BooleanField())


def _invalid_cursor() -> Problem:
    detail = "Must be a cursor from a response of this call: use its next and previous unchanged."
    return invalid_field("/cursor", "invalid", detail)
