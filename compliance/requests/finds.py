"""The conversations of unfiled or waiting requests, and the open requests about the same subjects.

A request is an unsaved one as filing would store it (`RequestInput.validate`), or a stored one. Its conversations are
those that its mark would find (`work/scope.py`). Messages are not counted one by one: each conversation stores how
many it has.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from heapq import nlargest
from typing import NamedTuple
from uuid import UUID

from chatbots.models import Chatbot
from common.db import fetch
from compliance.erasure.exports import blocking
from compliance.erasure.marking import holds_of
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests.similar import Similar
from compliance.work import legal_holds
from compliance.work.scope import NAMED_IN_SCOPE_WITH
from compliance.work.sql import GIVEN, OPEN, given_unfiled, naming
from conversations.assurance import ASSURANCE_OF, is_enough_sql
from conversations.models import Assurance

HoldReason = ComplianceRequest.HoldReason
Kind = ComplianceRequest.Kind
ByAssurance = Mapping[Assurance, int]

# Conversations that are read. More are read only if the chatbot's guard lets a deletion have more.
MOST_FOUND = 10_000
# The limit for many requests together, and that for the requests about each of their subjects.
MOST_IN_ALL = 100_000
MOST_REQUESTS_OF_EACH = 1_000
# The limit for the ids and conversations in an answer.
MOST_NAMED = 100

_IS_ENOUGH = is_enough_sql("s.established_by", "%(least)s::text", conversation="s.id", chatbots="%(chatbots)s")
_FOUND = f"""
SELECT r.id, found.*
  FROM {GIVEN}
 CROSS JOIN LATERAL (
       SELECT s.deleted_at IS NULL, s.id, coalesce(s.message_count, 0), least(s.started_at, s.last_message_at),
              greatest(s.started_at, s.last_message_at), people.number > 1, s.deletion_request_id IS NOT NULL,
              s.established_by, {_IS_ENOUGH}
         FROM ({NAMED_IN_SCOPE_WITH.format(columns="c.*, named.established_by")}) AS s
        CROSS JOIN LATERAL (
              SELECT count(value) AS number
                FROM conversations_identity
               WHERE conversation_id = s.id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS people
        LIMIT %(most)s) AS found
 LIMIT %(most_in_all)s
"""  # noqa: S608  (texts of ours)
_EXTENT = f"""
SELECT count(*), min(least(started_at, last_message_at)), max(greatest(started_at, last_message_at)),
       count(*) >= %(most)s
  FROM (SELECT s.*
          FROM {GIVEN}
         CROSS JOIN LATERAL ({NAMED_IN_SCOPE_WITH.format(columns="c.*")}) AS s
         WHERE s.deleted_at IS NULL
         LIMIT %(most)s) AS found
"""  # noqa: S608  (texts of ours)

# An export that waits for a person holds a deletion; the others will have run before it.
_WAITS = "'failed', 'on_hold'"
_REQUESTS = f"""
SELECT r.id, asked.id, asked.status <> 'failed',
       asked.kind = 'export' AND asked.status IN ({_WAITS}) AND asked.has_value AND asked.seq < r.seq
  FROM {GIVEN}
 CROSS JOIN LATERAL (
       SELECT id, kind, status, seq, uci_value IS NOT NULL AS has_value
         FROM compliance_compliancerequest
        WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest AND status IN {OPEN}
        UNION ALL
       SELECT id, kind, status, seq, TRUE
         FROM {naming("r.conversation_digests")} AS sharing
        WHERE status IN {OPEN}
        ORDER BY seq LIMIT %(most)s) AS asked
"""  # noqa: S608  (texts of ours)
_BLOCKED = blocking(head=f"WITH r AS MATERIALIZED (SELECT * FROM {GIVEN})", statuses=_WAITS)  # noqa: S608


class Found(NamedTuple):
    """A live conversation: its counters, its beginning and its end.

    `is_shared`: several chatters took part in it. `is_marked`: a deletion has marked it, so no export has it any
    more. `established_by`: the source of the identity by which it was found; None if it was found by its id.
    `is_enough`: an export could include it.
    """

    number: int
    message_count: int
    first: datetime
    last: datetime
    is_shared: bool
    is_marked: bool
    established_by: str | None
    is_enough: bool

    @property
    def assurance(self) -> Assurance | None:
        return ASSURANCE_OF[self.established_by] if self.established_by else None

    def is_surer_than(self, other: "Found") -> bool:
        return bool(self.assurance and other.assurance and self.assurance.rank > other.assurance.rank)


class Totals(NamedTuple):
    """A summary of conversations: their number, the newest of them, and the highest number of all.

    `claimed`: the conversations that were found by a value from the user channel.
    """

    conversations: int
    messages: int
    shared: int
    claimed: int
    newest: list[Found]
    highest: int

    @property
    def unlisted(self) -> int:
        return self.conversations - len(self.newest)


class Extent(NamedTuple):
    """The number of live conversations, or a lower bound (`at_least`), and their beginning and end if any."""

    conversations: int
    first: datetime | None
    last: datetime | None
    at_least: bool


@dataclass
class Finds:
    """The finds of a request: live conversations, and the numbers of erased ones, of which copies may exist.

    `under_hold`: the live conversations that a legal hold covers. `at_least`: there are more conversations than were
    read. `is_blocked`: an export, which would run first, waits for a decision. `refused`: the reason why the request
    could not be filed; it has no finds then.
    """

    request: ComplianceRequest
    live: list[Found] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)
    under_hold: set[int] = field(default_factory=set)
    at_least: bool = False
    open_requests: list[UUID] = field(default_factory=list)
    is_blocked: bool = False
    similar: list[Similar] = field(default_factory=list)
    refused: Refused | None = None

    @property
    def is_deletion(self) -> bool:
        return self.request.kind == Kind.DELETION

    @property
    def unmarked(self) -> list[Found]:
        return [one for one in self.live if not one.is_marked]

    @property
    def reliable(self) -> list[Found]:
        """The conversations that an export could contain, including shared ones."""
        return [one for one in self.unmarked if one.is_enough]

    @property
    def in_file(self) -> list[Found]:
        """The conversations that an export would contain. Shared ones are included by its option, or by their ids."""
        is_all = self.request.include_shared or self.request.named_conversations
        return [one for one in self.reliable if is_all or not one.is_shared]

    @property
    def unverified_left_out(self) -> int:
        """The number of conversations that an export would leave out as unverified, including shared ones."""
        return 0 if self.is_deletion else len(self.unmarked) - len(self.reliable)

    @cached_property
    def total(self) -> Totals:
        """The summary of the conversations that the request would erase, or write to a file."""
        return total(self.live if self.is_deletion else self.in_file)

    @property
    def held_by(self) -> list[HoldReason]:
        """The reasons that would hold the request. Only deletions are held."""
        if not self.is_deletion or self.refused:
            return []
        chatbot = self.request.chatbot
        is_too_large = len(self.live) > chatbot.max_conversations_per_deletion
        holds = holds_of(is_blocked=self.is_blocked, is_too_large=is_too_large, four_eyes=chatbot.four_eyes)
        return [*holds, HoldReason.LEGAL_HOLD] if self.under_hold else holds

    def by_assurance(self, conversations: Sequence[Found]) -> ByAssurance | None:
        """Return the numbers of a chatter's conversations by assurance; None if they were found by ids."""
        if self.request.named_conversations:
            return None
        found = Counter(one.assurance for one in conversations)
        return {level: found[level] for level in Assurance}


def find(chatbot: Chatbot, requests: Sequence[ComplianceRequest]) -> list[Finds]:
    """Return the finds of each of these requests of a chatbot, in their order.

    Raises Refused if several have more than MOST_IN_ALL conversations together.
    """
    most, is_one = _most(chatbot), len(requests) == 1
    values = {**given_unfiled(chatbot.pk, requests), "least": chatbot.export_assurance}
    bounds = {"most": most, "most_in_all": most if is_one else MOST_IN_ALL + 1}
    found = fetch(_FOUND, values | bounds)
    if not is_one and len(found) > MOST_IN_ALL:
        raise Refused("invalid", "These have too many conversations for one preview. Name fewer at once.")
    each = {request.pk: Finds(request) for request in requests}
    for request_id, is_live, *columns in found:
        conversation = Found(*columns)
        if is_live:
            each[request_id].live.append(conversation)
        else:
            each[request_id].erased.append(conversation.number)
    for request_id, asked_id, is_open, is_blocked in fetch(_REQUESTS, values | {"most": MOST_REQUESTS_OF_EACH}):
        each[request_id].is_blocked |= is_blocked
        if is_open:
            each[request_id].open_requests.append(asked_id)
    # Blocked by an export with the other selector.
    for request_id, _ in fetch(_BLOCKED, values):
        each[request_id].is_blocked = True
    under_hold = legal_holds.find_held([chatbot.pk], {one.number for finds in each.values() for one in finds.live})
    for finds in each.values():
        finds.under_hold = {one.number for one in finds.live} & under_hold
        finds.at_least = len(finds.live) + len(finds.erased) >= most
    return list(each.values())


def extent_of(request: ComplianceRequest) -> Extent:
    """Return the extent of a request's conversations. Far quicker than `find`."""
    chatbot = request.chatbot
    [found] = fetch(_EXTENT, {**given_unfiled(chatbot.pk, [request]), "most": _most(chatbot)})
    return Extent(*found)


def total(conversations: Sequence[Found]) -> Totals:
    return Totals(
        conversations=len(conversations),
        messages=sum(one.message_count for one in conversations),
        shared=sum(one.is_shared for one in conversations),
        claimed=sum(one.assurance == Assurance.USER_CHANNEL for one in conversations),
        newest=nlargest(MOST_NAMED, conversations, key=lambda one: (one.first, one.number)),
        highest=max((one.number for one in conversations), default=0),
    )


def _most(chatbot: Chatbot) -> int:
    """Return the maximum number of conversations that are read for a request."""
    return max(MOST_FOUND, chatbot.max_conversations_per_deletion) + 1
