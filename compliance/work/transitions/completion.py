"""Complete requests. What is completed forgets the chatter's value."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection

from chatbots import changelog
from common.arrays import array
from common.db import execute, fetch
from compliance.work import references
from compliance.work.claims import HeldClaim
from compliance.work.outbox import announce
from compliance.work.sql import SHARING
from compliance.work.transitions.claimed import ACTOR
from conversations.named import NAMED

# An export that had failed can have been retried since: it goes first, and what it makes bears the chatter's value.
# Those that have failed still are locked, so that none can be retried before the transaction ends.
_LOCK_FAILED_EXPORTS = """
SELECT FROM compliance_compliancerequest
 WHERE id = ANY(ARRAY(
       SELECT earlier.id
         FROM compliance_compliancerequest r
         JOIN compliance_compliancerequest earlier
           ON earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest AND earlier.seq < r.seq
          AND earlier.status = 'failed' AND earlier.kind = 'export' AND earlier.uci_value IS NOT NULL
        WHERE r.id = ANY(%s) AND r.claim_id = %s))
 ORDER BY seq FOR NO KEY UPDATE
"""
_BEHIND = """
SELECT r.id
  FROM compliance_compliancerequest r
 WHERE r.id = ANY(%s) AND r.claim_id = %s
   AND EXISTS (
       SELECT FROM compliance_compliancerequest earlier
        WHERE earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest AND earlier.seq < r.seq
          AND earlier.status IN ('accepted', 'processing') AND earlier.kind = 'export')
"""
# What failed after a later mark has more in its scope than the deletion that is complete, and can be retried: intake
# closes what comes late for the latest mark, also where nothing was stored between the two.
_FORGET_FAILED = """
UPDATE compliance_compliancerequest SET uci_value = NULL, callback_url = ''
 WHERE id = ANY(ARRAY(
       SELECT earlier.id
         FROM compliance_compliancerequest r
         JOIN compliance_compliancerequest earlier
           ON earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest AND earlier.seq < r.seq
          AND earlier.status = 'failed' AND earlier.uci_value IS NOT NULL
          AND (earlier.kind = 'export' OR coalesce(earlier.cutoff_at, '-infinity') <= r.cutoff_at)
        WHERE r.id = ANY(%s) AND r.claim_id = %s
        ORDER BY earlier.seq FOR NO KEY UPDATE OF earlier))
"""
# One that named conversations forgets them when nothing is left of any: with the rest it can still be retried.
_FAILED_BY_IDS = f"""
SELECT earlier.id
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL {SHARING} AS earlier
 WHERE r.id = ANY(%s) AND r.claim_id = %s AND earlier.seq < r.seq AND earlier.status = 'failed'
   AND NOT EXISTS (
       SELECT FROM (SELECT earlier.*) AS r
        CROSS JOIN LATERAL ({NAMED}) AS named
         JOIN conversations_conversation c ON c.id = named.conversation_id AND c.deleted_at IS NULL)
"""
_FORGET_FAILED_BY_IDS = """
UPDATE compliance_compliancerequest SET conversation_digests = NULL, callback_url = ''
 WHERE id = ANY(ARRAY(SELECT id FROM compliance_compliancerequest
                       WHERE id = ANY(%s) AND status = 'failed' ORDER BY seq FOR NO KEY UPDATE))
"""

# Locked in the order in which references are emptied (`work.references`): two that complete can meet there.
_COMPLETE = """
UPDATE compliance_compliancerequest
   SET status = 'completed', completed_at = %s, claim_id = NULL, uci_value = NULL, waiting_for = NULL,
       extracts_left = 0, conversations_total = greatest(conversations_total, conversations),
       result = CASE WHEN conversations_total + conversations + files + exports > 0
                       OR EXISTS (SELECT FROM compliance_leftcopy
                                   WHERE deletion_id = compliance_compliancerequest.id)
                     THEN 'done' ELSE 'nothing_found' END,
       error_code = '', error_detail = ''
 WHERE id = ANY(ARRAY(SELECT id FROM compliance_compliancerequest
                       WHERE id = ANY(%s) AND claim_id = %s ORDER BY seq FOR NO KEY UPDATE))
RETURNING id, chatbot_id, result, conversations, messages, files, exports
"""


def blocked_by_exports(held: HeldClaim, request_ids: Sequence[UUID]) -> list[UUID]:
    """Return those that an earlier export of their chatter, retried since, has to precede, in the caller's
    transaction."""
    execute(_LOCK_FAILED_EXPORTS, [array(request_ids), held.id])
    return [request_id for (request_id,) in fetch(_BEHIND, [array(request_ids), held.id])]


def failed_by_ids(held: HeldClaim, request_ids: Iterable[UUID]) -> list[UUID]:
    """Return earlier requests that failed and name conversations of these, in the caller's transaction.

    Of none of their conversations a row is left; whether anything else is has to be asked.
    """
    return list({request_id for (request_id,) in fetch(_FAILED_BY_IDS, [array(request_ids), held.id])})


def complete_deletions(held: HeldClaim, request_ids: Iterable[UUID], *, done_by_ids: Sequence[UUID] = ()) -> None:
    """Complete deletions whose second look found nothing; earlier failed requests forget whom they named, too.

    `done_by_ids` are those of `failed_by_ids` of which nothing is left.
    """
    with held.transaction() as now:
        ids = list(request_ids)
        with connection.cursor() as cursor:
            cursor.execute(_FORGET_FAILED, [array(ids), held.id])
            if done_by_ids:
                cursor.execute(_FORGET_FAILED_BY_IDS, [array(done_by_ids)])
        # Before the value is forgotten.
        references.empty_of_chatters(ids)
        complete(held, ids, now)


def complete(held: HeldClaim, request_ids: Sequence[UUID], now: datetime) -> None:
    """Complete requests of the claim, in the caller's transaction."""
    done = fetch(_COMPLETE, [now, array(request_ids), held.id])
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
