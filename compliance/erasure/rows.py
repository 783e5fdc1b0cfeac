"""Erase rows, one bounded chunk at a time.

What happens to which table and column is read from `compliance/inventory.py`. The data is the progress: a chunk
finds its work by what is still there, so after a kill at any instant the next chunk goes on from where the last
commit left off, and the counts are those of the statements that committed.

No chunk waits for a row: what another worker has locked is passed over, and is looked for again later.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, cast
from uuid import UUID

from psycopg import sql

from common.db import array, execute, fetch
from compliance.erasure import exports, extracts
from compliance.erasure.extracts import DeletedSpan
from compliance.erasure.scope import IN_SCOPE, IS_COPIED, NAMED_IN_SCOPE
from compliance.inventory import CONVERSATION, stores
from compliance.inventory_terms import Disposition, ReachedBy
from compliance.work import references, transitions
from compliance.work.sizes import Size
from compliance.work.transitions import Counts
from conversations.models import Identity, Message
from conversations.sql import SELECTED_CONVERSATIONS

# A chunk deletes about this many messages and closes at most this many conversations: a few tenths of a second.
CHUNK_MESSAGES = 25_000
CHUNK_CONVERSATIONS = 2_500


class Locked(NamedTuple):
    """A live conversation that is locked, to be erased: for which request it counts, and whose mark it then bears."""

    conversation_id: int
    chatbot_id: int
    message_count: int
    request_id: UUID
    marked_by: UUID


# A LIMIT counts what is locked here, not what was passed over.
_MARKED = """
SELECT c.id, c.chatbot_id, c.message_count, c.deletion_request_id, c.deletion_request_id
  FROM conversations_conversation c
 WHERE c.deletion_request_id = ANY(%s) AND c.deleted_at IS NULL
 LIMIT %s FOR UPDATE OF c SKIP LOCKED
"""

# What others have marked, and what nobody has: a restored backup can have brought it back. The first mark stays.
_NAMED_ONLY = f"""
SELECT c.id, c.chatbot_id, c.message_count, r.id, coalesce(c.deletion_request_id, r.id)
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL ({NAMED_IN_SCOPE}) AS s
  JOIN conversations_conversation c ON c.id = s.id
 WHERE r.id = ANY(%s) AND c.deleted_at IS NULL
 LIMIT %s FOR UPDATE OF c SKIP LOCKED
"""  # noqa: S608  (a text of ours)

# All that is named and live, before the mark.
_NAMED = f"""
SELECT c.id, c.chatbot_id, c.message_count, r.id, coalesce(c.deletion_request_id, r.id)
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named
  JOIN conversations_conversation c ON c.id = named.conversation_id
 WHERE r.id = ANY(%s) AND c.deleted_at IS NULL
 ORDER BY r.seq
   FOR UPDATE OF c SKIP LOCKED
"""  # noqa: S608  (a text of ours)

# Where a copy of an erased conversation may lie: a file, an export, a daily extract.
_COPIED = """
SELECT conversation_id, TRUE FROM compliance_exportconversation WHERE conversation_id = ANY(%(ids)s)
 UNION ALL
SELECT conversation_id, FALSE FROM conversations_uploadedfile WHERE conversation_id = ANY(%(ids)s)
 UNION ALL
SELECT conversation_id, FALSE FROM conversations_extractconversation WHERE conversation_id = ANY(%(ids)s)
"""

_DELETE_IDENTITIES = sql.SQL(
    "DELETE FROM {table} WHERE conversation_id = ANY(%s) RETURNING conversation_id, value IS NOT NULL"
).format(table=sql.Identifier(Identity._meta.db_table))
_EMPTY_IDENTITIES = sql.SQL(
    "UPDATE {table} SET value = NULL WHERE conversation_id = ANY(%s) AND value IS NOT NULL"
    " RETURNING conversation_id, TRUE"
).format(table=sql.Identifier(Identity._meta.db_table))

# Whom erased conversations were about, once no copy of them can be anywhere any more.
_FORGET_NAMES = f"""
DELETE FROM conversations_identity WHERE id = ANY(ARRAY(
       SELECT i.id
         FROM compliance_compliancerequest r
        CROSS JOIN LATERAL ({IN_SCOPE}) AS each
        CROSS JOIN LATERAL (
              SELECT id FROM conversations_conversation
               WHERE id = each.id AND deleted_at IS NOT NULL OFFSET 0) AS s
         JOIN conversations_identity i ON i.conversation_id = s.id AND i.value IS NULL
        WHERE r.id = ANY(%s) AND NOT {IS_COPIED}
          FOR UPDATE OF i SKIP LOCKED))
