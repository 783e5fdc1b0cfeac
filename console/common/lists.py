"""Lists of the console: a page of rows by cursor, without counting, also of many chatbots; and fields of filters."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest, nsmallest
from itertools import chain
from typing import Any, Generic, TypeVar, cast

from django import forms
from django.contrib.postgres.expressions import ArraySubquery
from django.db import transaction
from django.db.models import BooleanField, F, Func, Model, OuterRef, Q, QuerySet
from django.http import Http404, HttpRequest
from django.utils.http import urlencode
from rest_framework.request import Request

from chatbots.models import Chatbot
from common.db import execute
from common.pagination import CursorPages, PageQuery
from common.problems import Problem
from console.common.scope import PAGE_SIZE
from conversations.placement import by_place

_Item = TypeVar("_Item")
_Row = TypeVar("_Row", bound=Model)

MAX_CURSOR_LENGTH = 2_000


@dataclass(frozen=True)
class ListPage(Generic[_Item]):
    """Some rows of a list, and the addresses of the pages beside it, None where there is none."""

    rows: list[_Item]
    next_url: str | None = None
    previous_url: str | None = None


def paginate(
    request: HttpRequest,
    queryset: QuerySet[Any, _Item],
    *,
    ordering: tuple[str, ...] = ("-id",),
    size: int = PAGE_SIZE,
    kind: type[CursorPages] = CursorPages,
) -> ListPage[_Item]:
    """Return the page of the parameter `cursor` of the URL. Raises Http404 for a cursor of another list.

    `ordering` is all ascending or all descending, and its last column is unique. An index makes each page cheap.
    `kind` is for pages with a limit of their own.
    """
    pages = kind(page_query(request, size=size))
    pages.ordering = ordering
    try:
        rows = pages.paginate_queryset(queryset, cast("Request", request))
    except Problem:
        raise Http404 from None
    return ListPage(rows, pages.get_next_link(), pages.get_previous_link())


def page_query(request: HttpRequest, *, size: int = PAGE_SIZE) -> PageQuery:
    """Return the cursor of a request's URL. Raises Http404 if it is too long to be one."""
    cursor = request.GET.get("cursor")
    if cursor is not None and len(cursor) > MAX_CURSOR_LENGTH:
        raise Http404
    # Parameters are read as in a URL: as texts.
    return PageQuery.model_validate({"limit": str(size)} | ({} if cursor is None else {"cursor": cursor}))


class _IsOfChatbot(Func):
    """`chatbot_id = ANY(ARRAY[c.id])`: equals `chatbot_id = c.id`, but PostgreSQL plans it differently.

    It drops a column with a plain equation from the order, and may then choose the index of the primary key, which
    has the rest of the order but reads the rows of all chatbots.
    """

    template = "%(expressions)s])"
    arg_joiner = " = ANY(ARRAY["
    output_field = BooleanField()


# PostgreSQL assumes that kinds, states and chatbots are independent. For a chatbot without a single export it expects
# as many as others have and reads the requests of all chatbots to find the newest ones; or it expects none and sorts
# them all.
_IN_INDEX_ORDER = """
SELECT set_config('enable_sort', 'off', TRUE), set_config('enable_incremental_sort', 'off', TRUE),
       set_config('enable_bitmapscan', 'off', TRUE), set_config('enable_seqscan', 'off', TRUE)
"""


