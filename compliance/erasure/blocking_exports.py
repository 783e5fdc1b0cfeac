"""Exports that are not over, named by the other selector, and still owe what a deletion would erase.

Requests by one selector run in queue order (`compliance.work.scheduling`). Between a chatter's requests and
those by conversations only the data tells whether they meet, so it is asked right before a deletion goes on.
"""

from collections.abc import Collection
from uuid import UUID

from common.db import array, fetch
from compliance.work.sql import NAMING
from conversations.sql import SELECTED_CONVERSATIONS


def blocking(*, requests: str, given: str, statuses: str) -> str:
    """Return the SQL of a row for each of `requests` (aliased `r`) that such an export must precede.

    The row has the column `given` of `r`, and the export's id. `statuses` are those of exports that count.
    """
    # What is marked already is in no export any more. A chatter's export leaves shared conversations out, unless it
    # says otherwise. Of several the last is waited for: most likely it is over last.
    return f"""
SELECT DISTINCT ON ({given}) {given}, e.id
  FROM {requests}
 CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named
 CROSS JOIN LATERAL (
       SELECT id, external_id_digest FROM conversations_conversation
        WHERE id = named.conversation_id AND deletion_request_id IS NULL OFFSET 0) AS c
 CROSS JOIN LATERAL (
       SELECT id, seq FROM {NAMING} AS by_ids
        WHERE r.conversation_digests IS NULL AND by_ids.kind = 'export'
          AND by_ids.status IN ({statuses})
        UNION ALL
       SELECT by_chatter.id, by_chatter.seq
         FROM (SELECT variable_id, digest, count(*) OVER () AS people
                 FROM conversations_identity WHERE conversation_id = c.id OFFSET 0) AS i
        CROSS JOIN LATERAL (
              SELECT id, seq FROM compliance_compliancerequest
               WHERE variable_id = i.variable_id AND uci_digest = i.digest AND kind = 'export'
                 AND status IN ({statuses}) AND uci_value IS NOT NULL
                 AND (include_shared OR i.people = 1) OFFSET 0) AS by_chatter
        WHERE r.conversation_digests IS NOT NULL) AS e
 WHERE e.seq < r.seq
 ORDER BY {given}, e.seq DESC
"""  # noqa: S608  (texts of ours)


_BLOCKING = blocking(
    requests="(SELECT * FROM compliance_compliancerequest WHERE id = ANY(%s) OFFSET 0) AS r",
    given="r.id",
    statuses="'accepted', 'on_hold', 'processing', 'failed'",
)


def find(deletion_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Return those of these deletions that an earlier export by the other selector must precede, with the export."""
    if not deletion_ids:
        return {}
    return dict(fetch(_BLOCKING, [array(deletion_ids)]))
