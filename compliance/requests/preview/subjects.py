"""The conversations and the open requests of subjects, read without a request."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import nlargest
from typing import Any, NamedTuple
from uuid import UUID

from chatbots.models import Chatbot
from common.db import array, fetch
from compliance.errors import Refused
from compliance.work.sql import naming
from conversations.assurance import ASSURANCE_OF, is_enough_sql
from conversations.models import Assurance
from conversations.sql import SELECTED_CONVERSATIONS

# Conversations that are looked at; more of them only where the chatbot's guard lets a deletion have more.
MOST_FOUND = 10_000
# Of many chatters together, and the requests about each of them.
MOST_IN_ALL = 100_000
MOST_REQUESTS_OF_EACH = 1_000
# Of the ids and conversations that the answer names.
MOST_NAMED = 100

# Rows `r` as `conversations.sql` and `compliance.work.scope` want them, as if a request were filed last and
# carried out now; each with its place in the list.
SUBJECTS = """
(SELECT (place - 1)::int AS place, NULL::uuid AS id, %(chatbot)s::bigint AS chatbot_id,
        %(variable)s::bigint AS variable_id, digest AS uci_digest, %(conversations)s::bytea[] AS conversation_digests,
        9223372036854775807 AS seq, 9223372036854775807 AS cutoff_number, now() AS cutoff_at
   FROM unnest(%(digests)s::bytea[]) WITH ORDINALITY AS given(digest, place)) AS r
"""

_IS_ENOUGH = is_enough_sql("named.established_by", "%(least)s::text", conversation="c.id", chatbots="%(chatbots)s")
_FOUND = f"""
SELECT r.place, found.*
  FROM {SUBJECTS}
 CROSS JOIN LATERAL (
       SELECT c.deleted_at IS NULL AS is_live, c.id, coalesce(c.message_count, 0),
              least(c.started_at, c.last_message_at), greatest(c.started_at, c.last_message_at),
              people.number > 1 AS is_shared, c.deletion_request_id IS NOT NULL AS is_marked, named.established_by,
              {_IS_ENOUGH} AS is_enough
         FROM ({SELECTED_CONVERSATIONS}) AS named
        CROSS JOIN LATERAL (
              SELECT * FROM conversations_conversation
               WHERE id = named.conversation_id AND chatbot_id = %(chatbot)s OFFSET 0) AS c
        CROSS JOIN LATERAL (
              SELECT count(value) AS number
                FROM conversations_identity
               WHERE conversation_id = c.id AND chatbot_id = %(chatbot)s OFFSET 0) AS people
        LIMIT %(most)s) AS found
 LIMIT %(most_in_all)s
"""  # noqa: S608  (texts of ours)

_EXTENT = f"""
SELECT count(*), min(found.first), max(found.last), count(*) >= %(most)s
  FROM {SUBJECTS}
 CROSS JOIN LATERAL (
       SELECT least(c.started_at, c.last_message_at) AS first, greatest(c.started_at, c.last_message_at) AS last
         FROM ({SELECTED_CONVERSATIONS}) AS named
        CROSS JOIN LATERAL (
              SELECT started_at, last_message_at FROM conversations_conversation
               WHERE id = named.conversation_id AND chatbot_id = %(chatbot)s AND deleted_at IS NULL OFFSET 0) AS c
        LIMIT %(most)s) AS found
"""  # noqa: S608  (texts of ours)

_REQUESTS = f"""
SELECT r.place, asked.id, asked.status <> 'failed',
       asked.kind = 'export' AND asked.status IN ('failed', 'on_hold') AND asked.names_somebody
  FROM {SUBJECTS}
 CROSS JOIN LATERAL (
       SELECT id, kind, status, seq, uci_value IS NOT NULL AS names_somebody
         FROM compliance_compliancerequest
        WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest
          AND status IN ('accepted', 'on_hold', 'processing', 'failed')
        UNION ALL
       SELECT id, kind, status, seq, TRUE
         FROM {naming("r.conversation_digests")} AS sharing
        WHERE status IN ('accepted', 'on_hold', 'processing', 'failed')
        ORDER BY seq LIMIT %(most)s) AS asked
