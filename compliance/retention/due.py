"""Finds the due conversations of a chatbot: those whose last message is older than its period.

A conversation without messages counts from its start, and so does one whose messages are all older than its start, as
after an import. A start in the future, from before intake refused that, is ignored.
"""

import time
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from chatbots.models import Chatbot
from common.db import array, execute, fetch, fetch_in_index_order, fetch_one, reading_in_index_order
from common.times import MOST_AHEAD
from compliance.work import legal_holds
from compliance.work.sql import NAMING, OPEN
from conversations.models.conversations import EARLIEST

# The number of open conversations that one statement examines and closes at most: a few tenths of a second.
SLICE = 2_500
# An export that waits longer than this no longer keeps its conversations.
EXPORT_KEEPS_DAYS = 30

# Whether a conversation `c` is due. The start alone excludes most of the young ones.
_HAS_STARTED = f"c.started_at < statement_timestamp() + interval '{MOST_AHEAD.days} days'"
_IS_DUE = f"""
((c.started_at < %(older_than)s OR NOT {_HAS_STARTED})
 AND greatest(c.last_message_at, CASE WHEN {_HAS_STARTED} THEN c.started_at END) < %(older_than)s)
"""

# In the order of the index of open conversations. By its last condition, PostgreSQL uses that for nothing else, and
# by the order of the chatbots, no other one here.
_OPEN_ONES = """
FROM conversations_conversation
WHERE chatbot_id = ANY(%(chatbots)s::bigint[]) AND deletion_request_id IS NULL AND started_at > %(earliest)s
"""
_NEXT = f"""
(SELECT id, started_at, last_message_at {_OPEN_ONES} AND id > %(after)s
  ORDER BY chatbot_id, id LIMIT %(most)s) AS c
"""
_EXAMINE = f"SELECT id, {_IS_DUE} FROM {_NEXT}"
_COUNT = f"SELECT count(*) FILTER (WHERE {_IS_DUE}), max(id) FROM {_NEXT}"
# Conversations that intake or a deletion has locked are left for the next run: they are in use, so they may not be
# due any more.
_LOCK = f"""
SELECT id FROM conversations_conversation AS c
 WHERE id = ANY(%(numbers)s::bigint[]) AND chatbot_id = %(chatbot)s AND deletion_request_id IS NULL AND {_IS_DUE}
 ORDER BY id
   FOR UPDATE SKIP LOCKED
"""
_CLOSE = """
UPDATE conversations_conversation SET deletion_request_id = %(request)s
 WHERE id = ANY(%(numbers)s::bigint[]) AND chatbot_id = %(chatbot)s
"""
_NEXT_MARKED = """
SELECT id FROM conversations_conversation
 WHERE deletion_request_id = %(request)s AND chatbot_id = %(chatbot)s AND deleted_at IS NULL LIMIT %(most)s
"""

# Exports that have not ended, or can be retried.
_IS_OWED = f"""
kind = 'export' AND status IN {OPEN} AND received_at > statement_timestamp() - make_interval(days => %(keeps)s)
"""
_OWED = f"""
WITH i AS MATERIALIZED (
    SELECT conversation_id, variable_id, digest FROM conversations_identity
     WHERE conversation_id = ANY(%(numbers)s::bigint[]) AND chatbot_id = %(chatbot)s
), c AS MATERIALIZED (
    SELECT id, external_id_digest FROM conversations_conversation
     WHERE id = ANY(%(numbers)s::bigint[]) AND chatbot_id = %(chatbot)s
)
SELECT i.conversation_id FROM i
 WHERE EXISTS (SELECT FROM compliance_compliancerequest
                WHERE variable_id = i.variable_id AND uci_digest = i.digest AND uci_value IS NOT NULL
                  AND {_IS_OWED})
 UNION
SELECT c.id FROM c WHERE EXISTS (SELECT FROM {NAMING} AS by_ids WHERE {_IS_OWED})
"""


class ExaminedConversations(NamedTuple):
    """The due ones among some open conversations, and the last number of all of these."""

    due: list[int]
    last: int


class Closed(NamedTuple):
    """The closed conversations, and how many an export keeps (`left_out`), or a legal hold (`withheld`)."""

    numbers: list[int]
    left_out: int = 0
    withheld: int = 0


