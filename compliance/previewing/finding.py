"""What names a chatter, or has certain ids, and what has been asked about it before: read without a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from psycopg import sql

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from config.arrays import array
from conversations.named import NAMED

# Conversations that are looked at; more of them only where the chatbot's guard lets a deletion have more.
MOST_FOUND = 10_000
# Of many chatters together, and the requests about each of them.
MOST_IN_ALL = 100_000
MOST_REQUESTS_OF_EACH = 1_000

# Rows `r` as `conversations.named` wants them: of one subject, and of many chatters, each with its place.
_SUBJECT = """
(SELECT %(chatbot)s::bigint AS chatbot_id, %(variable)s::bigint AS variable_id, %(value)s::varchar AS uci_value,
        %(conversations)s::bytea[] AS conversation_digests) AS r
"""

_SUBJECTS = """
(SELECT (place - 1)::int AS place, %(chatbot)s::bigint AS chatbot_id, %(variable)s::bigint AS variable_id,
        value::varchar AS uci_value, digest AS uci_digest, NULL::bytea[] AS conversation_digests
   FROM unnest(%(values)s::text[], %(digests)s::bytea[]) WITH ORDINALITY AS given(value, digest, place)) AS r
"""

# A mark of a deletion that has ended is taken over; what another that is under way has marked is that one's.
_WHAT = """
c.id, c.deleted_at IS NULL, c.deletion_request_id IS NULL,
       c.deletion_request_id IS NULL OR mark.status IN ('failed', 'completed'),
       coalesce(c.message_count, 0), least(c.started_at, c.last_message_at),
       greatest(c.started_at, c.last_message_at), people.number
"""
_OF_NAMED = f"""
({NAMED}) AS named
 CROSS JOIN LATERAL (
       SELECT * FROM conversations_conversation WHERE id = named.conversation_id OFFSET 0) AS c
  LEFT JOIN LATERAL (
       SELECT status FROM compliance_compliancerequest WHERE id = c.deletion_request_id OFFSET 0) AS mark ON TRUE
 CROSS JOIN LATERAL (
       SELECT count(*) AS number FROM conversations_identity WHERE conversation_id = c.id OFFSET 0) AS people
"""  # noqa: S608  (texts of ours)
_FOUND = f"SELECT {_WHAT} FROM {_SUBJECT} CROSS JOIN LATERAL {_OF_NAMED} LIMIT %(most)s"  # noqa: S608  (texts of ours)
_FOUND_OF_EACH = f"""
SELECT r.place, found.*
  FROM {_SUBJECTS}
 CROSS JOIN LATERAL (SELECT {_WHAT} FROM {_OF_NAMED} LIMIT %(most)s) AS found
 LIMIT %(most_in_all)s
"""  # noqa: S608  (texts of ours)

_REQUESTS = """
SELECT id, kind, status, uci_value IS NOT NULL OR conversation_digests IS NOT NULL
  FROM compliance_compliancerequest
 WHERE {about} AND status IN ('accepted', 'on_hold', 'processing', 'failed')
 ORDER BY seq LIMIT %(most)s
"""
_ABOUT_CHATTER = "variable_id = %(variable)s AND uci_digest = %(digest)s"
_ABOUT_CONVERSATIONS = "conversation_digests && %(conversations)s::bytea[]"
_ABOUT_EACH = "variable_id = r.variable_id AND uci_digest = r.uci_digest"
_REQUESTS_OF_EACH = f"""
SELECT r.place, asked.*
  FROM {_SUBJECTS} CROSS JOIN LATERAL ({_REQUESTS.format(about=_ABOUT_EACH)}) AS asked
"""  # noqa: S608  (texts of ours)

# What earlier deletions that failed had marked: some of it may be erased, and have files all the same.
_GIVEN_UP = """
SELECT failed.id, c.id, c.deleted_at IS NULL, coalesce(c.message_count, 0), least(c.started_at, c.last_message_at),
       greatest(c.started_at, c.last_message_at),
       (SELECT count(*) FROM conversations_identity WHERE conversation_id = c.id)
  FROM unnest(%(failed)s::uuid[]) AS failed(id)
 CROSS JOIN LATERAL (
       SELECT * FROM conversations_conversation WHERE deletion_request_id = failed.id OFFSET 0) AS c
 WHERE c.id <> ALL(%(known)s::bigint[])
   AND (%(conversations)s::bytea[] IS NULL OR c.external_id_digest = ANY(%(conversations)s::bytea[]))
 LIMIT %(most)s
