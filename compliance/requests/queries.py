"""Find requests: a chatbot's newest, and those about one chatter or conversation."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Q, QuerySet

from chatbots.models import Chatbot
from common.crypto import digest
from common.times import EARLIEST
from compliance.deadlines import IS_DUE_SOON, IS_OVERDUE, OPEN
from compliance.models import ComplianceRequest, RequestSubject
from compliance.requests.decisions import HAS_SUBJECT
from compliance.requests.inputs import ChatbotConfig
from compliance.requests.selectors import ByConversations, Selector

# For one chatter: the newest requests are returned, and this many are read to count the others.
MAX_CHATTER_REQUESTS = 200
_MAX_COUNTED = 10_000

# The largest difference between the clock that made a request's id and the database's clock.
CLOCKS_APART = timedelta(hours=1)


def newest(chatbot: Chatbot, **filters: Any) -> QuerySet[ComplianceRequest]:
    """Return a chatbot's requests for these filters of `matching`, to be ordered by `-id`: the newest first."""
    return ComplianceRequest.objects.filter(matching(**filters), chatbot=chatbot).select_related("export")


def matching(
    *,
    status: str | None = None,
    kind: str | None = None,
    reference: str | None = None,
    received_after: datetime | None = None,
    received_before: datetime | None = None,
) -> Q:
    """Return the condition for requests of one chatbot. `received_after` is included, `received_before` is not."""
    condition = Q()
    if status is not None:
        condition &= Q(status=status)
    if kind is not None:
        condition &= Q(kind=kind)
    if reference is not None:
        # The second condition is that of the index.
        condition &= Q(reference=reference) & ~Q(reference="")
    # An id begins with the time at which it was created, so a time span is also a range of the index.
    if received_after is not None:
        condition &= Q(received_at__gte=received_after, id__gte=first_id(received_after - CLOCKS_APART))
    if received_before is not None:
        condition &= Q(received_at__lt=received_before, id__lt=first_id(received_before + CLOCKS_APART))
    return condition


def overdue(chatbot: Chatbot | None, *, with_soon: bool) -> QuerySet[ComplianceRequest]:
    """Return the open requests that are overdue, of a chatbot or of all; `with_soon` also those that are due soon."""
    is_late = IS_OVERDUE | IS_DUE_SOON if with_soon else IS_OVERDUE
    # A failed one that cannot be retried stays, and no one can do anything about it.
    can_continue = ~Q(status=ComplianceRequest.Status.FAILED) | HAS_SUBJECT
    found = ComplianceRequest.objects.filter(is_late, can_continue, status__in=OPEN).defer(*ComplianceRequest.UNREAD)
    if chatbot is not None:
        found = found.filter(chatbot=chatbot)
    return found.select_related("chatbot").order_by("due_at", "pk")


class ChatterRequests(NamedTuple):
    """The newest requests about a chatter, the newest first, and the number of older ones that are left out.

    Counting stops at 10,000 requests.
    """

    requests: list[ComplianceRequest]
    left_out: int


def find_by_selector(chatbot: Chatbot, selector: Selector) -> ChatterRequests:
    """Return the requests about a chatter, or about one of these conversations, as long as digests are kept.

    Raises Refused (`invalid`, `uci_not_designated`, `unknown_uci_key`).
    """
    selector.check()
    if isinstance(selector, ByConversations):
        # The digests include the chatbot's public id.
        digests = [digest("conversation", chatbot.public_id, one) for one in selector.ids]
        naming = RequestSubject.objects.filter(digest__in=digests)
        found = ComplianceRequest.objects.filter(pk__in=naming.values("request"))
    else:
        uci = ChatbotConfig(chatbot).find_uci(selector.key)
        found = ComplianceRequest.objects.filter(
            chatbot=chatbot, variable=uci, uci_digest=digest("chatter", uci.public_id, selector.value)
        )
    ids = list(found.order_by("-seq").values_list("pk", flat=True)[:_MAX_COUNTED])
    shown = ids[:MAX_CHATTER_REQUESTS]
    requests = ComplianceRequest.objects.filter(pk__in=shown).select_related("export").order_by("-seq")
    return ChatterRequests(list(requests), len(ids) - len(shown))


def first_id(at: datetime) -> UUID:
    """Return the lowest UUIDv7 of a millisecond."""
    milliseconds = max(0, (at - EARLIEST) // timedelta(milliseconds=1))
    return UUID(int=milliseconds << 80)
