"""Look up a UCI value, a user name, a conversation or a request in several chatbots at once.

A few statements find the chatbots that have a match, however many chatbots there are. Then each of these is read.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Q, TextChoices

from chatbots import changelog
from chatbots.models import Chatbot, Variable
from common.crypto import digest
from common.db import fetch, reading_in_index_order
from compliance.errors import Refused
from compliance.models import ComplianceRequest, RequestSubject
from compliance.requests import similar
from compliance.requests.decisions import is_retryable
from compliance.requests.inputs import ChatbotConfig
from compliance.requests.queries import find_by_selector
from compliance.requests.selectors import LONGEST_ID, ByConversations, ByUci
from compliance.requests.similar import Similar
from conversations import search
from conversations.search import MIN_NAME_LENGTH, NO_RESULT, SearchResult

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

_UNDER_WAY = {Status.ACCEPTED, Status.ON_HOLD, Status.PROCESSING}
_WITHDRAWN = {Status.CANCELLED, Status.REJECTED}
_LONGEST_NUMBER = 18

# Results of one look-up, chatters of one result, and UCI values of one conversation, which can have thousands.
MOST_SHOWN = 20
MOST_CHATTERS = 20
_MOST_VALUES = 10

# Returns the places of the UCI values, or of the platform's ids of conversations, that a table contains.
_VALUES = """
SELECT asked.place
  FROM unnest(%(chatbots)s::bigint[], %(variables)s::bigint[], %(digests)s::bytea[]) WITH ORDINALITY
       AS asked(chatbot_id, variable_id, digest, place)
 WHERE EXISTS (
       SELECT FROM {table} AS held
        WHERE held.chatbot_id = asked.chatbot_id AND held.chatbot_id = ANY(%(chatbots)s)
          AND held.variable_id = asked.variable_id AND held.variable_id > 0 AND {condition} OFFSET 0)
"""
_VALUES_HELD = _VALUES.format(
    table="conversations_identity", condition="held.digest = asked.digest AND held.value IS NOT NULL"
)
_VALUES_REQUESTED = _VALUES.format(table="compliance_compliancerequest", condition="held.uci_digest = asked.digest")
_IDS_HELD = """
SELECT asked.place
  FROM unnest(%(chatbots)s::bigint[], %(digests)s::bytea[]) WITH ORDINALITY AS asked(chatbot_id, digest, place)
 WHERE EXISTS (
       SELECT FROM conversations_conversation
        WHERE chatbot_id = asked.chatbot_id AND chatbot_id = ANY(%(chatbots)s)
          AND external_id_digest = asked.digest OFFSET 0)
    OR EXISTS (
       SELECT FROM conversations_conversation
        WHERE chatbot_id = asked.chatbot_id AND chatbot_id = ANY(%(chatbots)s) AND id = %(number)s OFFSET 0)
"""

# Without the condition `variable_id > 0` only the index of a conversation's identities has this order.
_VALUES_OF = """
SELECT asked.number, identity.name, identity.value
  FROM unnest(%(numbers)s::bigint[]) AS asked(number)
 CROSS JOIN LATERAL (
       SELECT FROM conversations_conversation
        WHERE chatbot_id = %(chatbot)s AND id = asked.number AND deletion_request_id IS NULL OFFSET 0) AS is_open
  LEFT JOIN LATERAL (
       SELECT (SELECT name FROM chatbots_variable WHERE id = i.variable_id) AS name, i.value
         FROM conversations_identity i
        WHERE i.chatbot_id = %(chatbot)s AND i.conversation_id = asked.number AND i.value IS NOT NULL
        ORDER BY i.variable_id, i.digest LIMIT %(most)s) AS identity ON TRUE