"""


class Found(NamedTuple):
    """A live conversation: what its counters say, and from when to when it went."""

    number: int
    message_count: int
    first: datetime
    last: datetime
    people: int


@dataclass(frozen=True)
class Subject:
    """Whom a request would be about, as it would be stored; see `conversations.named`."""

    chatbot: Chatbot
    variable_id: int | None = None
    uci_value: str | None = None
    uci_digest: bytes | None = None
    conversation_digests: Sequence[bytes] | None = None

    @property
    def is_by_id(self) -> bool:
        return self.conversation_digests is not None

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "chatbot": self.chatbot.pk,
            "variable": self.variable_id,
            "value": self.uci_value,
            "digest": self.uci_digest,
            "conversations": self.conversation_digests,
        }


@dataclass(frozen=True)
class Ahead:
    """What has been asked about the subject and is not over."""

    open: list[UUID]
    failed_deletions: list[UUID]
    holds_deletions: bool


@dataclass
class Finds:
    """Conversations: how many as the guard counts, those free for a deletion, those that no deletion has marked."""

    named: int = 0
    free: list[Found] = field(default_factory=list)
    unmarked: list[Found] = field(default_factory=list)
    erased_with_files: list[int] = field(default_factory=list)
    at_least: bool = False

    @property
    def known(self) -> list[int]:
        return [*(one.number for one in self.free), *self.erased_with_files]

    def add_given_up(self, number: int, is_live: bool, *found: Any) -> None:
        """Add what an earlier deletion that failed had marked."""
        if is_live:
            self.free.append(Found(number, *found))
        else:
            self.erased_with_files.append(number)


class TooMuch(Exception):
    """Many chatters have more conversations together than one preview looks at."""


@dataclass(frozen=True)
class Chatters:
    """Many subjects: different values of one UCI."""

    chatbot: Chatbot
    variable_id: int
    values: Sequence[str]
    digests: Sequence[bytes]

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "chatbot": self.chatbot.pk,
            "variable": self.variable_id,
            "values": list(self.values),
            "digests": list(self.digests),
        }


def look_ahead(subject: Subject) -> Ahead:
    about = _ABOUT_CONVERSATIONS if subject.is_by_id else _ABOUT_CHATTER
    return _ahead(rows(_REQUESTS.format(about=about), {**subject.parameters, "most": MOST_FOUND}))


def look_ahead_each(chatters: Chatters) -> list[Ahead]:
    """As `look_ahead`, of each."""
    found: dict[int, list[Any]] = {}
    for place, *request in rows(_REQUESTS_OF_EACH, {**chatters.parameters, "most": MOST_REQUESTS_OF_EACH}):
        found.setdefault(place, []).append(request)
    return [_ahead(found.get(place, [])) for place, _ in enumerate(chatters.values)]


def _ahead(requests: Sequence[Any]) -> Ahead:
    is_export = ComplianceRequest.Kind.EXPORT
    return Ahead(
        open=[request_id for request_id, _, status, _ in requests if status != "failed"],
        failed_deletions=[
            request_id for request_id, kind, status, _ in requests if status == "failed" and kind != is_export
        ],
        holds_deletions=any(
            kind == is_export and status in {"failed", "on_hold"} and names for _, kind, status, names in requests
        ),
    )


def find(subject: Subject, ahead: Ahead) -> Finds:
    most = _most_of(subject.chatbot)
    finds = _finds(rows(_FOUND, {**subject.parameters, "most": most}))
    left = most - finds.named
    if ahead.failed_deletions and left:
        given_up = _given_up([ahead], digests=subject.conversation_digests, known=finds.known, most=left)
        for _, *conversation in given_up:
            finds.add_given_up(*conversation)
        left -= len(given_up)
    finds.at_least = not left
    return finds


def find_each(chatters: Chatters, ahead: Sequence[Ahead]) -> list[Finds]:
    """As `find`, of each. Raises TooMuch if they have more than MOST_IN_ALL conversations together."""
    most = _most_of(chatters.chatbot)
    found: dict[int, list[Any]] = {}
    named = rows(_FOUND_OF_EACH, {**chatters.parameters, "most": most, "most_in_all": MOST_IN_ALL + 1})
    for place, *conversation in named:
        found.setdefault(place, []).append(conversation)
    each = [_finds(found.get(place, [])) for place, _ in enumerate(chatters.values)]
    given_up = _given_up(ahead, most=MOST_IN_ALL + 1)
    if len(named) + len(given_up) > MOST_IN_ALL:
        raise TooMuch
    place_of = {request_id: place for place, one in enumerate(ahead) for request_id in one.failed_deletions}
    known = [set(finds.known) for finds in each] if given_up else []
    for request_id, number, *conversation in given_up:
        place = place_of[request_id]
        if number not in known[place]:
            each[place].add_given_up(number, *conversation)
    for finds in each:
        finds.at_least = finds.named >= most
    return each


def _most_of(chatbot: Chatbot) -> int:
    return max(MOST_FOUND, chatbot.max_conversations_per_deletion) + 1


def _finds(named: Sequence[Any]) -> Finds:
    finds = Finds(named=len(named))
    for number, is_live, is_unmarked, is_free, *found in named:
        if not is_live:
            finds.erased_with_files.append(number)
            continue
        if is_free:
            finds.free.append(Found(number, *found))
        if is_unmarked:
            finds.unmarked.append(Found(number, *found))
    return finds


def _given_up(
    ahead: Sequence[Ahead], *, digests: Sequence[bytes] | None = None, known: Sequence[int] = (), most: int
) -> list[Any]:
    """Return conversations, each behind the failed deletion that had marked it; of ids, those with these alone."""
    failed = [request_id for one in ahead for request_id in one.failed_deletions]
    if not failed:
        return []
    values = {"failed": array(failed), "conversations": digests, "known": array(known), "most": most}
    return rows(_GIVEN_UP, values)


def rows(statement: str | sql.Composed, values: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
