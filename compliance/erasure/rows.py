"""Erase rows, one bounded chunk at a time.

`compliance/inventory.py` says what happens to each table and column. A chunk finds its work in the data, so after a
kill the next one continues where the last commit left off, and the counts are those of committed statements.

No chunk waits for a conversation: it skips those that another worker has locked, and a later chunk takes them.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from django.db import OperationalError, transaction
from psycopg import sql

from common.db import array, execute, fetch
from compliance.erasure import exports, extracts
from compliance.erasure.extracts import DeletedSpan
from compliance.inventory import CONVERSATION, Disposition, ReachedBy, stores
from compliance.work import free_text, legal_holds
from compliance.work.scope import DELETIONS, HAS_FILES, IN_DAYS_OR_EXPORTS, NAMED_IN_SCOPE
from compliance.work.sizes import Size
from compliance.work.sql import GIVEN, chatbots_of, given, subjects
from compliance.work.transitions import completion
from compliance.work.transitions.completion import Counts
from conversations import locks
from conversations.models import Identity, Message
from conversations.sql import SELECTED_CONVERSATIONS

# A chunk deletes about this many messages and closes at most this many conversations: a few tenths of a second.
CHUNK_MESSAGES = 25_000
CHUNK_CONVERSATIONS = 2_500


class LockedConversation(NamedTuple):
    """A live conversation to erase: it counts for `request_id`, and will have the mark of `marked_by`.

    `established_by`: the source of the identity by which `lock_named` found it, if it was found by one.
    """

    number: int
    chatbot_id: int
    message_count: int
    request_id: UUID
    marked_by: UUID
    established_by: str | None = None


# SKIP LOCKED comes before LIMIT: a chunk is filled with conversations that are free.
_MARKED = """
SELECT c.id, c.chatbot_id, c.message_count, c.deletion_request_id, c.deletion_request_id
  FROM conversations_conversation c
 WHERE c.deletion_request_id = ANY(%(ids)s) AND c.chatbot_id = ANY(%(chatbots)s) AND c.deleted_at IS NULL {of_these}
 LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED
"""

# Marked by other deletions, or not marked at all: a restored backup can bring that about. The first mark is kept.
_NAMED_ONLY = f"""
SELECT c.id, c.chatbot_id, c.message_count, r.id, coalesce(c.deletion_request_id, r.id)
  FROM {GIVEN}
 CROSS JOIN LATERAL ({NAMED_IN_SCOPE}) AS s
  JOIN conversations_conversation c ON c.id = s.id AND c.chatbot_id = ANY(%(chatbots)s)
 WHERE c.deleted_at IS NULL
 LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED
"""

# All live conversations of the requests, before the mark.
_LOCK_NAMED = f"""
SELECT c.id, c.chatbot_id, c.message_count, r.id, coalesce(c.deletion_request_id, r.id), named.established_by
  FROM {GIVEN}
 CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named
  JOIN conversations_conversation c ON c.id = named.conversation_id AND c.chatbot_id = ANY(%(chatbots)s)
 WHERE c.deleted_at IS NULL AND c.id <> ALL(%(withheld)s::bigint[])
 ORDER BY r.seq
   FOR UPDATE OF c {{or_else}}