"""  # noqa: S608  (texts of ours)

# By hours: if two messages of one hour do not fall into the same day, a day ends between them.
_DELETE_MESSAGES = sql.SQL(
    "WITH gone AS (DELETE FROM {table} WHERE {which} RETURNING conversation_id, sent_at)"
    " SELECT conversation_id, count(*), min(sent_at), max(sent_at) FROM gone"
    " GROUP BY conversation_id, date_trunc('hour', sent_at)"
)
_DELETE_ALL_MESSAGES = _DELETE_MESSAGES.format(
    table=sql.Identifier(Message._meta.db_table), which=sql.SQL("conversation_id = ANY(%s)")
)
_DELETE_SOME_MESSAGES = _DELETE_MESSAGES.format(
    table=sql.Identifier(Message._meta.db_table),
    which=sql.SQL("id IN (SELECT id FROM {table} WHERE conversation_id = %s LIMIT %s)").format(
        table=sql.Identifier(Message._meta.db_table)
    ),
)


def fits_one_chunk(sizes: Iterable[Size]) -> bool:
    """Say whether as much as this may be erased in one transaction.

    Not where there are so many conversations that they were not counted to the end.
    """
    sizes = list(sizes)
    if any(size.is_counted_in_part for size in sizes):
        return False
    conversations, messages = sum(size.conversations for size in sizes), sum(size.messages for size in sizes)
    return conversations <= CHUNK_CONVERSATIONS and messages <= CHUNK_MESSAGES


def erase_chunk(request_ids: Sequence[UUID]) -> dict[UUID, Counts]:
    """Erase a chunk of what is in the scope of these deletions, in the caller's transaction, and add up the counts.

    Return the counts: empty when nothing is left that could be locked.
    """
    locked = _lock(_MARKED, request_ids) or _lock(_NAMED_ONLY, request_ids)
    counts = _erase_some(locked) if locked else {}
    transitions.add_counts(counts)
    return counts


def erase_marked_chunk(request_ids: Sequence[UUID]) -> dict[UUID, Counts]:
    """Erase a chunk of what bears the marks of these requests, in the caller's transaction; return the counts."""
    locked = _lock(_MARKED, request_ids)
    return _erase_some(locked) if locked else {}


def lock_named(request_ids: Sequence[UUID]) -> list[Locked]:
    """Lock and return the live conversations that these requests name, in the order of filing, once for each request.

    One that is open is to bear the request's mark, another keeps the mark it has.
    """
    return [Locked(*row) for row in fetch(_NAMED, [array(request_ids)])]


def erase(locked: Sequence[Locked], *, marked_by: Sequence[UUID] = ()) -> dict[UUID, Counts]:
    """Mark and erase these locked conversations, in the caller's transaction; return the counts.

    One that is given for several requests counts for the first. One stays as it is while somebody else has locked a
    request whose reference tells who is in it (`work.references`). Where a copy may lie somewhere the identities keep
    their digests: by them whoever names the chatter finds what is left. The exports that hold one get a time at which
    they have to go; with `marked_by`, the deletions that mark in this transaction, so do their chatters' own.
    """
    counts: dict[UUID, Counts] = defaultdict(Counter)
    locked = _with_references_emptied(_once(locked), marked_by)
    if not locked:
        exports.expire({}, marked_by=marked_by)
        return counts
    count_of = {row.conversation_id: counts[row.request_id] for row in locked}
    conversations = array(count_of)
    is_extracted = extracts.has_any({row.chatbot_id for row in locked})
    for store in stores(ReachedBy.CONVERSATION):
        if store.model is Message and is_extracted:
            for conversation, gone in _delete_messages(locked, _DELETE_ALL_MESSAGES, [conversations]).items():
                count_of[conversation][store.counter] += gone
        elif store.model is not Identity:
            for conversation, gone in _delete_rows(store.table, conversations):
                count_of[conversation][store.counter] += gone
    copied, exported = _copied(conversations)
    people = _forget_identities(count_of.keys() - copied, copied)
    for conversation, gone in people.items():
        count_of[conversation]["identities"] += gone
        count_of[conversation]["shared_conversations"] += gone > 1
    for conversation in _empty_conversations(locked):
        count_of[conversation]["conversations"] += 1
    erased_by = {row.conversation_id: row.request_id for row in locked if row.conversation_id in exported}
    exports.expire(erased_by, marked_by=marked_by)
    return counts


def forget_names(request_ids: Sequence[UUID]) -> None:
    """Delete what is left of the identities in the scope of these deletions, where no copy is left.

    In the transaction that completes them.
    """
    execute(_FORGET_NAMES, [array(request_ids)])


