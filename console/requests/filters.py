"""Which requests a list shows: the newest of any number of chatbots, by filter, without counting anything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from heapq import nlargest
from typing import Any
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db import transaction
from django.db.models import BooleanField, F, Func, Model, OuterRef, Q, QuerySet

from chatbots.models import Chatbot
from common.db import execute
from compliance.deadlines import IS_DUE_SOON, IS_OVERDUE, OPEN
from compliance.models import ComplianceRequest
from compliance.requests import queries
from compliance.requests.operations import NAMES_SOMEBODY

Status = ComplianceRequest.Status

_WAITS_FOR_SOMEBODY = {Status.ON_HOLD: Q(), Status.FAILED: NAMES_SOMEBODY}

# View -> the states it shows, and which requests of each. Each state is a range of an index.
VIEWS: dict[str, dict[Status, Q]] = {
    "needs-you": {status: _WAITS_FOR_SOMEBODY.get(status, IS_OVERDUE) for status in OPEN},
    "under-way": {Status.ACCEPTED: Q(), Status.PROCESSING: Q()},
    "all": {},
}
DUE = {"overdue": IS_OVERDUE, "soon": IS_DUE_SOON}


@dataclass(frozen=True)
class RequestFilters:
    """What a list is asked for. Nothing given is no limit."""

    view: str = "all"
    kind: str | None = None
    status: str | None = None
    hold_reason: str | None = None
    due: str | None = None
    origin: str | None = None
    reference: str | None = None
    received_after: datetime | None = None
    received_before: datetime | None = None


def newest(chatbots: Sequence[int], filters: RequestFilters) -> "MergedQuery":
    """Return the requests of these chatbots that fit the filters, to be paged by `-id`: the newest first."""
    return MergedQuery(chatbots, tuple(_branches(filters)))


_Branch = Callable[[QuerySet[ComplianceRequest]], QuerySet[ComplianceRequest]]


def _branches(filters: RequestFilters) -> list[_Branch]:
    """Return one narrowing for each state that is looked for; one for all where any will do."""
    states: dict[Status, Q] = VIEWS[filters.view] or (dict.fromkeys(OPEN, Q()) if filters.due else {})
    chosen = {Status(one) for one in (filters.status, filters.hold_reason and Status.ON_HOLD) if one}
    if len(chosen) > 1 or (states and not chosen <= states.keys()):
        return []
    for status in chosen:
        states = {status: states.get(status, Q())}
    return [_narrowing(filters, status, also) for status, also in states.items()] or [_narrowing(filters, None, Q())]


def _narrowing(filters: RequestFilters, status: Status | None, also: Q) -> _Branch:
    also &= DUE[filters.due] if filters.due else Q()
    also &= Q(hold_reason=filters.hold_reason) if filters.hold_reason else Q()
    if filters.origin:
        also &= Q(origin=filters.origin)

    def narrow(requests: QuerySet[ComplianceRequest]) -> QuerySet[ComplianceRequest]:
        return queries.fitting(
            requests.filter(also),
            status=status,
            kind=filters.kind,
            reference=filters.reference,
            received_after=filters.received_after,
            received_before=filters.received_before,
        )

    return narrow


# PostgreSQL takes kinds, states and chatbots for independent of each other. Of a chatbot without a single export it
# expects as many as others have, and would read all requests of all chatbots to find the newest ones; or it expects
# none, and sorts all there are. So it may neither sort nor go by the key alone: as an equation the chatbot would be
# the same for all rows, and nothing to sort by.
_ALONG_AN_INDEX = """
SELECT set_config('enable_sort', 'off', TRUE), set_config('enable_incremental_sort', 'off', TRUE),
       set_config('enable_bitmapscan', 'off', TRUE), set_config('enable_seqscan', 'off', TRUE)
"""


def _is(column: F, value: OuterRef) -> Func:
    return Func(column, value, template="%(expressions)s])", arg_joiner=" = ANY(ARRAY[", output_field=BooleanField())


@dataclass(frozen=True)
class MergedQuery:
    """The newest of many chatbots, as far as a page needs a queryset: `filter`, `order_by`, a slice.

    An index begins with the chatbot, so of each chatbot and each branch the first ids are read, as many as the page
    takes, and then the rows of the first of all. The number of queries is the same for any number of chatbots.
    """

    chatbots: Sequence[int]
    branches: tuple[_Branch, ...]
    conditions: tuple[Any, ...] = ()
    order: tuple[str, ...] = ("-id",)
    model: type[Model] = field(default=ComplianceRequest, init=False)

    def filter(self, *conditions: Any) -> "MergedQuery":
        return replace(self, conditions=(*self.conditions, *conditions))

    def order_by(self, *order: str) -> "MergedQuery":
        return replace(self, order=order)

    def __getitem__(self, wanted: slice) -> list[ComplianceRequest]:
        if not self.branches:
            return []
        first = self._first(int(wanted.stop), self._ids(int(wanted.stop)))
        requests = ComplianceRequest.objects.defer("uci_value", "uci_digest", "conversation_digests")
        return list(requests.filter(pk__in=first).order_by(*self.order))

    def _ids(self, most: int) -> list[UUID]:
        """Return the first ids of each chatbot and branch, each read along one of the chatbot's indexes."""
        of_chatbot = ComplianceRequest.objects.filter(_is(F("chatbot_id"), OuterRef("pk")), chatbot__gt=0)
        of_chatbot = of_chatbot.filter(*self.conditions)
        is_downwards = self.order[0].startswith("-")
        # As the indexes have it, from one end or the other.
        order = ("chatbot_id", "-id") if is_downwards else ("-chatbot_id", "id")
        found = {
            f"branch_{number}": ArraySubquery(narrow(of_chatbot).order_by(*order).values("pk")[:most])
            for number, narrow in enumerate(self.branches)
        }
        with transaction.atomic():
            execute(_ALONG_AN_INDEX)
            rows = list(Chatbot.objects.filter(pk__in=self.chatbots).annotate(**found).values_list(*found))
        return [one for row in rows for branch in row for one in branch]

    def _first(self, most: int, ids: list[UUID]) -> list[UUID]:
        if self.order[0].startswith("-"):
            return nlargest(most, ids)
        return sorted(ids)[:most]
