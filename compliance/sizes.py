"""How much a claim's requests name, before anything is done: what is large goes into a lane of its own.

A chatter with millions of messages takes minutes. In a claim with others it would hold them up, and a few such
could have every worker. So they are measured first, from the counters that conversations keep.
"""

from typing import NamedTuple
from uuid import UUID

from django.db import connection

from compliance.claims import HeldClaim

# More than this takes more than a few tenths of a second.
LARGE_MESSAGES = 10_000
LARGE_CONVERSATIONS = 1_000

# Counting stops one above what matters: a value shared by 100,000 conversations costs no more than one of 1,001.
_MEASURE = """
SELECT r.id, named.conversations, named.messages
  FROM compliance_compliancerequest r
  JOIN chatbots_chatbot b ON b.id = r.chatbot_id
 CROSS JOIN LATERAL (
    SELECT count(*) AS conversations, coalesce(sum(message_count), 0)::bigint AS messages
      FROM (SELECT c.message_count
              FROM conversations_identity i JOIN conversations_conversation c ON c.id = i.conversation_id
             WHERE i.chatbot_id = r.chatbot_id AND i.variable_id = r.variable_id AND i.value = r.uci_value
             LIMIT greatest(b.max_conversations_per_deletion, %(most)s) + 1) AS each) AS named
 WHERE r.claim_id = %(claim)s
"""


class Size(NamedTuple):
    """Conversations and messages that name the chatter; counted up to what the guard needs to know."""

    conversations: int
    messages: int

    @property
    def is_large(self) -> bool:
        return self.messages > LARGE_MESSAGES or self.conversations > LARGE_CONVERSATIONS


def measure(held: HeldClaim) -> dict[UUID, Size]:
    """Return the size of each request of the claim."""
    with connection.cursor() as cursor:
        cursor.execute(_MEASURE, {"claim": held.id, "most": LARGE_CONVERSATIONS})
        return {
            request_id: Size(conversations, messages) for request_id, conversations, messages in cursor.fetchall()
        }
