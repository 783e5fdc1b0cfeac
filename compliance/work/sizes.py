"""Measure a claim's requests before work on them, by the counters of conversations: large ones get their own lane.

A chatter with millions of messages takes minutes, which would delay the other requests of a claim; a few could occupy
every worker.
"""

from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction

from common.db import array, fetch
from compliance.models import ComplianceRequest
from compliance.work.claims import HeldClaim
from compliance.work.sql import chatbots_of, digests_of
from conversations import placement
from conversations.documents import MAX_TEXT
from conversations.sql import SELECTED_CONVERSATIONS

Kind = ComplianceRequest.Kind

# More rows than this take more than a few tenths of a second.
LARGE_MESSAGES = 10_000
LARGE_CONVERSATIONS = 1_000
LARGE_TEXT_BYTES = 64 * 1024 * 1024
# An export copies files one by one; a deletion removes many in a call, whatever their sizes.
LARGE_FILES = {Kind.EXPORT: 50, Kind.DELETION: 1_000}
LARGE_FILE_BYTES = {Kind.EXPORT: 64 * 1024 * 1024, Kind.DELETION: None}
# As many exports in several formats take as long as a large one: they are read and sent one after the other.
FORMATS_AT_ONCE = 10

# A character has up to 4 bytes in UTF-8.
_MOST_BYTES_OF_TEXT = 4 * MAX_TEXT

# Counting stops one above the limit: a value shared by 100,000 conversations costs no more than one shared by 1,001.
# Most requests have no files and little text, and pay for neither. Files are looked up if a live conversation has
# some, or an erased one may have some left. Texts, whose lengths are known without reading them, are looked up if
# there are many messages. Neither is looked up for requests that are large anyway.
_MEASURE = f"""
WITH r AS MATERIALIZED (
    SELECT r.id, r.chatbot_id, r.variable_id, r.uci_digest, {digests_of("r")} AS conversation_digests,
           r.include_files, r.formats <> 'csv' OR r.archive <> '' AS is_apart,
           greatest(b.max_conversations_per_deletion, %(most)s) AS most
      FROM (SELECT * FROM compliance_compliancerequest WHERE claim_id = %(claim)s) AS r
      JOIN chatbots_chatbot b ON b.id = r.chatbot_id
), measured AS MATERIALIZED (
    SELECT r.id, live.conversations, live.messages, counted.conversations AS named,
           greatest(held.files, held.bytes, said.bytes, r.is_apart::int::float / %(apart)s) AS load
      FROM r
     CROSS JOIN LATERAL (
        SELECT count(*) AS conversations, coalesce(sum(message_count), 0)::bigint AS messages,
               bool_or(has_file_upload) AS has_files
          FROM (SELECT c.*
                  FROM ({SELECTED_CONVERSATIONS}) AS named
                 CROSS JOIN LATERAL (
                       SELECT message_count, has_file_upload FROM conversations_conversation
                        WHERE id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s)
                          AND deleted_at IS NULL) AS c
                 LIMIT r.most + 1) AS each) AS live
     CROSS JOIN LATERAL (
        SELECT count(*) AS conversations
          FROM (SELECT FROM ({SELECTED_CONVERSATIONS}) AS each LIMIT %(most)s + 1) AS each) AS counted
     CROSS JOIN LATERAL (
        SELECT count(*)::float / %(files)s AS files, coalesce(sum(size), 0)::float / %(file_bytes)s AS bytes
          FROM (SELECT f.size
                  FROM ({SELECTED_CONVERSATIONS}) AS named
                 CROSS JOIN LATERAL (
                       SELECT size FROM conversations_uploadedfile
                        WHERE conversation_id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s)
                          AND (state = 'stored' OR NOT %(copies)s)) AS f
                 WHERE (r.include_files OR NOT %(copies)s) AND counted.conversations <= %(most)s
                   AND (live.has_files OR live.conversations < counted.conversations)
                 LIMIT %(files)s + 1) AS each) AS held
     CROSS JOIN LATERAL (
        SELECT coalesce(sum(m.bytes), 0)::float / %(text_bytes)s AS bytes
          FROM ({SELECTED_CONVERSATIONS}) AS named
         CROSS JOIN LATERAL (
               SELECT octet_length(text) AS bytes FROM conversations_message
                WHERE conversation_id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s)) AS m
         WHERE counted.conversations <= %(most)s
           AND live.messages BETWEEN %(few_messages)s AND %(messages)s) AS said
) SELECT * FROM measured
"""


class Size(NamedTuple):
    """Live conversations of a request and their messages, counted up to the guard's limit.

    `named` includes erased conversations, each of which may have data left. `load` is the amount of files to copy or
    remove, or of text, in proportion to that of a large request; that of several formats is a fixed one.
    """

    conversations: int
    messages: int
    named: int
    load: float = 0

    @property
    def is_counted_in_part(self) -> bool:
        """Whether there may be more conversations and messages than were counted."""
        return self.conversations > LARGE_CONVERSATIONS

    @property
    def is_large(self) -> bool:
        return self.messages > LARGE_MESSAGES or self.named > LARGE_CONVERSATIONS or self.load > 1


def measure(held: HeldClaim) -> dict[UUID, Size]:
    values: dict[str, Any] = {
        "claim": held.id,
        "chatbots": array(chatbots_of(held.request_ids)),
        "copies": held.kind == Kind.EXPORT,
        "most": LARGE_CONVERSATIONS,
        "messages": LARGE_MESSAGES,
        # Fewer messages are not that long.
        "few_messages": LARGE_TEXT_BYTES // _MOST_BYTES_OF_TEXT,
        "text_bytes": LARGE_TEXT_BYTES,
        "apart": FORMATS_AT_ONCE,
        "files": LARGE_FILES[held.kind],
        "file_bytes": LARGE_FILE_BYTES[held.kind],
    }
    with transaction.atomic():
        placement.find_by_index()
        return {request_id: Size(*counts) for request_id, *counts in fetch(_MEASURE, values)}
