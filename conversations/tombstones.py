"""Tombstones: the only records by which intake refuses erased data, or stores it as redacted.

A chatter's tombstone refuses conversations that began before its cutoff, or that are stored with a number up to the
cutoff's. A conversation's tombstone always refuses. With a message's tombstone, the message is stored as redacted; a
conversation's CSAT comment has one of the same kind.
Rows that still exist have the same effect: an erased conversation by its mark, a redacted message by its kind.

Read them in intake's transaction, under its lock on the chatbot (`locks`): a process that writes one holds that lock
exclusively, or writes while the service is closed.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings

from common import crypto
from common.db import execute, fetch
from conversations.models import Tombstone
from conversations.protection import find_withholding

# A variable's id and the keyed digest of a value, which identify an erased chatter.
Chatter = tuple[int, bytes]

_READ = """
SELECT kind, variable_id, digest, conversation_digest, cutoff_at, cutoff_number, request_id, expires_at
  FROM conversations_tombstone WHERE chatbot_id = %(chatbot)s AND digest = ANY(%(digests)s::bytea[])
"""
_READ_MESSAGES = """
 UNION ALL
SELECT kind, NULL, digest, conversation_digest, NULL, NULL, request_id, expires_at
  FROM conversations_tombstone
 WHERE chatbot_id = %(chatbot)s AND conversation_digest = ANY(%(conversations)s::bytea[])
"""
_WRITE = """
INSERT INTO conversations_tombstone (chatbot_id, kind, digest, conversation_digest, request_id, erased_at, expires_at)
SELECT %(chatbot)s, new.kind, new.digest, new.conversation_digest, new.request_id, new.erased_at,
       new.erased_at + make_interval(secs => %(keep)s)
  FROM json_to_recordset(%(rows)s::json)
         AS new(kind text, digest bytea, conversation_digest bytea, request_id uuid, erased_at timestamptz)
 ORDER BY new.digest, new.request_id
    ON CONFLICT (chatbot_id, digest, request_id) DO NOTHING
"""


class Erasure(NamedTuple):
    """It covers conversations that began before `cutoff_at`, or are stored with a number up to `cutoff_number`."""

    cutoff_at: datetime
    cutoff_number: int
    request_id: UUID
    expires_at: datetime


class NewTombstone(NamedTuple):
    """An erased conversation, or a message of it (with `conversation_digest`), that has no row."""

    digest: bytes
    conversation_digest: bytes | None
    request_id: UUID
    erased_at: datetime


class Tombstones:
    """The tombstones of some chatters and conversations of a chatbot that have not expired."""

    def __init__(self) -> None:
        self._chatters: dict[Chatter, list[Erasure]] = defaultdict(list)
        self._conversations: set[bytes] = set()
        self._messages: dict[bytes, set[bytes]] = defaultdict(set)
        self._withholding: set[UUID] = set()

    @classmethod
    def read(cls, *, chatbot_id: int, chatters: Iterable[Chatter], conversations: Iterable[bytes]) -> "Tombstones":
        """Return the tombstones of these chatters, and of the conversations with these digests."""
        found = cls()
        of_conversations = set(conversations)
        digests = of_conversations.union(digest for _, digest in chatters)
        if not digests:
            return found
        values = {
            "chatbot": chatbot_id,
            "digests": bytea_array(digests),
            "conversations": bytea_array(of_conversations),
        }
        statement = _READ + _READ_MESSAGES if of_conversations else _READ
        for kind, variable_id, digest, conversation_digest, *erasure in fetch(statement, values):
            if kind == Tombstone.Kind.CHATTER:
                found._chatters[variable_id, bytes(digest)].append(Erasure(*erasure))
            elif kind == Tombstone.Kind.CONVERSATION:
                found._conversations.add(bytes(digest))
            else:
                found._messages[bytes(conversation_digest)].add(bytes(digest))
        if request_ids := {each.request_id for erasures in found._chatters.values() for each in erasures}:
            found._withholding = find_withholding(request_ids)
        return found

    def has_conversation(self, digest: bytes) -> bool:
        """Return whether the conversation with this digest was erased, and has no row."""
        return digest in self._conversations

    def has_chatter(self, chatter: Chatter) -> bool:
        """Return whether the chatter was erased, regardless of the conversations that the erasure covers."""
        return chatter in self._chatters

    def latest_erasure(
        self, chatter: Chatter, *, number: int | None, started_at: datetime | None, is_known: bool
    ) -> Erasure | None:
        """Return the latest erasure of a chatter that covers a conversation, if one does.

        `is_known`: the conversation is stored with this chatter, and has no mark. Then an erasure that leaves out
        conversations has left it out.
        """
        covering = [
            erasure
            for erasure in self._chatters.get(chatter, ())
            if not (is_known and erasure.request_id in self._withholding)
            and (
                (started_at is not None and started_at < erasure.cutoff_at)
                or (number is not None and number <= erasure.cutoff_number)
            )
        ]
        return max(covering, default=None)

    def redacted(self, chatbot: UUID, conversation: bytes, message_ids: Iterable[str]) -> frozenset[str]:
        """Return those of the platform's ids of a conversation's messages that were redacted and have no row."""
        known = self._messages.get(conversation)
        if not known:
            return frozenset()
        return frozenset(one for one in message_ids if message_digest(chatbot, conversation, one) in known)

    def has_comment(self, chatbot: UUID, conversation: bytes) -> bool:
        """Return whether the conversation's CSAT comment was redacted, and its row was lost."""
        known = self._messages.get(conversation)
        return known is not None and comment_digest(chatbot, conversation) in known


def message_digest(chatbot: UUID, conversation: bytes, external_id: str) -> bytes:
    """Return the digest of a message's id; `chatbot` is the public id, `conversation` the conversation's digest."""
    return crypto.digest("message", chatbot, f"{conversation.hex()}:{external_id}")


def comment_digest(chatbot: UUID, conversation: bytes) -> bytes:
    """Return a digest for the CSAT comment of a conversation, which never depends on its text."""
    return crypto.digest("csat_comment", chatbot, conversation.hex())


def write(rows: Sequence[NewTombstone], *, chatbot_id: int) -> None:
    """Store tombstones of a chatbot, each once for its request, in the caller's transaction."""
    if not rows:
        return
    kinds = {True: Tombstone.Kind.MESSAGE, False: Tombstone.Kind.CONVERSATION}
    listed = [one._asdict() | {"kind": kinds[one.conversation_digest is not None]} for one in rows]
    keep = settings.ERASURE_LEDGER_DAYS.total_seconds()
    execute(_WRITE, {"chatbot": chatbot_id, "rows": json_rows(listed), "keep": keep})


def bytea_array(values: Collection[bytes]) -> str:
    """Return an array as one text: psycopg dumps an array in Python, item by item."""
    return "{" + ",".join([f'"\\\\x{value.hex()}"' for value in values]) + "}"


def json_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as one JSON parameter, which `json_to_recordset` reads."""
    return json.dumps(rows, ensure_ascii=False, default=_as_postgresql_text)


def _as_postgresql_text(value: object) -> str:
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)