"""  # noqa: S608  (a text of ours)


@dataclass(frozen=True)
class Options:
    """The options of requests, by kind."""

    erase_exports: bool = False
    include_shared: bool = False
    include_files: bool = False


class Found(NamedTuple):
    """A live conversation: what its counters say, and from when to when it went.

    `is_shared`: several took part in it. `is_marked`: a deletion has marked it, so no export has it any more.
    `established_by`: how the identity came by which it was found; None if it is named by its id. `is_enough`: an
    export could have it.
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
    """Conversations together: how many there are, the newest of them, and the highest number of all."""

    conversations: int
    messages: int
    shared: int
    newest: list[Found]
    highest: int

    @property
    def unlisted(self) -> int:
        return self.conversations - len(self.newest)


class Extent(NamedTuple):
    """How many live conversations there are, and from when to when they went; None if there are none.

    `at_least`: there are more than were read.
    """

    conversations: int
    first: datetime | None
    last: datetime | None
    at_least: bool


@dataclass(frozen=True)
class Subjects:
    """Whom requests would be about: values of one UCI by their digests, or certain conversations together."""

    chatbot: Chatbot
    variable_id: int | None = None
    digests: Sequence[bytes | memoryview | None] = (None,)
    conversation_digests: Sequence[bytes | memoryview] | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "chatbot": self.chatbot.pk,
            "chatbots": array([self.chatbot.pk]),
            "variable": self.variable_id,
            "digests": list(self.digests),
            "conversations": self.conversation_digests,
            "least": self.chatbot.export_assurance,
        }

    @property
    def most(self) -> int:
        """How many conversations of one of them are read."""
        return max(MOST_FOUND, self.chatbot.max_conversations_per_deletion) + 1


@dataclass
class Finds:
    """The live conversations of a subject, and the numbers of erased ones, of which copies may be left.

    `at_least`: there are more conversations than were read. `is_blocked`: an export of the same subject, which would
    run first, waits for a decision.
    """

    live: list[Found] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)
    at_least: bool = False
    open_requests: list[UUID] = field(default_factory=list)
    is_blocked: bool = False

    @property
    def unmarked(self) -> list[Found]:
        return [one for one in self.live if not one.is_marked]


def find(subjects: Subjects) -> list[Finds]:
    """Return what is found of each of these, in their order.

    Raises Refused if several have more than MOST_IN_ALL conversations together.
    """
    most = subjects.most
    is_one = len(subjects.digests) == 1
    most_in_all = most if is_one else MOST_IN_ALL + 1
    found = fetch(_FOUND, {**subjects.parameters, "most": most, "most_in_all": most_in_all})
    if not is_one and len(found) > MOST_IN_ALL:
        raise Refused("invalid", "These have too many conversations for one preview. Name fewer at once.")
    each = [Finds() for _ in subjects.digests]
    for place, is_live, *columns in found:
        conversation = Found(*columns)
        if is_live:
            each[place].live.append(conversation)
        else:
            each[place].erased.append(conversation.number)
    for finds in each:
        finds.at_least = len(finds.live) + len(finds.erased) >= most
    requests = fetch(_REQUESTS, {**subjects.parameters, "most": MOST_REQUESTS_OF_EACH})
    for place, request_id, is_open, is_blocked in requests:
        each[place].is_blocked |= is_blocked
        if is_open:
            each[place].open_requests.append(request_id)
    return each


def extent_of(subject: Subjects) -> Extent:
    """Return how much is found of a single subject. Far quicker than `find`."""
    [found] = fetch(_EXTENT, {**subject.parameters, "most": subject.most})
    return Extent(*found)


def united(each: Sequence[Finds]) -> Finds:
    """Return the conversations of all of these: one that several have is there once, with its strongest identity."""
    live: dict[int, Found] = {}
    for one in (conversation for finds in each for conversation in finds.live):
        if live.setdefault(one.number, one) is not one and one.is_surer_than(live[one.number]):
            live[one.number] = one
    return Finds(
        live=list(live.values()),
        erased=list({number for finds in each for number in finds.erased}),
    )


def total(conversations: Sequence[Found]) -> Totals:
    return Totals(
        conversations=len(conversations),
        messages=sum(one.message_count for one in conversations),
        shared=sum(one.is_shared for one in conversations),
        newest=nlargest(MOST_NAMED, conversations, key=lambda one: (one.first, one.number)),
        highest=max((one.number for one in conversations), default=0),
    )
