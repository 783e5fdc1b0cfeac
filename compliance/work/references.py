"""Clear references that contain the value of an erased chatter.

Filing refuses references that name the chatter. This finds older ones: those of the same chatter when its deletion
completes, the last time that the value is known, and those of requests by conversation ids and of redactions when one
of their conversations is erased.
"""

from collections.abc import Collection, Mapping, Sequence
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
# One row for each such request, however many conversations and people it meets. The people of redacted conversations
# are looked up anew: what a WITH has found has no index, so each redaction would read all of `c`.
_OF_CONVERSATIONS = f"""
WITH c AS MATERIALIZED (
    SELECT c.id, c.external_id_digest, i.value
      FROM conversations_conversation c
      JOIN conversations_identity i ON i.conversation_id = c.id AND i.chatbot_id = ANY(%(chatbots)s)
       AND i.value IS NOT NULL
     WHERE c.id = ANY(%(conversations)s) AND c.chatbot_id = ANY(%(chatbots)s)
), redactions AS MATERIALIZED (
    SELECT other.id, other.reference, x.conversation_id
      FROM (SELECT request_id, conversation_id FROM compliance_redaction
             WHERE conversation_id = ANY(%(conversations)s) OFFSET 0) AS x
     CROSS JOIN LATERAL (
           SELECT id, reference FROM compliance_compliancerequest
            WHERE id = x.request_id AND reference <> '' OFFSET 0) AS other
), redacted AS MATERIALIZED (
    SELECT x.*, i.value
      FROM redactions AS x
     CROSS JOIN LATERAL (
           SELECT value FROM conversations_identity
            WHERE conversation_id = x.conversation_id AND chatbot_id = ANY(%(chatbots)s)
              AND value IS NOT NULL OFFSET 0) AS i
)
SELECT other.id, other.reference, array_agg(c.id), array_agg(c.value)
  FROM c
 CROSS JOIN LATERAL {sql.NAMING} AS other
 WHERE other.reference <> '' AND {sql.IS_ANY}
 GROUP BY other.id, other.reference
 UNION ALL
SELECT id, reference, array_agg(conversation_id), array_agg(value) FROM redacted GROUP BY id, reference
"""
_LOCK = "SELECT id FROM compliance_compliancerequest WHERE id = ANY(%s) ORDER BY seq FOR NO KEY UPDATE"
_CLEAR = "UPDATE compliance_compliancerequest SET reference = '' WHERE id = ANY(%s)"


def clear_for_chatters(deletion_ids: Sequence[UUID]) -> None:
    """Clear references that contain the value of these deletions' chatters, in the completing transaction.

    That has locked those of `of_chatters` (`transitions.completion`).
    """
    if found := of_chatters(deletion_ids):
        execute(_CLEAR, [array(found)])


def of_chatters(deletion_ids: Sequence[UUID]) -> set[UUID]:
    """Return the requests of these deletions' chatters whose reference contains the chatter's value.

    A reference never changes but to be cleared, so what is returned holds until the caller locks it.
    """
    rows = fetch(_OF_CHATTERS, [array(deletion_ids)])
    return {request_id for request_id, reference, value in rows if holds(reference, value)}


def naming(conversations: Mapping[int, int]) -> dict[UUID, set[int]]:
    """Return the requests whose reference contains the value of a person in conversations that they name.

    Each with those of the conversations, which are given with their chatbots.
    """
    found: dict[UUID, set[int]] = {}
    if not conversations:
        return found  # Citus refuses the statement for no chatbot, which is of no shard
    values = {"conversations": array(conversations), "chatbots": array(set(conversations.values()))}
    for request_id, reference, numbers, people in fetch(_OF_CONVERSATIONS, values):
        if holds(reference, *people):
            pairs = zip(numbers, people, strict=True)
            found[request_id] = {number for number, value in pairs if holds(reference, value)}
    return found


def clear(found: Mapping[UUID, set[int]], *, written: Collection[UUID]) -> set[int]:
    """Clear the references that `naming` found, in the transaction that erases.

    `written` are the requests that the transaction writes; they are locked first. Returns the conversations that
    cannot be erased now, because another transaction has locked a request whose reference must be cleared.
    """
    # First ours, then others' without waiting: so two that erase never wait for each other.
    execute(_LOCK, [array(written)])
    locked = {request_id for (request_id,) in fetch(f"{_LOCK} SKIP LOCKED", [array(found)])}
    execute(_CLEAR, [array(locked)])
    return set[int]().union(*(found[request_id] for request_id in found.keys() - locked))