class Count(NamedTuple):
    """How many conversations are due; `is_whole` is false if the time was over before all were counted."""

    number: int
    is_whole: bool


def examine(*, chatbot_id: int, older_than: datetime, after: int, last: int) -> ExaminedConversations | None:
    """Return the due ones of the next SLICE open conversations, above `after` and up to `last`; None if none is left.

    Outside a transaction.
    """
    values = {**_open_conversations(chatbot_id), "older_than": older_than, "after": after, "most": SLICE}
    found = [(number, is_due) for number, is_due in fetch_in_index_order(_EXAMINE, values) if number <= last]
    if not found:
        return None
    return ExaminedConversations([number for number, is_due in found if is_due], max(number for number, _ in found))


def close(numbers: Collection[int], *, request_id: UUID, chatbot_id: int, older_than: datetime) -> Closed:
    """Close these conversations if they are still due and nothing keeps them, in the caller's transaction.

    The caller shares intake's lock, so that no legal hold is placed meanwhile.
    """
    if not numbers:
        return Closed([])
    values = {"chatbot": chatbot_id, "older_than": older_than, "request": request_id}
    locked = [number for (number,) in fetch(_LOCK, {**values, "numbers": array(numbers)})]
    withheld = legal_holds.find_held([chatbot_id], locked)
    kept = find_kept(chatbot_id, locked) - withheld
    closing = [number for number in locked if number not in kept and number not in withheld]
    execute(_CLOSE, {**values, "numbers": array(closing)})
    return Closed(closing, len(kept), len(withheld))


def next_marked(request_id: UUID, *, chatbot_id: int) -> list[int]:
    """Return the next SLICE conversations with the mark of a run that are not erased."""
    values = {"request": request_id, "chatbot": chatbot_id, "most": SLICE}
    return [number for (number,) in fetch(_NEXT_MARKED, values)]


def count(chatbot: Chatbot, older_than: datetime, *, seconds: float | None = None) -> Count:
    """Count the due conversations without a legal hold; for `seconds` at most.

    Those that an export keeps for now are counted.
    """
    end = None if seconds is None else time.monotonic() + seconds
    number = 0
    for some in _count_by_page(chatbot.pk, older_than):
        number += some
        if end is not None and time.monotonic() > end:
            return Count(number, is_whole=False)
    return Count(number, is_whole=True)


def _count_by_page(chatbot_id: int, older_than: datetime) -> Iterator[int]:
    """Yield the number of due conversations without a legal hold among the next open ones."""
    has_holds = legal_holds.holds_any(chatbot_id)
    # With holds, the numbers are read, not only counted.
    most = SLICE if has_holds else 20 * SLICE
    values = {**_open_conversations(chatbot_id), "older_than": older_than, "most": most, "after": 0}
    while True:
        if has_holds:
            examined = fetch_in_index_order(_EXAMINE, values)
            due = [number for number, is_due in examined if is_due]
            number = len(due) - len(legal_holds.find_held([chatbot_id], due))
            reached = max((number for number, _ in examined), default=None)
        else:
            [(number, reached)] = fetch_in_index_order(_COUNT, values)
        if reached is None:
            return
        yield number
        values["after"] = reached


def any_due(chatbot_id: int, older_than: datetime) -> bool:
    """Return whether any conversation without a legal hold is due. Stops at the first one, or at its page."""
    if legal_holds.holds_any(chatbot_id):
        with reading_in_index_order():
            return any(_count_by_page(chatbot_id, older_than))
    statement = f"SELECT EXISTS (SELECT FROM (SELECT started_at, last_message_at {_OPEN_ONES}) AS c WHERE {_IS_DUE})"
    return fetch_one(statement, {**_open_conversations(chatbot_id), "older_than": older_than}) == (True,)


def _open_conversations(chatbot_id: int) -> dict[str, Any]:
    return {"chatbots": array([chatbot_id]), "earliest": EARLIEST}


def find_kept(chatbot_id: int, numbers: Collection[int]) -> set[int]:
    """Return the conversations that an export keeps for now, whatever their age.

    A retention run calls it, and intake before it closes one only because of an identity (`conversations.rows`).
    """
    values = {"chatbot": chatbot_id, "numbers": array(numbers), "keeps": EXPORT_KEEPS_DAYS}
    return {number for (number,) in fetch(_OWED, values)}
