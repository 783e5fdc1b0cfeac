"""Unfinished exports by the other selector that must run before a deletion.

The queue orders requests by the same selector (`compliance.work.scheduling`). Whether a chatter's request and one by
conversation ids meet, only the data can say. So it is checked right before the mark.
"""

from collections.abc import Collection
from uuid import UUID

from common.db import fetch
from compliance.work.sql import NAMING, subjects
from conversations.sql import SELECTED_CONVERSATIONS


def blocking(*, requests: str, given: str, statuses: str) -> str:
    """Return SQL with a row for each of `requests` (aliased `r`) that an export with one of `statuses` must precede.

    The row has the column `given` of `r`, and the export's id.
    """
    # Marked conversations are in no export any more. A chatter's export leaves out shared conversations, unless it
    # includes them. Of several exports the last is returned: most likely it ends last.
    return f"""
SELECT DISTINCT ON ({given}) {given}, e.id
  FROM {requests}
 CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named
 CROSS JOIN LATERAL (
       SELECT id, external_id_digest FROM conversations_conversation
        WHERE id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s)
          AND deletion_request_id IS NULL OFFSET 0) AS c
 CROSS JOIN LATERAL (
       SELECT id, seq FROM {NAMING} AS by_ids
        WHERE r.conversation_digests IS NULL AND by_ids.kind = 'export'
          AND by_ids.status IN ({statuses})
        UNION ALL
       SELECT by_chatter.id, by_chatter.seq
         FROM (SELECT variable_id, digest, count(*) OVER () AS people
                 FROM conversations_identity
                WHERE conversation_id = c.id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS i
        CROSS JOIN LATERAL (
              SELECT id, seq FROM compliance_compliancerequest
               WHERE variable_id = i.variable_id AND uci_digest = i.digest AND kind = 'export'
                 AND status IN ({statuses}) AND uci_value IS NOT NULL
                 AND (include_shared OR i.people = 1) OFFSET 0) AS by_chatter
        WHERE r.conversation_digests IS NOT NULL) AS e
 WHERE e.seq < r.seq
 ORDER BY {given}, e.seq DESC
"""


_BLOCKING = blocking(
    requests="(SELECT * FROM compliance_compliancerequest WHERE id = ANY(%(ids)s) OFFSET 0) AS r",
    given="r.id",
    statuses="'accepted', 'on_hold', 'processing', 'failed'",
)


def find(deletion_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Return the deletions that an earlier export by the other selector must precede, with that export."""
    if not deletion_ids:
        return {}
    return dict(fetch(_BLOCKING, subjects(deletion_ids)))
