"""Look up a chatter, a conversation or a request, and answer "was 42 deleted?"."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from uuid import UUID

from django.db import models

from chatbots.models import Chatbot
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import queries
from compliance.requests.decisions import is_retryable
from compliance.requests.inputs import find_uci
from compliance.requests.preview import similar
from compliance.requests.preview.similar import Similar
from compliance.requests.selectors import LONGEST_ID, ByConversations, ByUci
from conversations import search
from conversations.search import MIN_NAME_LENGTH, NO_RESULT, SearchResult

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

_UNDER_WAY = {Status.ACCEPTED, Status.ON_HOLD, Status.PROCESSING}
_WITHDRAWN = {Status.CANCELLED, Status.REJECTED}
_LONGEST_NUMBER = 18


class LookupKind(models.TextChoices):
    VALUE = "value", "UCI value"
    NAME = "name", "User name"
    CONVERSATION = "conversation", "Conversation id or number"
    REQUEST = "request", "Request id"


@dataclass(frozen=True)
class Answer:
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


def look_up(*, chatbot: Chatbot, what: LookupKind, text: str, key: str = "") -> Answer:
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


def _by_value(chatbot: Chatbot, who: ByUci) -> Answer:
    about = queries.about(chatbot, who)
    variable = find_uci(chatbot, who.key)
    [alike] = similar.find(chatbot_id=chatbot.pk, variable_id=variable.pk, values=[who.value])
    found = search.by_value(chatbot=chatbot, variable=variable, value=who.value)
    answer = Answer(found, about.requests, about.left_out, alike)
    if answer.deleted_by is None:
        return answer
    # Erased conversations have no identity any more, but they have the id of the request that erased them.
    erased = search.by_request(chatbot=chatbot, request_id=answer.deleted_by.pk)
    return replace(answer, found=search.combine(answer.found, erased))


def _by_name(chatbot: Chatbot, text: str) -> Answer:
    name = text.strip()
    if len(name) < MIN_NAME_LENGTH:
        raise Refused("invalid", f"Type {MIN_NAME_LENGTH} characters of the name or more: fewer would find too many.")
    return Answer(search.by_name(chatbot=chatbot, name=name))


def _by_conversation(chatbot: Chatbot, text: str) -> Answer:
    if not 1 <= len(text) <= LONGEST_ID:
        raise Refused("invalid", f"An id has 1 to {LONGEST_ID} characters.")
    about = queries.about(chatbot, ByConversations((text,)))
    rows = search.by_id(chatbot=chatbot, external_id=text).rows
    number = text.strip()
    if number.isascii() and number.isdigit() and len(number) <= _LONGEST_NUMBER:
        by_number = search.by_number(chatbot=chatbot, number=int(number)).rows
        rows += tuple(row for row in by_number if row not in rows)
    known = {one.pk for one in about.requests}
    closing = {row.request_id for row in rows if row.request_id} - known
    others = ComplianceRequest.objects.filter(chatbot=chatbot, pk__in=closing).select_related("export")
    requests = sorted([*about.requests, *others], key=lambda one: one.seq, reverse=True)
    return Answer(SearchResult(rows, has_more=False), requests, about.left_out)


def _by_request(chatbot: Chatbot, text: str) -> Answer:
    try:
        request_id = UUID(text.strip())
    except ValueError:
        raise Refused("invalid", "The id of a request looks like 01a20e4f-2ccd-727b-ad28-e544e31ea60e.") from None
    requests = list(ComplianceRequest.objects.filter(chatbot=chatbot, pk=request_id).select_related("export"))
    found = search.by_request(chatbot=chatbot, request_id=request_id) if requests else NO_RESULT
    return Answer(found, requests)