"""


class LookupKind(TextChoices):
    VALUE = "value", "UCI value"
    NAME = "name", "User name"
    CONVERSATION = "conversation", "Conversation ID or number"
    REQUEST = "request", "Request ID"


class UciValue(NamedTuple):
    key: str
    value: str


@dataclass(frozen=True)
class LookupResult:
    """The matches in one chatbot: conversations as the log shows them, and requests, the newest first.

    `key` is the UCI of a value. `values` are those of each open conversation that was found, by its number, 10 at
    most. `chatters` have the number of these conversations, the highest first, MOST_CHATTERS at most.
    `deleted_by` is the newest deletion that has ended, `to_be_deleted_by` the newest that can still be carried out,
    `withdrawn` the newest that was cancelled or rejected.
    """

    chatbot: Chatbot
    key: str = ""
    found: SearchResult = NO_RESULT
    requests: list[ComplianceRequest] = field(default_factory=list)
    left_out: int = 0
    similar: list[Similar] = field(default_factory=list)
    values: dict[int, list[UciValue]] = field(default_factory=dict)
    chatters: list[tuple[UciValue, int]] = field(default_factory=list)
    chatters_left_out: int = 0

    @property
    def without_chatter(self) -> list[int]:
        return [number for number, values in self.values.items() if not values]

    @property
    def deleted_by(self) -> ComplianceRequest | None:
        return self._newest(lambda one: one.status == Status.COMPLETED)

    @property
    def to_be_deleted_by(self) -> ComplianceRequest | None:
        # A failed deletion whose chatter another deletion has erased since has no subject any more.
        return self._newest(lambda one: one.status in _UNDER_WAY or is_retryable(one))

    @property
    def withdrawn(self) -> ComplianceRequest | None:
        return self._newest(lambda one: one.status in _WITHDRAWN)

    @property
    def is_export(self) -> bool:
        """Return whether there is a single request, and it is an export."""
        return [one.kind for one in self.requests] == [Kind.EXPORT]

    @property
    def has_open_ones(self) -> bool:
        return any(not row.is_closed for row in self.found.rows)

    @property
    def is_empty(self) -> bool:
        return not (self.found.rows or self.found.has_more or self.requests or self.similar)

    def _newest(self, matches: Callable[[ComplianceRequest], bool]) -> ComplianceRequest | None:
        return next((one for one in self.requests if one.kind != Kind.EXPORT and matches(one)), None)


class Lookup(NamedTuple):
    """The results of a look-up. With `has_more`, further chatbots were not read."""

    results: list[LookupResult]
    has_more: bool


def look_up(*, chatbots: Sequence[Chatbot], kind: LookupKind, text: str, actor: str, key: str = "") -> Lookup:
    """Return the matches of a text in chatbots, and write an entry without the text to the change log of each.

    `key` is the UCI of a value; empty stands for every UCI. The result of a single chatbot is returned even if it is
    empty. Raises Refused (`invalid`, `uci_not_designated`, `unknown_uci_key`), without the text.
    """
    with reading_in_index_order():
        found = _find_chatbots(chatbots, kind, text, key)
    read = (_look_up(chatbot, kind, text, uci) for chatbot, uci in found)
    wanted = (one for one in read if len(chatbots) == 1 or not one.is_empty)
    results = list(islice(wanted, MOST_SHOWN + 1))
    shown = Counter[int]()
    for one in results[:MOST_SHOWN]:
        shown[one.chatbot.pk] += len(one.found.rows)
    changelog.record_all(
        changelog.entry(
            "conversations.looked_up",
            chatbot_id=one.pk,
            actor=actor,
            data={"by": str(kind), "shown": shown[one.pk]},
        )
        for one in chatbots
    )
    return Lookup(results[:MOST_SHOWN], has_more=len(results) > MOST_SHOWN)


def _find_chatbots(chatbots: Sequence[Chatbot], kind: LookupKind, text: str, key: str) -> list[tuple[Chatbot, str]]:
    """Return the chatbots to read, each with the UCI of a value. A single chatbot is returned without a match too."""
    if kind == LookupKind.VALUE:
        found = list(_with_value(chatbots, text, key))
    else:
        matching = _MATCHING[kind](chatbots, text)
        found = [(chatbot, "") for chatbot in chatbots if chatbot.pk in matching]
    if not found and len(chatbots) == 1:
        found = [(chatbots[0], key or next(iter(ChatbotConfig(chatbots[0]).ucis), ""))]
    return found


def _with_value(chatbots: Sequence[Chatbot], value: str, key: str) -> Iterator[tuple[Chatbot, str]]:
    """Yield the chatbots that have a value, or similar ones, with each UCI that has the value.

    For a chatbot with only similar values, the UCI is the present one.
    """
    ByUci(key, value).check()
    ucis = Variable.objects.filter(Q(is_uci=True) | Q(was_uci=True), chatbot__in=chatbots).order_by("-is_uci", "name")
    asked = list(ucis.filter(name=key) if key else ucis)
    chatbot_ids = [uci.chatbot_id for uci in asked]
    given = {
        "chatbots": chatbot_ids,
        "variables": [uci.pk for uci in asked],
        "digests": [digest("chatter", uci.public_id, value) for uci in asked],
    }
    exact = {asked[place - 1] for (place,) in fetch(_VALUES_HELD, given) + fetch(_VALUES_REQUESTED, given)}
    alike = similar.chatbots_with(value, chatbot_ids=chatbot_ids)
    for chatbot in chatbots:
        names = [uci.name for uci in asked if uci.chatbot_id == chatbot.pk]
        held = [uci.name for uci in asked if uci.chatbot_id == chatbot.pk and uci in exact]
        for name in held or (names[:1] if chatbot.pk in alike else []):
            yield chatbot, name


def _with_name(chatbots: Sequence[Chatbot], name: str) -> set[int]:
    if not search.is_long_enough(name):
        raise Refused("invalid", f"Type {MIN_NAME_LENGTH} characters of the name or more: fewer would find too many.")
    return search.chatbots_with_words(name, chatbot_ids=[one.pk for one in chatbots])


def _with_conversation(chatbots: Sequence[Chatbot], text: str) -> set[int]:
    if not 1 <= len(text) <= LONGEST_ID:
        raise Refused("invalid", f"An id has 1 to {LONGEST_ID} characters.")
    given: dict[str, Any] = {
        "chatbots": [one.pk for one in chatbots],
        "digests": [digest("conversation", one.public_id, text) for one in chatbots],
        "number": _number(text),
    }
    holding = {chatbots[place - 1].pk for (place,) in fetch(_IDS_HELD, given)}
    # A digest belongs to one chatbot.
    named = RequestSubject.objects.filter(chatbot__in=chatbots, digest__in=given["digests"])
    return holding | set(named.values_list("chatbot_id", flat=True))


def _number(text: str) -> int | None:
    """Return the text as the number of a conversation, or None if it cannot be one."""
    number = text.strip()
    is_number = number.isascii() and number.isdigit() and len(number) <= _LONGEST_NUMBER
    return int(number) if is_number else None


def _with_request(chatbots: Sequence[Chatbot], text: str) -> set[int]:
    found = ComplianceRequest.objects.filter(pk=_request_id(text), chatbot__in=chatbots)
    return set(found.values_list("chatbot_id", flat=True))


def _request_id(text: str) -> UUID:
    try:
        return UUID(text.strip())
    except ValueError:
        raise Refused(
            "invalid",
            "Enter the whole ID, as the page of the request shows it, such as 01a20e4f-2ccd-727b-ad28-e544e31ea60e.",
        ) from None


def _look_up(chatbot: Chatbot, kind: LookupKind, text: str, key: str) -> LookupResult:
    if kind == LookupKind.VALUE:
        return _with_chatters(_by_value(chatbot, ByUci(key, text)), asked=UciValue(key, text))
    return _with_chatters(_READERS[kind](chatbot, text))


def _by_value(chatbot: Chatbot, chatter: ByUci) -> LookupResult:
    requests = find_by_selector(chatbot, chatter)
    variable = ChatbotConfig(chatbot).find_uci(chatter.key)
    [alike] = similar.find(chatbot_id=chatbot.pk, variable_id=variable.pk, values=[chatter.value])
    found = search.by_value(chatbot=chatbot, variable=variable, value=chatter.value)
    result = LookupResult(chatbot, chatter.key, found, requests.requests, requests.left_out, alike)
    if result.deleted_by is None:
        return result
    # Erased conversations have no identity any more, but they have the id of the request that erased them.
    erased = search.by_request(chatbot=chatbot, request_id=result.deleted_by.pk)
    return replace(result, found=search.combine(found, erased))


def _by_name(chatbot: Chatbot, text: str) -> LookupResult:
    return LookupResult(chatbot, found=search.by_name(chatbot=chatbot, name=text))


def _by_conversation(chatbot: Chatbot, text: str) -> LookupResult:
    requests_about = find_by_selector(chatbot, ByConversations((text,)))
    rows = search.by_id(chatbot=chatbot, external_id=text).rows
    if (number := _number(text)) is not None:
        by_number = search.by_number(chatbot=chatbot, number=number).rows
        rows += tuple(row for row in by_number if row not in rows)
    known = {one.pk for one in requests_about.requests}
    closing = {row.request_id for row in rows if row.request_id} - known
    others = ComplianceRequest.objects.filter(chatbot=chatbot, pk__in=closing).select_related("export")
    requests = sorted([*requests_about.requests, *others], key=lambda one: one.seq, reverse=True)
    found = SearchResult(rows, has_more=False)
    return LookupResult(chatbot, found=found, requests=requests, left_out=requests_about.left_out)


def _by_request(chatbot: Chatbot, text: str) -> LookupResult:
    request_id = _request_id(text)
    requests = list(ComplianceRequest.objects.filter(chatbot=chatbot, pk=request_id).select_related("export"))
    found = search.by_request(chatbot=chatbot, request_id=request_id) if requests else NO_RESULT
    return LookupResult(chatbot, found=found, requests=requests)


# The chatbots with a match, by their numbers, and the matches in one of them. A value has ways of its own.
_MATCHING = {
    LookupKind.NAME: _with_name,
    LookupKind.CONVERSATION: _with_conversation,
    LookupKind.REQUEST: _with_request,
}
_READERS = {
    LookupKind.NAME: _by_name,
    LookupKind.CONVERSATION: _by_conversation,
    LookupKind.REQUEST: _by_request,
}


def _with_chatters(result: LookupResult, asked: UciValue | None = None) -> LookupResult:
    """Add the UCI values of the open conversations, and their chatters: the one that was `asked` for, or all."""
    numbers = [row.number for row in result.found.rows if not row.is_closed]
    given = {"chatbot": result.chatbot.pk, "numbers": numbers, "most": _MOST_VALUES}
    # A conversation that was marked since it was found is left out.
    values: dict[int, list[UciValue]] = {}
    for number, key, value in fetch(_VALUES_OF, given):
        values.setdefault(number, []).extend([] if value is None else [UciValue(key, value)])
    counted = Counter(one for of_one in values.values() for one in of_one)
    if asked:
        # It may not be among the first values of a conversation.
        counted = Counter({asked: len(values)} if values else {})
    chatters = sorted(counted.items(), key=lambda one: (-one[1], one[0]))
    left_out = max(0, len(chatters) - MOST_CHATTERS)
    return replace(result, values=values, chatters=chatters[:MOST_CHATTERS], chatters_left_out=left_out)
