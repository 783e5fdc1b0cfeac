"""Erase rows, one bounded bite at a time.

What happens to which table and column is read from `compliance/inventory.py`. The data is the progress: a bite
finds its work by what is still there, so after a kill at any instant the next bite goes on from where the last
commit left off, and the counts are those of the statements that committed.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple, cast
from uuid import UUID

from django.db import connection
from psycopg import sql

from compliance import progress
from compliance.erasure import extracts
from compliance.erasure.extracts import Said
from compliance.inventory import CONVERSATION, Fate, Way, stores
from compliance.progress import Counts
from compliance.sizes import Size
from config.arrays import array
from conversations.models import Identity, Message
from conversations.named import NAMED

# A bite deletes about this many messages and closes at most this many conversations: a few tenths of a second.
BITE_MESSAGES = 25_000
BITE_CONVERSATIONS = 2_500


class Doomed(NamedTuple):
    """A conversation to erase, locked: the request it is counted for, and the deletion whose mark it bears."""

    conversation_id: int
    chatbot_id: int
    message_count: int
    request_id: UUID
    marked_by: UUID
    has_files_first: bool = False
    is_by_id: bool = False  # named by its id, and so by none of those who were in it


class Named(NamedTuple):
    """An identity that was erased, and the request for which."""

    request_id: UUID
    variable_id: int
    value: str


# Files of it are left, and another deletion has to find it while a file is there, or it would complete before: those
# go first. The identities are how the deletion of each chatter finds it: of each but the one whose own deletion this
# is, so of each where the conversation was named by its id. By its id it is found when the rows are gone, too.
_FILES_FIRST = """
(c.has_file_upload
 AND EXISTS (SELECT FROM conversations_uploadedfile f WHERE f.conversation_id = c.id)
 AND (SELECT count(*) FROM conversations_identity i WHERE i.conversation_id = c.id)
     > CASE WHEN {is_named_by_id} THEN 0 ELSE 1 END)
"""
_IS_MARKED_BY_ID = """EXISTS (
    SELECT FROM compliance_compliancerequest m
     WHERE m.id = c.deletion_request_id AND m.conversation_digests IS NOT NULL OFFSET 0)"""
_FILES_FIRST_OF_MARKED = _FILES_FIRST.format(is_named_by_id=_IS_MARKED_BY_ID)
_FILES_FIRST_OF_NAMED = _FILES_FIRST.format(is_named_by_id=f"named.is_by_id OR {_IS_MARKED_BY_ID}")

_NAMED_BY_REQUESTS = f"""
SELECT r.id AS request_id, r.seq, named.conversation_id, named.identity_id IS NULL AS is_by_id
  FROM compliance_compliancerequest r CROSS JOIN LATERAL ({NAMED}) AS named
 WHERE r.id = ANY(%s)
"""  # noqa: S608  (a text of ours)

# Without an order the sub-select reads no more than it needs; the locks are taken in id order, as everywhere.
_MARKED_BY_US = f"""
SELECT c.id, c.chatbot_id, c.message_count, c.deletion_request_id, c.deletion_request_id
  FROM conversations_conversation c
 WHERE c.id IN (SELECT id FROM conversations_conversation c
                 WHERE deletion_request_id = ANY(%s) AND deleted_at IS NULL AND NOT {_FILES_FIRST_OF_MARKED} LIMIT %s)
   AND c.deleted_at IS NULL
 ORDER BY c.id FOR UPDATE OF c
"""  # noqa: S608  (a text of ours)

# Two deletions that meet in one conversation: the first mark stays, and we erase what is still there.
_MARKED_BY_OTHERS = f"""
SELECT c.id, c.chatbot_id, c.message_count, ours.request_id, c.deletion_request_id
  FROM (SELECT DISTINCT ON (named.conversation_id) named.conversation_id, named.request_id
          FROM ({_NAMED_BY_REQUESTS}) AS named
          JOIN conversations_conversation c
            ON c.id = named.conversation_id AND c.deletion_request_id IS NOT NULL AND c.deleted_at IS NULL
         WHERE NOT {_FILES_FIRST_OF_NAMED}
         ORDER BY named.conversation_id, named.seq LIMIT %s) AS ours
  JOIN conversations_conversation c ON c.id = ours.conversation_id
 WHERE c.deleted_at IS NULL
 ORDER BY c.id FOR UPDATE OF c
