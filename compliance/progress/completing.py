"""Complete requests. What is completed forgets the chatter's value."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection

from chatbots import changelog
from compliance.by_ids import SHARING
from compliance.callbacks.announcing import announce
from compliance.claims import HeldClaim
from compliance.progress.claimed import ACTOR
from config.arrays import array
from conversations.named import NAMED

# One that named conversations forgets them when nothing is left of any: with the rest it can still be retried.
_FORGET_FAILED = f"""
WITH of_conversations AS (
    UPDATE compliance_compliancerequest SET conversation_digests = NULL, callback_url = ''
     WHERE id IN (
           SELECT earlier.id
             FROM compliance_compliancerequest r
            CROSS JOIN LATERAL {SHARING} AS earlier
            WHERE r.id = ANY(%(ids)s) AND r.claim_id = %(claim)s AND earlier.seq < r.seq
              AND earlier.status = 'failed' AND (earlier.kind = 'export' OR earlier.failed_at <= r.cut_at)
              AND NOT EXISTS (SELECT FROM (SELECT earlier.*) AS r CROSS JOIN LATERAL ({NAMED}) AS named))
)
UPDATE compliance_compliancerequest earlier SET uci_value = NULL, callback_url = ''
  FROM compliance_compliancerequest r
 WHERE r.id = ANY(%(ids)s) AND r.claim_id = %(claim)s
   AND earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest AND earlier.seq < r.seq
   AND earlier.status = 'failed' AND earlier.uci_value IS NOT NULL
   AND (earlier.kind = 'export' OR earlier.failed_at <= r.cut_at)
"""  # noqa: S608  (a text of ours)

_COMPLETE = """
UPDATE compliance_compliancerequest
   SET status = 'completed', completed_at = %s, claim_id = NULL, uci_value = NULL,
       conversations_total = greatest(conversations_total, conversations),
       result = CASE WHEN conversations_total + conversations + files + exports > 0
                     THEN 'done' ELSE 'nothing_found' END,
       error_code = '', error_detail = ''
 WHERE id = ANY(%s) AND claim_id = %s
RETURNING id, chatbot_id, result, conversations, messages, files, exports
"""


def complete_deletions(held: HeldClaim, request_ids: Iterable[UUID]) -> None:
    """Complete deletions whose second look found nothing; earlier failed requests forget whom they named, too.

    Not a deletion that failed after the mark: the mark has not taken over what that one left.
    """
    with held.bite() as now:
        ids = list(request_ids)
        with connection.cursor() as cursor:
            cursor.execute(_FORGET_FAILED, {"ids": array(ids), "claim": held.id})
        complete(held, ids, now)


def complete(held: HeldClaim, request_ids: Sequence[UUID], now: datetime) -> None:
    """Complete requests of the claim, in the caller's bite."""
    with connection.cursor() as cursor:
        cursor.execute(_COMPLETE, [now, array(request_ids), held.id])
        done = cursor.fetchall()
    announce([row[0] for row in done])
    changelog.record_all(
        [
            changelog.entry(
                "request.completed",
                chatbot_id=chatbot_id,
                request_id=request_id,
                actor=ACTOR,
                data={
                    "result": result,
                    "conversations": conversations,
                    "messages": messages,
                    "files": files,
                    "exports": exports,
                },
            )
            for request_id, chatbot_id, result, conversations, messages, files, exports in done
        ]
    )
