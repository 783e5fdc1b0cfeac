"""Lists of the console in pages: `common.pagination`, for templates."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from django.db.models import QuerySet
from django.http import Http404, HttpRequest
from rest_framework.request import Request

from common.pagination import CursorPages, PageQuery
from common.problems import Problem

_Row = TypeVar("_Row")

MOST_OF_CURSOR = 2_000


@dataclass(frozen=True)
class Page(Generic[_Row]):
    """Some rows of a list, and the addresses of the pages beside it, None where there is none."""

    rows: list[_Row]
    next_url: str | None
    previous_url: str | None


def page_of(
    request: HttpRequest,
    queryset: QuerySet[Any, _Row],
    *,
    ordering: tuple[str, ...],
    size: int = 50,
    kind: type[CursorPages] = CursorPages,
) -> Page[_Row]:
    """Return the page of a list that the address asks for, by the parameter `cursor`.

    `ordering` is total, its last column unique, all upwards or all downwards; an index of it makes each page cheap.
    Nothing is counted. `kind` is for pages with a limit of their own. Raises Http404 for a cursor that is not one of
    this list.
    """
    cursor = request.GET.get("cursor")
    if cursor is not None and len(cursor) > MOST_OF_CURSOR:
        raise Http404
    # Parameters are read as they stand in an address: as texts.
    given = {"limit": str(size)} | ({} if cursor is None else {"cursor": cursor})
    pages = kind(PageQuery.model_validate(given))
    pages.ordering = ordering
    try:
        rows = pages.paginate_queryset(queryset, cast("Request", request))
    except Problem:
        raise Http404 from None
    return Page(rows, pages.get_next_link(), pages.get_previous_link())
