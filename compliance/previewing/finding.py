"""What names chatters, or has certain ids, and what has been asked about it before: read without a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from psycopg import sql

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from conversations.named import NAMED

# Conversations that are looked at; more of them only where the chatbot's guard lets a deletion have more.
MOST_FOUND = 10_000
# Of many chatters together, and the requests about each of them.
MOST_IN_ALL = 100_000
MOST_REQUESTS_OF_EACH = 1_000

# Rows `r` as `conversations.named` and `compliance.erasure.scope` want them, as if a request were filed last and
# carried out now; each with its place among those asked for.
SUBJECTS = """
(SELECT (place - 1)::int AS place, NULL::uuid AS id, %(chatbot)s::bigint AS chatbot_id,
        %(variable)s::bigint AS variable_id, digest AS uci_digest, %(conversations)s::bytea[] AS conversation_digests,
        9223372036854775807 AS seq, 9223372036854775807 AS cutoff_number, now() AS cut_at
   FROM unnest(%(digests)s::bytea[]) WITH ORDINALITY AS given(digest, place)) AS r
"""

_FOUND = f"""
SELECT r.place, found.*
  FROM {SUBJECTS}
 CROSS JOIN LATERAL (
       SELECT c.id, c.deleted_at IS NULL AS is_live, c.deletion_request_id IS NULL AS is_open,
              coalesce(c.message_count, 0), least(c.started_at, c.last_message_at),
              greatest(c.started_at, c.last_message_at), people.number
         FROM ({NAMED}) AS named
        CROSS JOIN LATERAL (
              SELECT * FROM conversations_conversation WHERE id = named.conversation_id OFFSET 0) AS c
        CROSS JOIN LATERAL (
              SELECT count(value) AS number
                FROM conversations_identity WHERE conversation_id = c.id OFFSET 0) AS people
        LIMIT %(most)s) AS found
 LIMIT %(most_in_all)s
"""  # noqa: S608  (texts of ours)

_REQUESTS = f"""
SELECT r.place, asked.id, asked.kind, asked.status, asked.names
  FROM {SUBJECTS}
 CROSS JOIN LATERAL (
       SELECT id, kind, status, seq, uci_value IS NOT NULL AS names
         FROM compliance_compliancerequest
        WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest
          AND status IN ('accepted', 'on_hold', 'processing', 'failed')
        UNION ALL
       SELECT id, kind, status, seq, TRUE
         FROM (SELECT * FROM compliance_compliancerequest
                WHERE conversation_digests && r.conversation_digests OFFSET 0) AS sharing
        WHERE status IN ('accepted', 'on_hold', 'processing', 'failed')
        ORDER BY seq LIMIT %(most)s) AS asked
"""  # noqa: S608  (a text of ours)


class Found(NamedTuple):
    """A live conversation: what its counters say, and from when to when it went."""

    number: int
    message_count: int
    first: datetime
    last: datetime
    people: int


@dataclass(frozen=True)
class Subjects:
    """Whom requests would be about: values of one UCI by their digests, or certain conversations together."""

    chatbot: Chatbot
    variable_id: int | None = None
    digests: Sequence[bytes | None] = (None,)
    conversation_digests: Sequence[bytes] | None = None

    @property
    def is_by_id(self) -> bool:
        return self.conversation_digests is not None

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "chatbot": self.chatbot.pk,
            "variable": self.variable_id,
            "digests": list(self.digests),
            "conversations": self.conversation_digests,
        }


@dataclass(frozen=True)
class Ahead:
    """What has been asked about a subject and is not over."""

    open: list[UUID] = field(default_factory=list)
    holds_deletions: bool = False


@dataclass
class Finds:
    """Conversations: those that are live, those of them that no deletion has marked, and numbers of erased ones.

    Of an erased one a copy may be left.
    """

    live: list[Found] = field(default_factory=list)
    unmarked: list[Found] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)
    at_least: bool = False


class TooMuch(Exception):
    """Many chatters have more conversations together than one preview looks at."""


def look_ahead(subjects: Subjects) -> list[Ahead]:
    """Return what has been asked about each of these, in their order."""
    is_export = ComplianceRequest.Kind.EXPORT
    found: dict[int, list[Any]] = {}
    for place, *request in rows(_REQUESTS, {**subjects.parameters, "most": MOST_REQUESTS_OF_EACH}):
        found.setdefault(place, []).append(request)
    return [
        Ahead(
            open=[request_id for request_id, _, status, _ in found.get(place, ()) if status != "failed"],
            holds_deletions=any(
                kind == is_export and status in {"failed", "on_hold"} and names
                for _, kind, status, names in found.get(place, ())
            ),
        )
        for place, _ in enumerate(subjects.digests)
    ]


def find(subjects: Subjects) -> list[Finds]:
    """Return the conversations of each of these, in their order.

    Raises TooMuch if several have more than MOST_IN_ALL together.
    """
    most = max(MOST_FOUND, subjects.chatbot.max_conversations_per_deletion) + 1
    is_one = len(subjects.digests) == 1
    most_in_all = most if is_one else MOST_IN_ALL + 1
    found = rows(_FOUND, {**subjects.parameters, "most": most, "most_in_all": most_in_all})
    if not is_one and len(found) > MOST_IN_ALL:
        raise TooMuch
    each = [Finds() for _ in subjects.digests]
    for place, number, is_live, is_open, *counted in found:
        if not is_live:
            each[place].erased.append(number)
            continue
        conversation = Found(number, *counted)
        each[place].live.append(conversation)
        if is_open:
            each[place].unmarked.append(conversation)
    for finds in each:
        finds.at_least = len(finds.live) + len(finds.erased) >= most
    return each


def rows(statement: str | sql.Composed, values: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
