"""Start and complete exports."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings

from common.db import array, execute, fetch
from compliance.models import ComplianceRequest
from compliance.work.claims import HeldClaim
from compliance.work.transitions.completion import complete
from compliance.work.transitions.counters import Counts, add_counts
from compliance.work.transitions.requeue import log

# Compare the chatbots last: without statistics, PostgreSQL would read all of their requests.
_START_EXPORTS = """
WITH claimed AS (
    SELECT id, chatbot_id FROM compliance_compliancerequest WHERE claim_id = %(claim)s ORDER BY seq FOR UPDATE
)
UPDATE compliance_compliancerequest r
   SET status = 'processing', started_at = coalesce(r.started_at, %(now)s), cutoff_at = %(now)s
  FROM claimed WHERE r.id = claimed.id AND claimed.chatbot_id = ANY(%(chatbots)s)
"""

# Lock in order of id, as everyone who locks many of them. If the chatter's deletion has marked meanwhile, the file
# expires as if the deletion had found it.
_FINISH_EXPORTS = """
WITH delivered AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(keys)s::text[], %(rows)s::bigint[], %(sizes)s::bigint[],
                         %(digests)s::text[]) AS file(id, key, rows, bytes, sha256)
), ours AS (
    SELECT e.id,
           EXISTS (SELECT FROM compliance_compliancerequest later
                    WHERE later.variable_id = r.variable_id AND later.uci_digest = r.uci_digest
                      AND later.seq > r.seq AND later.kind = 'deletion' AND later.cutoff_at IS NOT NULL) AS is_erased
      FROM delivered
      JOIN compliance_export e ON e.id = delivered.id
      JOIN compliance_compliancerequest r ON r.id = e.request_id
     WHERE e.key = delivered.key AND e.expires_at IS NULL AND r.claim_id = %(claim)s
     ORDER BY e.id
       FOR UPDATE OF e
)
UPDATE compliance_export e
   SET rows = delivered.rows, bytes = delivered.bytes, sha256 = delivered.sha256, upload_id = NULL,
       finished_at = %(now)s, expires_at = CASE WHEN e.hosting <> 'hosted' THEN NULL
                                                WHEN ours.is_erased THEN least(%(expires)s, %(grace)s)
                                                ELSE %(expires)s END
  FROM ours JOIN delivered ON delivered.id = ours.id
 WHERE e.id = ours.id
RETURNING e.request_id
"""


def start_exports(held: HeldClaim, now: datetime, chatbot_ids: Collection[int]) -> list[ComplianceRequest]:
    """Start the claim's exports for these chatbots, in the caller's transaction, and return them."""
    execute(_START_EXPORTS, {"claim": held.id, "now": now, "chatbots": list(chatbot_ids)})
    claimed = ComplianceRequest.objects.filter(claim=held.id).order_by("seq")
    requests = [request for request in claimed if request.chatbot_id in chatbot_ids]
    log("request.started", requests)
    return requests


@dataclass(frozen=True)
class Delivered:
    """A complete export file under its key, and its counts."""

    request_id: UUID
    chatbot_id: int
    export_id: int
    key: str
    rows: int
    bytes: int
    sha256: str
    counts: Counts


def complete_exports(held: HeldClaim, files: Sequence[Delivered]) -> list[UUID]:
    """Complete exports whose files are under their keys. Raises ClaimLost.

    Returns the requests that cannot complete: a deletion has reached one of their conversations since, so the file
    must be removed and the export rebuilt from what is left.
    """

    def publish(now: datetime, chatbots: set[int]) -> set[UUID]:
        return _publish(held, [file for file in files if file.chatbot_id in chatbots], now)

    # Under the lock, so that marking sees an export either unfinished or finished with all its counts.
    finished = set(held.share_with_intake((file.chatbot_id for file in files), publish))
    return [file.request_id for file in files if file.request_id not in finished]


def _publish(held: HeldClaim, files: Sequence[Delivered], now: datetime) -> set[UUID]:
    finished = {
        row[0]
        for row in fetch(
            _FINISH_EXPORTS,
            {
                "claim": held.id,
                "now": now,
                "expires": now + settings.HOSTED_FILE_DAYS,
                "grace": now + settings.EXPORT_GRACE_DAYS,
                "ids": array(file.export_id for file in files),
                "keys": [file.key for file in files],
                "rows": array(file.rows for file in files),
                "sizes": array(file.bytes for file in files),
                "digests": [file.sha256 for file in files],
            },
        )
    }
    add_counts({file.request_id: file.counts for file in files if file.request_id in finished})
    complete(held, list(finished), now)
    return finished
