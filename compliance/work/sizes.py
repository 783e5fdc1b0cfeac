"""Measure a claim's requests before work on them, by the counters of conversations: large ones get their own lane.

A chatter with millions of messages takes minutes, which would delay the other requests of a claim; a few could occupy
every worker.
"""

from typing import NamedTuple
from uuid import UUID

from django.db import transaction

from common.db import BY_INDEX, array, execute, fetch
from compliance.work.claims import HeldClaim
from compliance.work.sql import chatbots_of
from conversations.sql import SELECTED_CONVERSATIONS

# More than this takes more than a few tenths of a second.
LARGE_MESSAGES = 10_000
LARGE_CONVERSATIONS = 1_000
# Exports that copy files.
LARGE_FILES = 50
LARGE_FILE_BYTES = 64 * 1024 * 1024

# OFFSET 0 keeps PostgreSQL from reading all requests of the chatbots when it knows how few chatbots there are.
# Counting stops one above what matters: a value shared by 100,000 conversations costs no more than one shared by
# 1,001.
_MEASURE = f"""
WITH r AS MATERIALIZED (
    SELECT r.id, r.chatbot_id, r.variable_id, r.uci_digest, r.conversation_digests, r.include_files,
           greatest(b.max_conversations_per_deletion, %(most)s) AS most
      FROM (SELECT * FROM compliance_compliancerequest WHERE claim_id = %(claim)s OFFSET 0) AS r
      JOIN chatbots_chatbot b ON b.id = r.chatbot_id
), measured AS MATERIALIZED (
    SELECT r.id, live.conversations, live.messages, named.conversations AS named, held.files, held.bytes
      FROM r
     CROSS JOIN LATERAL (
        SELECT count(*) AS conversations, coalesce(sum(message_count), 0)::bigint AS messages
          FROM (SELECT c.message_count
                  FROM ({SELECTED_CONVERSATIONS}) AS named
                  JOIN conversations_conversation c ON c.id = named.conversation_id
                   AND c.chatbot_id = ANY(%(chatbots)s) AND c.deleted_at IS NULL
                 LIMIT r.most + 1) AS each) AS live
     CROSS JOIN LATERAL (
        SELECT count(*) AS conversations
          FROM (SELECT FROM ({SELECTED_CONVERSATIONS}) AS each LIMIT %(most)s + 1) AS each) AS named
     CROSS JOIN LATERAL (
        SELECT count(*) AS files, coalesce(sum(size), 0)::bigint AS bytes
          FROM (SELECT f.size
                  FROM ({SELECTED_CONVERSATIONS}) AS named
                 CROSS JOIN LATERAL (
                       SELECT size FROM conversations_uploadedfile
                        WHERE conversation_id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s)
                          AND state = 'stored' OFFSET 0) AS f
                 WHERE r.include_files
                 LIMIT %(files)s + 1) AS each) AS held
) SELECT * FROM measured
"""


class Size(NamedTuple):
    """Live conversations of a request and their messages, counted up to what the guard needs.

    `named` includes erased conversations, each of which may have something left. Files only count for exports that
    copy them, up to what is large.
    """

    conversations: int
    messages: int
    named: int
    files: int = 0
    file_bytes: int = 0

    @property
    def is_counted_in_part(self) -> bool:
        """Whether there may be more conversations and messages than were counted."""
        return self.conversations > LARGE_CONVERSATIONS

    @property
    def is_large(self) -> bool:
        is_much = self.messages > LARGE_MESSAGES or self.named > LARGE_CONVERSATIONS
        return is_much or self.files > LARGE_FILES or self.file_bytes > LARGE_FILE_BYTES


def measure(held: HeldClaim) -> dict[UUID, Size]:
    values = {
        "claim": held.id,
        "chatbots": array(chatbots_of(held.request_ids)),
        "most": LARGE_CONVERSATIONS,
        "files": LARGE_FILES,
    }
    with transaction.atomic():
        execute(BY_INDEX)
        return {request_id: Size(*counts) for request_id, *counts in fetch(_MEASURE, values)}