"""

# Where a copy of an erased conversation may be: an export, a file, a daily extract.
_COPIED = """
WITH with_files AS MATERIALIZED (
    SELECT given.number
      FROM unnest(%(numbers)s::bigint[]) AS given(number)
     CROSS JOIN LATERAL (
           SELECT FROM conversations_uploadedfile
            WHERE conversation_id = given.number AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS file
)
SELECT 'export', conversation_id FROM compliance_exportconversation WHERE conversation_id = ANY(%(numbers)s)
 UNION ALL
SELECT 'file', number FROM with_files
 UNION ALL
SELECT 'day', conversation_id FROM conversations_extractconversation WHERE conversation_id = ANY(%(numbers)s)
"""
# The object goes later; a storage may refuse that. Nothing reads such a file any more.
_HIDE_FILES = """
UPDATE conversations_uploadedfile SET state = 'removing', name = ''
 WHERE conversation_id = ANY(%(numbers)s) AND chatbot_id = ANY(%(chatbots)s)
"""

_OF_THESE = sql.SQL("conversation_id = ANY(%(numbers)s) AND chatbot_id = ANY(%(chatbots)s)")
_DELETE_ROWS = sql.SQL(
    "WITH gone AS (DELETE FROM {table} WHERE {of_these} RETURNING conversation_id)"
    " SELECT conversation_id, count(*) FROM gone GROUP BY conversation_id"
)
_DELETE_IDENTITIES = """
DELETE FROM conversations_identity WHERE conversation_id = ANY(%(numbers)s) AND chatbot_id = ANY(%(chatbots)s)
RETURNING conversation_id, value IS NOT NULL
"""
_EMPTY_IDENTITIES = """
UPDATE conversations_identity SET value = NULL, look = NULL
 WHERE conversation_id = ANY(%(numbers)s) AND chatbot_id = ANY(%(chatbots)s) AND value IS NOT NULL
RETURNING conversation_id, TRUE
"""

# The digests of people in erased conversations of which no copy can be left. No copy of an erased one is made any
# more, so what is found stays true. There can be very many of them: their numbers stay a text.
_NAMES = f"""
{{scope}}, erased AS MATERIALIZED (
    SELECT s.id, i.id AS name
      FROM scope
     CROSS JOIN LATERAL (
           SELECT id FROM conversations_conversation
            WHERE id = scope.id AND chatbot_id = ANY(%(chatbots)s) AND deleted_at IS NOT NULL OFFSET 0) AS s
      JOIN conversations_identity i
        ON i.conversation_id = s.id AND i.chatbot_id = ANY(%(chatbots)s) AND i.value IS NULL
     WHERE NOT {HAS_FILES}
)
SELECT array_agg(name)::text FROM erased AS s WHERE NOT {IN_DAYS_OR_EXPORTS}
"""
_NAMES_IN_SCOPE = _NAMES.format(scope=DELETIONS.head)
_NAMES_IN = _NAMES.format(scope="WITH scope AS MATERIALIZED (SELECT unnest(%(numbers)s::bigint[]) AS id)")
_FORGET_NAMES = """
DELETE FROM conversations_identity WHERE chatbot_id = ANY(%(chatbots)s) AND id = ANY(ARRAY(
       SELECT id FROM conversations_identity
        WHERE id = ANY(%(names)s::bigint[]) AND chatbot_id = ANY(%(chatbots)s) AND value IS NULL
          FOR UPDATE SKIP LOCKED))
"""

# By hours: if two messages of one hour are not of the same day, a day ends between them.
_DELETE_MESSAGES = sql.SQL(
    "WITH gone AS (DELETE FROM {table} WHERE {which} RETURNING conversation_id, sent_at)"
    " SELECT conversation_id, count(*), min(sent_at), max(sent_at) FROM gone"
    " GROUP BY conversation_id, date_trunc('hour', sent_at)"
)
_MESSAGES = sql.Identifier(Message._meta.db_table)
_DELETE_ALL_MESSAGES = _DELETE_MESSAGES.format(table=_MESSAGES, which=_OF_THESE)
_DELETE_SOME_MESSAGES = _DELETE_MESSAGES.format(
    table=_MESSAGES,
    which=sql.SQL(
        "chatbot_id = ANY(%(chatbots)s) AND id IN (SELECT id FROM {table} WHERE {of_these} LIMIT %(most)s)"
    ).format(table=_MESSAGES, of_these=_OF_THESE),
)

# Keeps the fields that the inventory keeps, and the mark. The time is the statement's: it is later than the mark's
# cutoff, and not volatile (a distributed table refuses volatile functions in an UPDATE). The marks are not joined as
# a list: if the statistics show few conversations of a chatbot, PostgreSQL would compare all of them with the whole
# list.
_EMPTY_CONVERSATIONS = sql.SQL("""
UPDATE {table} c SET {changes}, deletion_request_id = (%(marks)s::jsonb ->> c.id::text)::uuid,
       deleted_at = statement_timestamp()
 WHERE c.id = ANY(%(numbers)s::bigint[]) AND c.chatbot_id = ANY(%(chatbots)s) RETURNING c.id
""").format(
    table=sql.Identifier(CONVERSATION.table),
    changes=sql.SQL(", ").join(
        [
            *(
                sql.SQL("{} = NULL").format(sql.Identifier(column))
                for column in CONVERSATION.with_disposition(Disposition.EMPTIED)
            ),
            *(
                sql.SQL("{0} = date_trunc('day', {0} AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'").format(
                    sql.Identifier(column)
                )
                for column in CONVERSATION.with_disposition(Disposition.DAY)
            ),
        ]
    ),
)


def fits_one_chunk(sizes: Iterable[Size]) -> bool:
    """Return whether one transaction may erase as much as this; not if the conversations were only partly counted."""
    sizes = list(sizes)
    if any(size.is_counted_in_part for size in sizes):
        return False
    conversations, messages = sum(size.conversations for size in sizes), sum(size.messages for size in sizes)
    return conversations <= CHUNK_CONVERSATIONS and messages <= CHUNK_MESSAGES


def erase_chunk(request_ids: Sequence[UUID]) -> dict[UUID, Counts]:
    """Erase a chunk of the data in the scope of these deletions, in the caller's transaction, and add up the counts.

    Returns the counts: empty if nothing was left, or only rows that others have locked.
    """
    locked = _lock(_MARKED.format(of_these=""), subjects(request_ids)) or _lock_unmarked(request_ids)
    counts = _erase_some(locked, keeps_names=True) if locked else {}
    completion.add_counts(counts)
    return counts


def erase_marked_chunk(request_ids: Sequence[UUID], *, of: Sequence[int] | None = None) -> dict[UUID, Counts]:
    """Erase a chunk of conversations that these requests have marked, `of` these numbers if given; return the counts.

    In the caller's transaction, which adds them up.
    """
    of_these = "" if of is None else "AND c.id = ANY(%(numbers)s::bigint[])"
    locked = _lock(_MARKED.format(of_these=of_these), subjects(request_ids) | {"numbers": array(of or ())})
    return _erase_some(locked) if locked else {}


def lock_named(
    request_ids: Sequence[UUID], *, withheld: Collection[int] = ()
) -> tuple[list[LockedConversation], bool]:
    """Lock the live conversations of these requests, without `withheld` ones; return them in the order of filing,
    once per request.

    An open one will get the request's mark; any other keeps its own. Also returns whether these are all: if not,
    another transaction has locked some.
    """
    values = given(request_ids) | {"withheld": array(withheld)}
    try:
        with transaction.atomic():
            return [LockedConversation(*row) for row in fetch(_LOCK_NAMED.format(or_else="NOWAIT"), values)], True
    except OperationalError as error:
        if not locks.is_lock_unavailable(error):
            raise
    return [LockedConversation(*row) for row in fetch(_LOCK_NAMED.format(or_else="SKIP LOCKED"), values)], False


def erase(
    locked: Sequence[LockedConversation], *, marked_by: Sequence[UUID] = (), keeps_names: bool = False
) -> dict[UUID, Counts]:
    """Mark and erase these locked conversations, in the caller's transaction; return the counts.

    A conversation given for several requests counts for the first. It is skipped while another transaction holds a
    request with free text that has to go with it (`work.free_text`). If a copy may exist, the identities keep their
    digests, so that later requests about the person find it. They also keep them with `keeps_names`, and if several
    requests are about the conversation: until one of these completes, the ledger may lack the erased conversation.
    Exports that hold a conversation expire, and with `marked_by`, the deletions that mark in this transaction, so do
    their chatters' own.
    """
    counts: dict[UUID, Counts] = defaultdict(Counter)
    given_for = Counter(row.number for row in locked)
    locked = _without_free_text(_once(locked), marked_by)
    if not locked:
        exports.expire({}, marked_by=marked_by)
        return counts
    count_of = {row.number: counts[row.request_id] for row in locked}
    values = _values(locked)
    is_extracted = extracts.has_any({row.chatbot_id for row in locked})
    for store in stores(ReachedBy.CONVERSATION):
        if store.model is Message and is_extracted:
            for number, gone in _delete_messages(locked, _DELETE_ALL_MESSAGES, values).items():
                count_of[number][store.counter] += gone
        elif store.model is not Identity:
            delete = _DELETE_ROWS.format(table=sql.Identifier(store.table), of_these=_OF_THESE)
            for number, gone in fetch(delete, values):
                if store.counter:
                    count_of[number][store.counter] += gone
    copies = _hide_files(values)
    copied, exported = set[int]().union(*copies.values()), copies["export"]
    incomplete = {row.request_id for row in locked if row.number in copied}
    named = {
        row.number
        for row in locked
        if keeps_names
        or row.number in copied
        or row.request_id in incomplete
        or row.marked_by != row.request_id
        or given_for[row.number] > 1
    }
    for number, gone in _forget_identities(locked, named).items():
        count_of[number]["identities"] += gone
        count_of[number]["shared_conversations"] += gone > 1
    marks = json.dumps({row.number: row.marked_by.hex for row in locked})
    for (number,) in fetch(_EMPTY_CONVERSATIONS, {**values, "marks": marks}):
        count_of[number]["conversations"] += 1
    exports.expire({row.number: row.request_id for row in locked if row.number in exported}, marked_by=marked_by)
    return counts


def _hide_files(values: Mapping[str, str]) -> dict[str, set[int]]:
    """Hide these conversations' files; return which may have a copy, by its kind: `export`, `file`, `day`."""
    copies: dict[str, set[int]] = defaultdict(set)
    for kind, number in fetch(_COPIED, values):
        copies[kind].add(number)
    if copies["file"]:
        execute(_HIDE_FILES, {**values, "numbers": array(copies["file"])})
    return copies


def forget_names(request_ids: Sequence[UUID]) -> None:
    """Delete the remaining identities in the scope of these deletions where no copy is left.

    In the transaction that completes them.
    """
    _forget_names(_NAMES_IN_SCOPE, subjects(request_ids))


def forget_names_in(numbers: str, chatbot_ids: Collection[int]) -> None:
    """As `forget_names`, of these conversations: the text of an array of their numbers."""
    _forget_names(_NAMES_IN, {"numbers": numbers, "chatbots": array(chatbot_ids)})


def _forget_names(find: str, values: Mapping[str, str]) -> None:
    [(names,)] = fetch(find, values)
    if names:
        execute(_FORGET_NAMES, {"names": names, "chatbots": values["chatbots"]})


def _erase_some(locked: Sequence[LockedConversation], *, keeps_names: bool = False) -> dict[UUID, Counts]:
    """Erase as many of these conversations, or as much of the first, as one chunk may; return the counts."""
    first = locked[0]
    if first.message_count <= CHUNK_MESSAGES:
        return erase(_first_that_fit(locked), keeps_names=keeps_names)
    values = {**_values([first]), "most": str(CHUNK_MESSAGES)}
    gone = sum(_delete_messages([first], _DELETE_SOME_MESSAGES, values).values())
    counts = erase([first], keeps_names=keeps_names) if gone < CHUNK_MESSAGES else {first.request_id: Counter()}
    if gone:
        counts[first.request_id]["messages"] += gone
    return counts


def _without_free_text(
    locked: Sequence[LockedConversation], marked_by: Sequence[UUID]
) -> Sequence[LockedConversation]:
    """Clear the free text on requests about these conversations; return those that may be erased now."""
    found = free_text.of_conversations({row.number: row.chatbot_id for row in locked})
    if not found:
        return locked
    # Exports are locked before requests everywhere: a worker that removes one counts it for its request afterwards.
    exports.expire({row.number: row.request_id for row in locked}, marked_by=marked_by)
    kept = free_text.clear(found, written={row.request_id for row in locked}.union(marked_by))
    return [row for row in locked if row.number not in kept]


def _lock_unmarked(request_ids: Sequence[UUID]) -> list[LockedConversation]:
    """Lock conversations in scope without a mark of these requests, except those under a legal hold."""
    chatbot_ids = chatbots_of(request_ids)
    if locks.try_to_share(chatbot_ids) != chatbot_ids:
        return []  # a mark is under way: a later chunk takes them
    locked = _lock(_NAMED_ONLY, given(request_ids))
    under_hold = legal_holds.find_held(chatbot_ids, [row.number for row in locked])
    return [row for row in locked if row.number not in under_hold]


def _first_that_fit(locked: Sequence[LockedConversation]) -> list[LockedConversation]:
    fitting: list[LockedConversation] = []
    messages = 0
    for row in locked:
        messages += row.message_count
        if fitting and messages > CHUNK_MESSAGES:
            break
        fitting.append(row)
    return fitting


def _lock(statement: str, requests: Mapping[str, str]) -> list[LockedConversation]:
    found = fetch(statement, {**requests, "most": CHUNK_CONVERSATIONS})
    return _once([LockedConversation(*row) for row in found])


def _once(locked: Sequence[LockedConversation]) -> list[LockedConversation]:
    """Return each conversation for the first request that it is given for, in the order of the numbers."""
    first = {row.number: row for row in reversed(locked)}
    return [first[number] for number in sorted(first)]


def _values(locked: Iterable[LockedConversation]) -> dict[str, str]:
    return {
        "numbers": array(row.number for row in locked),
        "chatbots": array({row.chatbot_id for row in locked}),
    }


def _delete_messages(
    locked: Sequence[LockedConversation], statement: sql.Composed, values: Mapping[str, str]
) -> Counter[int]:
    """Delete messages and flag the daily extracts that may hold them; count by conversation."""
    chatbot_of = {row.number: row.chatbot_id for row in locked}
    counts: Counter[int] = Counter()
    spans: list[DeletedSpan] = []
    for number, gone, first, last in fetch(statement, values):
        counts[number] += gone
        spans.append(DeletedSpan(number, chatbot_of[number], first, last))
    extracts.flag(spans)
    return counts


def _forget_identities(locked: Sequence[LockedConversation], named: Collection[int]) -> Counter[int]:
    """Delete the identities, or empty those of `named` conversations; count those that had a value."""
    people: Counter[int] = Counter()
    for statement, keeps_name in ((_DELETE_IDENTITIES, False), (_EMPTY_IDENTITIES, True)):
        some = [row for row in locked if (row.number in named) is keeps_name]
        if some:
            people.update(number for number, had_value in fetch(statement, _values(some)) if had_value)
    return people
