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

_SUBJECT = """
(SELECT %(chatbot)s::bigint AS chatbot_id, %(variable)s::bigint AS variable_id, %(value)s::varchar AS uci_value,
        %(conversations)s::bytea[] AS conversation_digests) AS r
"""

# A mark of a deletion that has ended is taken over; what another that is under way has marked is that one's.
_FOUND = f"""
SELECT c.id, c.deleted_at IS NULL, c.deletion_request_id IS NULL,
       c.deletion_request_id IS NULL OR mark.status IN ('failed', 'completed'),
       coalesce(c.message_count, 0), least(c.started_at, c.last_message_at),
       greatest(c.started_at, c.last_message_at), people.number
  FROM {_SUBJECT}
 CROSS JOIN LATERAL ({NAMED}) AS named
 CROSS JOIN LATERAL (
       SELECT * FROM conversations_conversation WHERE id = named.conversation_id OFFSET 0) AS c
  LEFT JOIN LATERAL (
       SELECT status FROM compliance_compliancerequest WHERE id = c.deletion_request_id OFFSET 0) AS mark ON TRUE
 CROSS JOIN LATERAL (
       SELECT count(*) AS number FROM conversations_identity WHERE conversation_id = c.id OFFSET 0) AS people
 LIMIT %(most)s
"""  # noqa: S608  (texts of ours)

_REQUESTS = """
SELECT id, kind, status, uci_value IS NOT NULL OR conversation_digests IS NOT NULL
  FROM compliance_compliancerequest
 WHERE {about} AND status IN ('accepted', 'on_hold', 'processing', 'failed')
 ORDER BY seq LIMIT %(most)s
"""
_ABOUT_CHATTER = "variable_id = %(variable)s AND uci_digest = %(digest)s"
_ABOUT_CONVERSATIONS = "conversation_digests && %(conversations)s::bytea[]"

# What earlier deletions that failed had marked: some of it may be erased, and have files all the same.
_GIVEN_UP = """
SELECT c.id, c.deleted_at IS NULL, coalesce(c.message_count, 0), least(c.started_at, c.last_message_at),
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


def look_ahead(subject: Subject) -> Ahead:
    about = _ABOUT_CONVERSATIONS if subject.is_by_id else _ABOUT_CHATTER
    found = rows(_REQUESTS.format(about=about), {**subject.parameters, "most": MOST_FOUND})
    is_export = ComplianceRequest.Kind.EXPORT
    return Ahead(
        open=[request_id for request_id, _, status, _ in found if status != "failed"],
        failed_deletions=[
            request_id for request_id, kind, status, _ in found if status == "failed" and kind != is_export
        ],
        holds_deletions=any(
            kind == is_export and status in {"failed", "on_hold"} and names for _, kind, status, names in found
        ),
    )


def find(subject: Subject, ahead: Ahead) -> Finds:
    most = max(MOST_FOUND, subject.chatbot.max_conversations_per_deletion) + 1
    finds = Finds()
    named = rows(_FOUND, {**subject.parameters, "most": most})
    finds.named = len(named)
    for number, is_live, is_unmarked, is_free, *found in named:
        if not is_live:
            finds.erased_with_files.append(number)
            continue
        if is_free:
            finds.free.append(Found(number, *found))
        if is_unmarked:
            finds.unmarked.append(Found(number, *found))
    left = most - len(named)
    if ahead.failed_deletions and left:
        left -= _add_given_up(subject, ahead, finds, most=left)
    finds.at_least = not left
    return finds


def _add_given_up(subject: Subject, ahead: Ahead, finds: Finds, *, most: int) -> int:
    known = [*(one.number for one in finds.free), *finds.erased_with_files]
    values = {"failed": array(ahead.failed_deletions), "known": array(known), "most": most}
    given_up = rows(_GIVEN_UP, {**subject.parameters, **values})
    for number, is_live, *found in given_up:
        if is_live:
            finds.free.append(Found(number, *found))
        else:
            finds.erased_with_files.append(number)
    return len(given_up)


def rows(statement: str | sql.Composed, values: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