@dataclass(frozen=True)
class MergedQuery(Generic[_Row]):
    """The newest rows of several chatbots, with as much of a queryset's interface as `paginate` uses.

    The indexes begin with the chatbot, so PostgreSQL would sort all rows of all chatbots to find the newest. This
    reads the first keys of each chatbot and branch, as many as the page takes, and then the rows of the first keys.
    Each branch is a range of an index, and a row matches one at most.
    """

    rows: QuerySet[_Row]  # a superset of what the branches match
    chatbots: Sequence[int]
    branches: Sequence[Q] = (Q(),)
    conditions: tuple[Any, ...] = ()
    order: tuple[str, ...] = ("-id",)
    # The direction of the chatbot in the index where its other columns descend.
    chatbot_order: str = "chatbot_id"
    # Whether the first column of the order differs between the rows of a chatbot. The index ends with it then.
    first_is_unique: bool = False
    # Whether the rows belong to a conversation table, whose chatbots may be stored in several places.
    of_conversations: bool = False

    def page(self, request: HttpRequest, *, ordering: tuple[str, ...] = ("-id",)) -> ListPage[_Row]:
        return paginate(request, cast("QuerySet[_Row]", self), ordering=ordering)

    @property
    def model(self) -> type[_Row]:
        return self.rows.model

    def filter(self, *conditions: Any) -> "MergedQuery[_Row]":
        return replace(self, conditions=(*self.conditions, *conditions))

    def order_by(self, *order: str) -> "MergedQuery[_Row]":
        return replace(self, order=order)

    def __getitem__(self, wanted: slice) -> list[_Row]:
        if not self.branches:
            return []
        most = int(wanted.stop)
        with transaction.atomic():
            execute(_IN_INDEX_ORDER)
            keys = self._first(most, chain.from_iterable(self._keys(most)))
        return list(self.rows.filter(pk__in=keys).order_by(*self.order)[:most])

    def _keys(self, most: int) -> Iterator[Iterable[Any]]:
        is_ours = _IsOfChatbot(F("chatbot"), OuterRef("pk"))
        of_chatbot = self.model._default_manager.filter(is_ours, *self.conditions, chatbot__gt=0)
        order = (self._order_of_chatbots(), *(self.order[:1] if self.first_is_unique else self.order))
        places: Sequence[Sequence[int]] = [self.chatbots]
        if self.of_conversations:
            places = by_place({chatbot: chatbot for chatbot in self.chatbots})
        for together in places:
            ours = of_chatbot.filter(chatbot__in=together) if self.of_conversations else of_chatbot
            found = {
                f"branch_{number}": ArraySubquery(ours.filter(branch).order_by(*order).values("pk")[:most])
                for number, branch in enumerate(self.branches)
            }
            for row in Chatbot.objects.filter(pk__in=together).annotate(**found).values_list(*found):
                yield from row

    def _order_of_chatbots(self) -> str:
        name = self.chatbot_order.removeprefix("-")
        is_downwards = self.chatbot_order.startswith("-") == self.order[0].startswith("-")
        return f"-{name}" if is_downwards else name

    def _first(self, most: int, keys: Iterable[Any]) -> list[Any]:
        """Return the first of the keys if the rows are in the order of their keys, else all."""
        if self.order == ("-id",):
            return nlargest(most, keys)
        return nsmallest(most, keys) if self.order == ("id",) else list(keys)


def tabs(request: HttpRequest, labels: Mapping[str, str], slug: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the view of a list that the URL asks for, by default the first, and the links to all of them.

    `labels` are those of the views, and `slug` is that of the chosen chatbot. Raises Http404 for an unknown view.
    """
    view = request.GET.get("view", next(iter(labels)))
    if view not in labels:
        raise Http404
    chatbot = {"chatbot": slug} if slug else {}
    return view, [
        {"label": label, "url": f"?{urlencode({'view': name} | chatbot)}", "is_here": name == view}
        for name, label in labels.items()
    ]


class FilterForm(forms.Form):
    @property
    def is_used(self) -> bool:
        return any(self.data.get(name) for name in self.fields)


def choice_filter(choices: Iterable[tuple[str, Any]], *, label: str | None = None) -> forms.ChoiceField:
    return forms.ChoiceField(label=label, choices=[("", "Any"), *choices], required=False)


def day_filter(*, label: str | None = None, validators: Sequence[Any] = ()) -> forms.DateField:
    return forms.DateField(
        label=label,
        required=False,
        input_formats=["%Y-%m-%d"],
        validators=validators,
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
    )
