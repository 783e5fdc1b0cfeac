"""Find requests: a chatbot's newest, those about one chatter or conversation, and what is stored of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Q, QuerySet, TextChoices

from chatbots.models import Chatbot
from common.crypto import digest
from common.times import EARLIEST
from compliance.errors import Refused
from compliance.models import ComplianceRequest, RequestSubject
from compliance.requests import similar
from compliance.requests.decisions import is_retryable
from compliance.requests.inputs import ChatbotConfig
from compliance.requests.selectors import LONGEST_ID, ByConversations, ByUci, Selector
from compliance.requests.similar import Similar
from conversations import search
from conversations.search import MIN_NAME_LENGTH, NO_RESULT, SearchResult

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

_UNDER_WAY = {Status.ACCEPTED, Status.ON_HOLD, Status.PROCESSING}
_WITHDRAWN = {Status.CANCELLED, Status.REJECTED}
_LONGEST_NUMBER = 18

# Of one chatter: the newest are returned, and this many are read to say how many more there are.
MOST_OF_CHATTER = 200
_MOST_COUNTED = 10_000

# How far the clock that made a request's id may be from the database's.
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


class OfChatter(NamedTuple):
    """The newest requests about a chatter, the newest first, and how many older ones are left out.

    Beyond 10,000 the count stops.
    """

    requests: list[ComplianceRequest]
    left_out: int


def about(chatbot: Chatbot, who: Selector) -> OfChatter:
    """Return the requests about a chatter, or that name one of these conversations, as long as digests are kept.

    Raises Refused (`invalid`, `uci_not_designated`, `unknown_uci_key`).
    """
    who.check()
    if isinstance(who, ByConversations):
        # Digests are those of this chatbot's ids.
        digests = [digest("conversation", chatbot.public_id, one) for one in who.ids]
        naming = RequestSubject.objects.filter(digest__in=digests)
        found = ComplianceRequest.objects.filter(pk__in=naming.values("request"))
    else:
        uci = ChatbotConfig(chatbot).find_uci(who.key)
        found = ComplianceRequest.objects.filter(
            chatbot=chatbot, variable=uci, uci_digest=digest("chatter", uci.public_id, who.value)
        )
    ids = list(found.order_by("-seq").values_list("pk", flat=True)[:_MOST_COUNTED])
    shown = ids[:MOST_OF_CHATTER]
    requests = ComplianceRequest.objects.filter(pk__in=shown).select_related("export").order_by("-seq")
    return OfChatter(list(requests), len(ids) - len(shown))


def first_id(at: datetime) -> UUID:
    """Return the lowest UUIDv7 of a millisecond."""
    milliseconds = max(0, (at - EARLIEST) // timedelta(milliseconds=1))
    return UUID(int=milliseconds << 80)


class LookupKind(TextChoices):
    VALUE = "value", "UCI value"
    NAME = "name", "User name"
    CONVERSATION = "conversation", "Conversation ID or number"
    REQUEST = "request", "Request ID"


@dataclass(frozen=True)
class LookupResult:
    """What was found: conversations as the log shows them, and requests, the newest first.

    `deleted_by` is the newest deletion that has ended, `to_be_deleted_by` the newest that can still be carried out,
    `withdrawn` the newest that was cancelled or rejected.
    """

    found: SearchResult = NO_RESULT
    requests: list[ComplianceRequest] = field(default_factory=list)
    left_out: int = 0
    similar: list[Similar] = field(default_factory=list)

    @property
    def deleted_by(self) -> ComplianceRequest | None:
        return self._newest(lambda one: one.status == Status.COMPLETED)

    @property
    def to_be_deleted_by(self) -> ComplianceRequest | None:
        # A failed one whose chatter another deletion has erased since has no subject any more.
        return self._newest(lambda one: one.status in _UNDER_WAY or is_retryable(one))

    @property
    def withdrawn(self) -> ComplianceRequest | None:
        return self._newest(lambda one: one.status in _WITHDRAWN)

    @property
    def has_open_ones(self) -> bool:
        return any(not row.is_closed for row in self.found.rows)

    def _newest(self, fits: Callable[[ComplianceRequest], bool]) -> ComplianceRequest | None:
        return next((one for one in self.requests if one.kind != Kind.EXPORT and fits(one)), None)


def look_up(*, chatbot: Chatbot, what: LookupKind, text: str, key: str = "") -> LookupResult:
    """Return what one chatbot holds about a text. `key` names the UCI of a value.

    Raises Refused (`invalid`, `uci_not_designated`, `unknown_uci_key`); no detail quotes the text.
    """
    match what:
        case LookupKind.VALUE:
            return _by_value(chatbot, ByUci(key, text))
        case LookupKind.NAME:
            return _by_name(chatbot, text)
        case LookupKind.CONVERSATION:
            return _by_conversation(chatbot, text)
    return _by_request(chatbot, text)


def _by_value(chatbot: Chatbot, who: ByUci) -> LookupResult:
    requests_about = about(chatbot, who)
    variable = ChatbotConfig(chatbot).find_uci(who.key)
    [alike] = similar.find(chatbot_id=chatbot.pk, variable_id=variable.pk, values=[who.value])
    found = search.by_value(chatbot=chatbot, variable=variable, value=who.value)
    answer = LookupResult(found, requests_about.requests, requests_about.left_out, alike)
    if answer.deleted_by is None:
        return answer
    # Erased conversations have no identity any more, but they have the id of the request that erased them.
    erased = search.by_request(chatbot=chatbot, request_id=answer.deleted_by.pk)
    return replace(answer, found=search.combine(answer.found, erased))


def _by_name(chatbot: Chatbot, text: str) -> LookupResult:
    if not search.is_long_enough(text):
        raise Refused("invalid", f"Type {MIN_NAME_LENGTH} characters of the name or more: fewer would find too many.")
    return LookupResult(search.by_name(chatbot=chatbot, name=text))


def _by_conversation(chatbot: Chatbot, text: str) -> LookupResult:
    if not 1 <= len(text) <= LONGEST_ID:
        raise Refused("invalid", f"An id has 1 to {LONGEST_ID} characters.")
    requests_about = about(chatbot, ByConversations((text,)))
    rows = search.by_id(chatbot=chatbot, external_id=text).rows
    number = text.strip()
    if number.isascii() and number.isdigit() and len(number) <= _LONGEST_NUMBER:
        by_number = search.by_number(chatbot=chatbot, number=int(number)).rows
        rows += tuple(row for row in by_number if row not in rows)
    known = {one.pk for one in requests_about.requests}
    closing = {row.request_id for row in rows if row.request_id} - known
    others = ComplianceRequest.objects.filter(chatbot=chatbot, pk__in=closing).select_related("export")
    requests = sorted([*requests_about.requests, *others], key=lambda one: one.seq, reverse=True)
    return LookupResult(SearchResult(rows, has_more=False), requests, requests_about.left_out)


def _by_request(chatbot: Chatbot, text: str) -> LookupResult:
    try:
        request_id = UUID(text.strip())
    except ValueError:
        raise Refused("invalid", "The id of a request looks like 01a20e4f-2ccd-727b-ad28-e544e31ea60e.") from None
    requests = list(ComplianceRequest.objects.filter(chatbot=chatbot, pk=request_id).select_related("export"))
    found = search.by_request(chatbot=chatbot, request_id=request_id) if requests else NO_RESULT
    return LookupResult(found, requests)
