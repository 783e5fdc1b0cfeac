"""Empty references that tell whom a deletion was about, when it completes.

What names the chatter is refused at filing. What was filed before that, or by conversations' ids (then nobody knows
the chatter's value), is met here: while the deletion still knows the value. Looked at are the requests of the same
chatter, and those that name a conversation which the deletion has erased.
"""

from collections.abc import Sequence
from uuid import UUID

from django.db import connection

from compliance import by_ids
from compliance.selectors import holds
from config.arrays import array

_CANDIDATES = f"""
SELECT other.id, other.reference, r.uci_value
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL (
       SELECT id, reference FROM compliance_compliancerequest
        WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest OFFSET 0) AS other
 WHERE r.id = ANY(%(ids)s) AND r.uci_value IS NOT NULL AND other.reference <> ''
 UNION
SELECT other.id, other.reference, r.uci_value
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL (
       SELECT external_id_digest FROM conversations_conversation
        WHERE deletion_request_id = r.id AND external_id_digest IS NOT NULL OFFSET 0) AS c
 CROSS JOIN LATERAL {by_ids.NAMING} AS other
 WHERE r.id = ANY(%(ids)s) AND r.uci_value IS NOT NULL AND other.reference <> '' AND {by_ids.IS_ANY}
"""  # noqa: S608  (a text of ours)
_EMPTY = """
UPDATE compliance_compliancerequest SET reference = ''
 WHERE id = ANY(ARRAY(SELECT id FROM compliance_compliancerequest
                       WHERE id = ANY(%s) ORDER BY seq FOR NO KEY UPDATE))
"""


def empty(deletion_ids: Sequence[UUID]) -> None:
    """Empty references that hold the value of these deletions' chatters, in the transaction that completes."""
    with connection.cursor() as cursor:
        cursor.execute(_CANDIDATES, {"ids": array(deletion_ids)})
        told = {request_id for request_id, reference, value in cursor.fetchall() if holds(reference, value)}
        if told:
            cursor.execute(_EMPTY, [array(told)])