"""  # noqa: S608  (a text of ours)

# All that is named, marked or not: to be marked and erased at once. A mark of a deletion under way stays;
# that of one which has ended is taken over, with the files that hang on it (intake marks late data for a completed
# one, and nobody would look for files under its mark once the rows are gone).
_NAMED = f"""
SELECT c.id, c.chatbot_id, c.message_count, named.request_id,
       CASE WHEN c.deletion_request_id IS NULL
              OR EXISTS (SELECT 1 FROM compliance_compliancerequest f
                          WHERE f.id = c.deletion_request_id AND f.status IN ('failed', 'completed'))
            THEN named.request_id ELSE c.deletion_request_id END,
       {_FILES_FIRST_OF_NAMED}, named.is_by_id
  FROM (SELECT DISTINCT ON (conversation_id) * FROM ({_NAMED_BY_REQUESTS}) AS each
         ORDER BY conversation_id, seq) AS named
  JOIN conversations_conversation c ON c.id = named.conversation_id
 WHERE c.deleted_at IS NULL
 ORDER BY c.id FOR UPDATE OF c
"""  # noqa: S608  (a text of ours)

_DELETE_IDENTITIES = sql.SQL(
    "DELETE FROM {table} WHERE conversation_id = ANY(%s) RETURNING conversation_id, variable_id, value"
).format(table=sql.Identifier(Identity._meta.db_table))

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


def fits_one_bite(sizes: Sequence[Size]) -> bool:
    """Say whether as much as this may be erased in one transaction."""
    conversations, messages = sum(size.conversations for size in sizes), sum(size.messages for size in sizes)
    return conversations <= BITE_CONVERSATIONS and messages <= BITE_MESSAGES


def erase_bite(request_ids: Sequence[UUID]) -> bool:
    """Erase one bite of what these requests have marked, in the caller's bite; return whether more may be left.

    Not of conversations that several people were in, while files of them are left.
    """
    doomed = _lock(_MARKED_BY_US, request_ids, BITE_CONVERSATIONS)
    doomed = doomed or _lock(_MARKED_BY_OTHERS, request_ids, BITE_CONVERSATIONS)
    if not doomed:
        return False
    progress.add_counts(_erase_some(doomed))
    return True


def erase_marked(request_ids: Sequence[UUID]) -> dict[UUID, Counts]:
    """Erase one bite of what is marked with these requests' ids, in the caller's transaction; return the counts."""
    doomed = _lock(_MARKED_BY_US, request_ids, BITE_CONVERSATIONS)
    return _erase_some(doomed) if doomed else {}


def lock_named(request_ids: Sequence[UUID]) -> list[Doomed]:
    """Lock and return all live conversations that are named, in the caller's bite: no more than a bite may erase."""
    return _lock(_NAMED, request_ids)


def erase(doomed: Sequence[Doomed]) -> tuple[dict[UUID, Counts], list[Named]]:
    """Mark and erase these locked conversations, in the caller's bite.

    Return the counts, and who was in those conversations that were shared, or that were named by their ids.
    """
    counts: dict[UUID, Counts] = defaultdict(Counter)
    request_of = {row.conversation_id: row.request_id for row in doomed}
    count_of = {row.conversation_id: counts[row.request_id] for row in doomed}
    by_id = {row.conversation_id for row in doomed if row.is_by_id}
    conversations = array(request_of)
    is_extracted = extracts.has_any({row.chatbot_id for row in doomed})
    for store in stores(Way.CONVERSATION):
        if store.model is Message and is_extracted:
            for conversation, gone in _delete_messages(doomed, _DELETE_ALL_MESSAGES, [conversations]).items():
                count_of[conversation][store.counter] += gone
        elif store.model is not Identity:
            for conversation, gone in _delete_rows(store.table, conversations):
                count_of[conversation][store.counter] += gone
    identities = _delete_identities(conversations)
    people = Counter(conversation for conversation, _, _ in identities)
    for conversation, gone in people.items():
        count_of[conversation]["identities"] += gone
        count_of[conversation]["shared_conversations"] += gone > 1
    for conversation in _empty_conversations(doomed):
        count_of[conversation]["conversations"] += 1
    shared = [
        Named(request_of[conversation], variable, value)
        for conversation, variable, value in identities
        if people[conversation] > 1 or conversation in by_id
    ]
    return counts, shared


