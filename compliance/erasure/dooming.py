"""Which earlier exports a deletion has to remove, and which it leaves: decided in the transaction of the mark.

So no export is made while the deletion runs and then forgotten.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

from django.conf import settings
from django.db import connection

from chatbots import public_ids
from chatbots.secrets import digest
from compliance import by_ids
from config.arrays import array

# The request by which it was met, variable and value.
Companion = tuple[UUID, int, str]

# The others who were in the marked conversations: their exports hold copies of these conversations too.
_COMPANIONS = """
SELECT DISTINCT r.id, i.variable_id, i.value
  FROM compliance_compliancerequest r
  JOIN conversations_conversation c ON c.deletion_request_id = r.id AND c.deleted_at IS NULL
  JOIN conversations_identity i ON i.conversation_id = c.id
 WHERE r.id = ANY(%s) AND (i.variable_id, i.value) IS DISTINCT FROM (r.variable_id, r.uci_value)
"""

# Exports of certain conversations hold what is erased, whoever was in it. Those that a deletion by ids names are its
# own, also if they are erased already; such a deletion may come later than the one that erased them. Where nobody has
# filed such an export the first condition is false, and nothing is looked up.
_EXPORTS_BY_ID = f"""
SELECT x.id, c.request_id, bool_or(c.is_own)
  FROM (SELECT c.deletion_request_id AS request_id, c.external_id_digest, FALSE AS is_own
          FROM conversations_conversation c WHERE c.deletion_request_id = ANY(%(deletions)s)
         UNION ALL
        SELECT r.id, c.external_id_digest, TRUE
          FROM compliance_compliancerequest r
          JOIN conversations_conversation c
            ON c.chatbot_id = r.chatbot_id AND c.external_id_digest = ANY(r.conversation_digests)
         WHERE r.id = ANY(%(deletions)s)) AS c
 CROSS JOIN LATERAL {by_ids.NAMING} AS x
 WHERE x.kind = 'export' AND {by_ids.IS_ANY}
 GROUP BY 1, 2
"""  # noqa: S608  (a text of ours)

# An export finished within the grace is the copy the person asked for: it lives until the grace is over, unless
# the deletion says otherwise. One in a client's bucket is the client's as soon as it is whole. Everything else that
# has a key must go, half-written leftovers included. Of several deletions that meet one export, one that wants it
# gone is enough; of those that leave it, the chatter's own names it, else the first that is not over.
_DOOM = f"""
WITH holding(export_request_id, request_id, is_own) AS (
    SELECT x.id, r.id, (whose.variable_id, whose.digest) IS NOT DISTINCT FROM (r.variable_id, r.uci_digest)
      FROM unnest(%(requests)s::uuid[], %(variables)s::bigint[], %(digests)s::bytea[])
             AS whose(request_id, variable_id, digest)
      JOIN compliance_compliancerequest r ON r.id = whose.request_id
      JOIN compliance_compliancerequest x ON x.variable_id = whose.variable_id AND x.uci_digest = whose.digest
     UNION ALL
    ({_EXPORTS_BY_ID})
), met AS (
    SELECT DISTINCT ON (old.id) old.id, r.id AS request_id, kept.so AS is_kept, grace.days AS grace, holding.is_own
      FROM holding
      JOIN compliance_compliancerequest r ON r.id = holding.request_id
      JOIN compliance_export old ON old.request_id = holding.export_request_id AND old.key IS NOT NULL
     CROSS JOIN make_interval(secs => %(grace)s) AS grace(days)
     CROSS JOIN LATERAL (
           SELECT CASE old.hosting
                  WHEN 'client' THEN old.finished_at IS NOT NULL
                  ELSE NOT r.erase_exports AND coalesce(old.finished_at > %(cut)s - grace.days, FALSE)
                  END AS so) AS kept
     ORDER BY old.id, kept.so, holding.is_own DESC, r.seq
)
UPDATE compliance_export e
   SET doomed_by = CASE WHEN met.is_kept THEN e.doomed_by ELSE met.request_id END,
       left_by = CASE
           WHEN NOT met.is_kept THEN NULL
           WHEN met.is_own OR e.left_by IS NULL
                OR NOT EXISTS (SELECT 1 FROM compliance_compliancerequest d
                                WHERE d.id = e.left_by AND d.status IN ('accepted', 'processing'))
           THEN met.request_id ELSE e.left_by END,
       expires_at = CASE WHEN met.is_kept AND e.hosting = 'hosted'
                         THEN least(e.expires_at, e.finished_at + met.grace) ELSE e.expires_at END
  FROM met
 WHERE e.id = met.id AND e.key IS NOT NULL
"""  # noqa: S608  (a text of ours)


class Fresh(NamedTuple):
    """A deletion that has not marked yet. One of certain conversations names no chatter."""

    request_id: UUID
    chatbot_id: int
    variable_id: int | None
    value: str | None
    digest: bytes | None


def companions(request_ids: Sequence[UUID]) -> list[Companion]:
    """Return the others who were in what these requests have marked and not erased yet."""
    with connection.cursor() as cursor:
        cursor.execute(_COMPANIONS, [array(request_ids)])
        return cast("list[Companion]", cursor.fetchall())


def doom_exports(fresh: Sequence[Fresh], companions: Collection[Companion], cut: datetime) -> None:
    """Doom the earlier exports of these chatters, of their companions and of these conversations.

    In the bite that marks, after the mark.
    """
    whose: list[tuple[UUID, int, bytes]] = [
        (request.request_id, request.variable_id, request.digest)
        for request in fresh
        if request.variable_id is not None and request.digest is not None
    ]
    scopes = public_ids.of_variables(variable_id for _, variable_id, _ in companions)
    whose += [
        (request_id, variable_id, digest("chatter", scopes[variable_id], value))
        for request_id, variable_id, value in companions
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            _DOOM,
            {
                "deletions": array(request.request_id for request in fresh),
                "requests": array(row[0] for row in whose),
                "variables": array(row[1] for row in whose),
                "digests": [row[2] for row in whose],
                "cut": cut,
                "grace": settings.EXPORT_GRACE_DAYS.total_seconds(),
            },
        )
