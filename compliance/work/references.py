"""Empty references that tell whom a deletion was about.

What names the chatter is refused at filing. What was filed before that is met here: a request of the same chatter
when the deletion completes, the last time that anybody knows the value; and one by conversations' ids when a
conversation that it names is erased, for then it is known who was in there, whichever of them asked.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from django.db import connection

from common.arrays import array
from common.matching import holds
from compliance.work import sql

_OF_CHATTERS = """
SELECT other.id, other.reference, r.uci_value
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL (
       SELECT id, reference FROM compliance_compliancerequest
        WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest OFFSET 0) AS other
 WHERE r.id = ANY(%s) AND r.uci_value IS NOT NULL AND other.reference <> ''
"""
_OF_CONVERSATIONS = f"""
SELECT c.id, other.id, other.reference, i.value
  FROM conversations_conversation c
  JOIN conversations_identity i ON i.conversation_id = c.id AND i.value IS NOT NULL
 CROSS JOIN LATERAL {sql.NAMING} AS other
 WHERE c.id = ANY(%s) AND other.reference <> '' AND {sql.IS_ANY}
"""
_LOCK = "SELECT id FROM compliance_compliancerequest WHERE id = ANY(%s) ORDER BY seq FOR NO KEY UPDATE"
_EMPTY = "UPDATE compliance_compliancerequest SET reference = '' WHERE id = ANY(%s)"


def empty_of_chatters(deletion_ids: Sequence[UUID]) -> None:
    """Empty references that hold the value of these deletions' chatters, in the transaction that completes them."""
    with connection.cursor() as cursor:
        cursor.execute(_OF_CHATTERS, [array(deletion_ids)])
        told = {request_id for request_id, reference, value in cursor.fetchall() if holds(reference, value)}
        if told:
            # Together, since two that complete can each have to empty the other's.
            cursor.execute(_LOCK, [array(told.union(deletion_ids))])
            cursor.execute(_EMPTY, [array(told)])


def empty_of_conversations(conversation_ids: Iterable[int], *, written: Collection[UUID]) -> set[int]:
    """Empty references that hold the value of somebody in these conversations, in the transaction that erases them.

    `written` are the requests that the transaction writes, which are locked then. Return the conversations that
    cannot be erased now, since somebody else has locked a request whose reference is to be emptied.
    """
    with connection.cursor() as cursor:
        cursor.execute(_OF_CONVERSATIONS, [array(conversation_ids)])
        named: dict[UUID, set[int]] = defaultdict(set)
        for conversation_id, request_id, reference, value in cursor.fetchall():
            if holds(reference, value):
                named[request_id].add(conversation_id)
        if not named:
            return set()
        # First ours, then others' without waiting: so two that erase never wait for each other.
        cursor.execute(_LOCK, [array(written)])
        cursor.execute(f"{_LOCK} SKIP LOCKED", [array(named)])
        told = {request_id for (request_id,) in cursor.fetchall()}
        cursor.execute(_EMPTY, [array(told)])
        return set[int]().union(*(named[request_id] for request_id in named.keys() - told))