def _erase_some(doomed: Sequence[Doomed]) -> dict[UUID, Counts]:
    """Erase of these locked conversations, or of the first of them, as much as a bite may; return the counts."""
    whale = doomed[0]
    if whale.message_count <= BITE_MESSAGES:
        return erase(_first_that_fit(doomed))[0]
    some = _delete_messages([whale], _DELETE_SOME_MESSAGES, [whale.conversation_id, BITE_MESSAGES])
    gone = sum(some.values())
    counts = erase([whale])[0] if gone < BITE_MESSAGES else {whale.request_id: Counter()}
    counts[whale.request_id]["messages"] += gone
    return counts


def _first_that_fit(doomed: Sequence[Doomed]) -> list[Doomed]:
    fitting: list[Doomed] = []
    messages = 0
    for row in doomed:
        messages += row.message_count
        if fitting and messages > BITE_MESSAGES:
            break
        fitting.append(row)
    return fitting


def _lock(statement: str, request_ids: Sequence[UUID], *limit: int) -> list[Doomed]:
    with connection.cursor() as cursor:
        cursor.execute(statement, [array(request_ids), *limit])
        return [Doomed(*row) for row in cursor.fetchall()]


def _delete_messages(doomed: Sequence[Doomed], statement: sql.Composed, values: Sequence[str | int]) -> Counter[int]:
    """Delete messages of these conversations and flag the days' extracts that may hold them, both or neither.

    Return how many went of each conversation.
    """
    owner = {row.conversation_id: row for row in doomed}
    counts: Counter[int] = Counter()
    said: list[Said] = []
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        for conversation, gone, first, last in cursor.fetchall():
            counts[conversation] += gone
            row = owner[conversation]
            said.append(Said(row.request_id, row.chatbot_id, conversation, first, last))
    extracts.flag(said)
    return counts


def _delete_rows(table: str, conversations: str) -> list[tuple[int, int]]:
    """Delete a table's rows of these conversations; return how many went of each conversation."""
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL(
                "WITH gone AS (DELETE FROM {table} WHERE conversation_id = ANY(%s) RETURNING conversation_id)"
                " SELECT conversation_id, count(*) FROM gone GROUP BY conversation_id"
            ).format(table=sql.Identifier(table)),
            [conversations],
        )
        return cast("list[tuple[int, int]]", cursor.fetchall())


def _delete_identities(conversations: str) -> list[tuple[int, int, str]]:
    """Delete the identities of these conversations; return conversation, variable and value of each."""
    with connection.cursor() as cursor:
        cursor.execute(_DELETE_IDENTITIES, [conversations])
        return cast("list[tuple[int, int, str]]", cursor.fetchall())


def _empty_conversations(doomed: Sequence[Doomed]) -> list[int]:
    """Leave of these conversations what the inventory keeps, and the mark; return those still to be emptied."""
    emptied = [sql.SQL("{} = NULL").format(sql.Identifier(column)) for column in CONVERSATION.with_fate(Fate.EMPTIED)]
    to_the_day = [
        sql.SQL("{0} = date_trunc('day', {0} AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'").format(sql.Identifier(column))
        for column in CONVERSATION.with_fate(Fate.DAY)
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL(
                "UPDATE {table} c SET {changes}, deletion_request_id = d.marked_by, deleted_at = clock_timestamp()"
                " FROM unnest(%s::bigint[], %s::uuid[]) AS d(id, marked_by)"
                " WHERE c.id = d.id AND c.deleted_at IS NULL RETURNING c.id"
            ).format(table=sql.Identifier(CONVERSATION.table), changes=sql.SQL(", ").join([*emptied, *to_the_day])),
            [array(row.conversation_id for row in doomed), array(row.marked_by for row in doomed)],
        )
        return [row[0] for row in cursor.fetchall()]
