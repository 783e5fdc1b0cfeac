"""Clear references that contain the value of an erased chatter.

Filing refuses references that name the chatter. This finds older ones: those of the same chatter when its deletion
completes, the last time that the value is known, and those of requests by conversation ids when one of their
conversations is erased.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from common.db import array, execute, fetch
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
_CLEAR = "UPDATE compliance_compliancerequest SET reference = '' WHERE id = ANY(%s)"


def clear_for_chatters(deletion_ids: Sequence[UUID]) -> None:
    """Clear references that contain the value of these deletions' chatters, in the completing transaction."""
    rows = fetch(_OF_CHATTERS, [array(deletion_ids)])
    found = {request_id for request_id, reference, value in rows if holds(reference, value)}
    if found:
        # Locked together, since two completing deletions can each have to clear the other's.
        execute(_LOCK, [array(found.union(deletion_ids))])
        execute(_CLEAR, [array(found)])


def clear_for_conversations(conversation_ids: Iterable[int], *, written: Collection[UUID]) -> set[int]:
    """Clear references that contain the value of a person in these conversations, in the erasing transaction.

    `written` are the requests that the transaction writes; they are locked first. Returns the conversations that
    cannot be erased now, because another transaction has locked a request whose reference must be cleared.
    """
    named: dict[UUID, set[int]] = defaultdict(set)
    for conversation_id, request_id, reference, value in fetch(_OF_CONVERSATIONS, [array(conversation_ids)]):
        if holds(reference, value):
            named[request_id].add(conversation_id)
    if not named:
        return set()
    # First ours, then others' without waiting: so two that erase never wait for each other.
    execute(_LOCK, [array(written)])
    locked = {request_id for (request_id,) in fetch(f"{_LOCK} SKIP LOCKED", [array(named)])}
    execute(_CLEAR, [array(locked)])
    return set[int]().union(*(named[request_id] for request_id in named.keys() - locked))
