"""Exports that are not over, named by the other selector, and still owe what a deletion would erase.

Requests by one selector are ordered by the line (`compliance.line`). Between a chatter's requests and those by
conversations only the data tells whether they meet, so it is asked right before a deletion goes on.
"""

from collections.abc import Collection
from uuid import UUID

from django.db import connection

from chatbots import public_ids
from chatbots.secrets import digest
from compliance.by_ids import NAMING
from config.arrays import array
from conversations.named import NAMED

# What is marked already is in no export any more. Of several the last is waited for: most likely it is over last.
_BY_IDS = f"""
SELECT DISTINCT ON (r.id) r.id, e.id
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL ({NAMED}) AS named
  JOIN conversations_conversation c ON c.id = named.conversation_id AND c.deletion_request_id IS NULL
 CROSS JOIN LATERAL {NAMING} AS e
 WHERE r.id = ANY(%s) AND e.seq < r.seq AND e.kind = 'export'
   AND e.status IN ('accepted', 'on_hold', 'processing', 'failed')
 ORDER BY r.id, e.seq DESC
"""  # noqa: S608  (a text of ours)

_PEOPLE = f"""
SELECT r.id, i.variable_id, i.value, i.people
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL ({NAMED}) AS named
  JOIN conversations_conversation c ON c.id = named.conversation_id AND c.deletion_request_id IS NULL
 CROSS JOIN LATERAL (
       SELECT variable_id, value, count(*) OVER () AS people
         FROM conversations_identity WHERE conversation_id = c.id OFFSET 0) AS i
 WHERE r.id = ANY(%s)
"""  # noqa: S608  (a text of ours)
# A chatter's export leaves shared conversations out, unless it says otherwise.
_BY_CHATTERS = """
SELECT DISTINCT ON (whose.request_id) whose.request_id, e.id
  FROM unnest(%(requests)s::uuid[], %(variables)s::bigint[], %(digests)s::bytea[], %(shared)s::boolean[])
         AS whose(request_id, variable_id, digest, is_shared)
  JOIN compliance_compliancerequest r ON r.id = whose.request_id
  JOIN compliance_compliancerequest e
    ON e.variable_id = whose.variable_id AND e.uci_digest = whose.digest AND e.seq < r.seq AND e.kind = 'export'
   AND e.status IN ('accepted', 'on_hold', 'processing', 'failed') AND e.uci_value IS NOT NULL
   AND (e.include_shared OR NOT whose.is_shared)
 ORDER BY whose.request_id, e.seq DESC
"""


def by_exports_of_conversations(deletion_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Return those of these deletions of chatters that an earlier export by ids must precede, with the export."""
    with connection.cursor() as cursor:
        cursor.execute(_BY_IDS, [array(deletion_ids)])
        return dict(cursor.fetchall())


def by_exports_of_chatters(deletion_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Return those of these deletions by ids that an earlier export of a chatter must precede, with the export."""
    with connection.cursor() as cursor:
        cursor.execute(_PEOPLE, [array(deletion_ids)])
        found = cursor.fetchall()
        scopes = public_ids.of_variables(variable for _, variable, _, _ in found)
        people = [
            (request_id, variable, digest("chatter", scopes[variable], value), people > 1)
            for request_id, variable, value, people in found
        ]
        cursor.execute(
            _BY_CHATTERS,
            {
                "requests": array(row[0] for row in people),
                "variables": array(row[1] for row in people),
                "digests": [row[2] for row in people],
                "shared": [row[3] for row in people],
            },
        )
        return dict(cursor.fetchall())