def _erase_some(locked: Sequence[Locked]) -> dict[UUID, Counts]:
    """Erase of these locked conversations, or of the first of them, as much as a chunk may; return the counts."""
    first = locked[0]
    if first.message_count <= CHUNK_MESSAGES:
        return erase(_first_that_fit(locked))
    some = _delete_messages([first], _DELETE_SOME_MESSAGES, [first.conversation_id, CHUNK_MESSAGES])
    gone = sum(some.values())
    counts = erase([first]) if gone < CHUNK_MESSAGES else {first.request_id: Counter()}
    if gone:
        counts[first.request_id]["messages"] += gone
    return counts


def _with_references_emptied(locked: Sequence[Locked], marked_by: Sequence[UUID]) -> list[Locked]:
    """Empty the references that tell who is in these conversations; return those of which none is left."""
    told = references.clear_for_conversations(
        (row.conversation_id for row in locked), written={row.request_id for row in locked}.union(marked_by)
    )
    return [row for row in locked if row.conversation_id not in told]


def _first_that_fit(locked: Sequence[Locked]) -> list[Locked]:
    fitting: list[Locked] = []
    messages = 0
    for row in locked:
        messages += row.message_count
        if fitting and messages > CHUNK_MESSAGES:
            break
        fitting.append(row)
    return fitting


def _lock(statement: str, request_ids: Sequence[UUID]) -> list[Locked]:
    return _once([Locked(*row) for row in fetch(statement, [array(request_ids), CHUNK_CONVERSATIONS])])


def _once(locked: Sequence[Locked]) -> list[Locked]:
    """Return each conversation for the first request that it is given for, in the order of the numbers."""
    first = {row.conversation_id: row for row in reversed(locked)}
    return [first[number] for number in sorted(first)]


def _delete_messages(locked: Sequence[Locked], statement: sql.Composed, values: Sequence[str | int]) -> Counter[int]:
    """Delete messages of these conversations and flag the days' extracts that may hold them, both or neither.

    Return how many went of each conversation.
    """
    chatbot_of = {row.conversation_id: row.chatbot_id for row in locked}
    counts: Counter[int] = Counter()
    said: list[DeletedSpan] = []
    for conversation, gone, first, last in fetch(statement, values):
        counts[conversation] += gone
        said.append(DeletedSpan(conversation, chatbot_of[conversation], first, last))
    extracts.flag(said)
    return counts


def _delete_rows(table: str, conversations: str) -> list[tuple[int, int]]:
    """Delete a table's rows of these conversations; return how many went of each conversation."""
    return cast(
        "list[tuple[int, int]]",
        fetch(
            sql.SQL(
                "WITH gone AS (DELETE FROM {table} WHERE conversation_id = ANY(%s) RETURNING conversation_id)"
                " SELECT conversation_id, count(*) FROM gone GROUP BY conversation_id"
            ).format(table=sql.Identifier(table)),
            [conversations],
        ),
    )


def _copied(conversations: str) -> tuple[set[int], set[int]]:
    """Return which of these conversations something holds a copy of, and which of those an export."""
    found = fetch(_COPIED, {"ids": conversations})
    return {number for number, _ in found}, {number for number, is_exported in found if is_exported}


def _forget_identities(deleted: Collection[int], emptied: Collection[int]) -> Counter[int]:
    """Delete the identities of some conversations, and empty those of others; return how many had a value."""
    people: Counter[int] = Counter()
    for statement, conversations in ((_DELETE_IDENTITIES, deleted), (_EMPTY_IDENTITIES, emptied)):
        if conversations:
            people.update(number for number, had_value in fetch(statement, [array(conversations)]) if had_value)
    return people


def _empty_conversations(locked: Sequence[Locked]) -> list[int]:
    """Leave of these conversations what the inventory keeps, and the mark; return them."""
    emptied = [
        sql.SQL("{} = NULL").format(sql.Identifier(column))
        for column in CONVERSATION.with_disposition(Disposition.EMPTIED)
    ]
    to_the_day = [
        sql.SQL("{0} = date_trunc('day', {0} AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'").format(sql.Identifier(column))
        for column in CONVERSATION.with_disposition(Disposition.DAY)
    ]
    return [
        row[0]
        for row in fetch(
            sql.SQL(
                "UPDATE {table} c SET {changes}, deletion_request_id = d.marked_by, deleted_at = clock_timestamp()"
                " FROM unnest(%s::bigint[], %s::uuid[]) AS d(id, marked_by)"
                " WHERE c.id = d.id RETURNING c.id"
            ).format(table=sql.Identifier(CONVERSATION.table), changes=sql.SQL(", ").join([*emptied, *to_the_day])),
            [array(row.conversation_id for row in locked), array(row.marked_by for row in locked)],
        )
    ]
