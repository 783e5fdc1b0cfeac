"""The newest rows of several chatbots, for `page_of`: without reading more of each than a page takes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest, nsmallest
from typing import Any, Generic, TypeVar, cast

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import BooleanField, F, Func, Model, OuterRef, Q, QuerySet
from django.http import HttpRequest

from chatbots.models import Chatbot
from console.common.paging import Page, page_of

_Row = TypeVar("_Row", bound=Model)


class _IsOfChatbot(Func):
    """`chatbot_id = ANY(ARRAY[c.id])`, which is `chatbot_id = c.id` for people, but not for PostgreSQL.

    With the latter it would take the chatbot out of the order, and then see that another index has the rest of it:
    that of the primary key, of everybody's rows.
    """

    template = "%(expressions)s])"
    arg_joiner = " = ANY(ARRAY["
    output_field = BooleanField()


@dataclass(frozen=True)
class Newest(Generic[_Row]):
    """As far as a page needs a queryset: `filter`, `order_by`, a slice.

    The indexes begin with the chatbot: asked for all of them at once PostgreSQL would sort what they have together.
    Here of each chatbot and each branch the first keys are read, as many as a page takes, and then the rows of the
    first of all: two statements, whatever the number of chatbots. Each branch is a range of an index; a row fits one
    of them at most.
    """

    rows: QuerySet[_Row]  # all of those that the branches name
    chatbots: Sequence[int]
    branches: Sequence[Q] = (Q(),)
    conditions: tuple[Any, ...] = ()
    order: tuple[str, ...] = ("-id",)
    # How the index has the chatbot where the rest is downwards: there is one chatbot, but two ways to read an index.
    chatbot_order: str = "chatbot_id"

    def page(self, request: HttpRequest, *, ordering: tuple[str, ...] = ("-id",), size: int = 50) -> Page[_Row]:
        """Return the page that the address asks for, the newest first."""
        return page_of(request, cast("QuerySet[_Row]", self), ordering=ordering, size=size)

    @property
    def model(self) -> type[_Row]:
        return self.rows.model

    def filter(self, *conditions: Any) -> "Newest[_Row]":
        return replace(self, conditions=(*self.conditions, *conditions))

    def order_by(self, *order: str) -> "Newest[_Row]":
        return replace(self, order=order)

    def __getitem__(self, wanted: slice) -> list[_Row]:
        most = int(wanted.stop)
        is_ours = _IsOfChatbot(F("chatbot"), OuterRef("pk"))
        of_chatbot = self.model._default_manager.filter(is_ours, *self.conditions, chatbot__gt=0)
        order = (self._order_of_chatbots(), *self.order)
        found = {
            f"branch_{number}": ArraySubquery(of_chatbot.filter(branch).order_by(*order).values("pk")[:most])
            for number, branch in enumerate(self.branches)
        }
        if not found:
            return []
        parts = Chatbot.objects.filter(pk__in=self.chatbots).annotate(**found).values_list(*found)
        keys = self._first(most, (one for row in parts for part in row for one in part))
        return list(self.rows.filter(pk__in=keys).order_by(*self.order)[:most])

    def _order_of_chatbots(self) -> str:
        name = self.chatbot_order.removeprefix("-")
        is_downwards = self.chatbot_order.startswith("-") == self.order[0].startswith("-")
        return f"-{name}" if is_downwards else name

    def _first(self, most: int, keys: Iterable[Any]) -> list[Any]:
        """Return the first of the keys, where they are the order; else all."""
        if self.order == ("-id",):
            return nlargest(most, keys)
        return nsmallest(most, keys) if self.order == ("id",) else list(keys)
