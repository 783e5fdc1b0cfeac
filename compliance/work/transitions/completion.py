"""Complete requests, which clears the chatter's value."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from chatbots import changelog
from common.db import array, execute, fetch
from compliance.work import references
from compliance.work.claims import HeldClaim
from compliance.work.outbox import announce
from compliance.work.sql import IS_EARLIER, RUNNABLE, SHARING, subjects
from compliance.work.transitions.requeue import ACTOR
from conversations.sql import SELECTED_CONVERSATIONS

# Everything that completing changes, in one statement and one order: two workers can complete requests of one
# chatter, each with the other's among those to change. It also keeps failed exports from being retried meanwhile: an
# export goes first, and its file contains the chatter's value.
_LOCK = f"""
SELECT FROM compliance_compliancerequest
 WHERE id = ANY(ARRAY(
       SELECT each.id
         FROM compliance_compliancerequest r
        CROSS JOIN LATERAL (
              SELECT r.id
               UNION ALL
              SELECT of_chatter.id
                FROM (SELECT id, seq, status, uci_value, reference FROM compliance_compliancerequest
                       WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest OFFSET 0) AS of_chatter
               WHERE reference <> '' OR (seq < r.seq AND status = 'failed' AND uci_value IS NOT NULL)
               UNION ALL
              SELECT earlier.id FROM {SHARING} AS earlier WHERE earlier.seq < r.seq AND earlier.status = 'failed'
              ) AS each
        WHERE r.id = ANY(%s) AND r.claim_id = %s))
 ORDER BY seq FOR NO KEY UPDATE
"""
_BLOCKED_BY_EXPORTS = f"""
SELECT r.id
  FROM compliance_compliancerequest r
 WHERE r.id = ANY(%s) AND r.claim_id = %s
   AND EXISTS (
       SELECT FROM compliance_compliancerequest earlier
        WHERE {IS_EARLIER} AND earlier.status IN {RUNNABLE} AND earlier.kind = 'export')
"""
# Not deletions that failed after a later mark: their scope is larger, and they can be retried. Intake closes late
# data for the latest mark, even where nothing was stored between the two. What has failed since the lock is skipped
# if another worker has it.
_FORGET_FAILED = f"""
UPDATE compliance_compliancerequest SET uci_value = NULL, callback_url = ''
 WHERE id = ANY(ARRAY(
       SELECT earlier.id
         FROM compliance_compliancerequest r
         JOIN compliance_compliancerequest earlier ON {IS_EARLIER}
          AND earlier.status = 'failed' AND earlier.uci_value IS NOT NULL
          AND (earlier.kind = 'export' OR coalesce(earlier.cutoff_at, '-infinity') <= r.cutoff_at)
        WHERE r.id = ANY(%s) AND r.claim_id = %s
        FOR NO KEY UPDATE OF earlier SKIP LOCKED))
"""
# Requests that named conversations forget them once nothing of any is left: until then they can be retried.
_FAILED_BY_IDS = f"""
SELECT earlier.id
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL {SHARING} AS earlier
 WHERE r.id = ANY(%(ids)s) AND r.claim_id = %(claim)s AND earlier.seq < r.seq AND earlier.status = 'failed'
   AND NOT EXISTS (
       SELECT FROM (SELECT earlier.*) AS r
        CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named
         JOIN conversations_conversation c
           ON c.id = named.conversation_id AND c.chatbot_id = ANY(%(chatbots)s) AND c.deleted_at IS NULL)
"""
_FORGET_FAILED_BY_IDS = """
UPDATE compliance_compliancerequest SET conversation_digests = NULL, callback_url = ''
 WHERE id = ANY(ARRAY(SELECT id FROM compliance_compliancerequest
                       WHERE id = ANY(%s) AND status = 'failed' FOR NO KEY UPDATE SKIP LOCKED))
"""

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
    """Return the deletions that must wait for an earlier export of their chatter, which was retried since.

    Begins the transaction that completes the others: locks them, and all requests that completing them changes.
    """
    execute(_LOCK, [array(request_ids), held.id])
    return [request_id for (request_id,) in fetch(_BLOCKED_BY_EXPORTS, [array(request_ids), held.id])]


def failed_by_ids(held: HeldClaim, request_ids: Iterable[UUID]) -> list[UUID]:
    """Return earlier failed requests that name conversations of these and have no live one left.

    In the caller's transaction. Other stores may still hold something of them.
    """
    ids = list(request_ids)
    return list({request_id for (request_id,) in fetch(_FAILED_BY_IDS, {**subjects(ids), "claim": held.id})})


def complete_deletions(held: HeldClaim, request_ids: Iterable[UUID], *, done_by_ids: Sequence[UUID] = ()) -> None:
    """Complete deletions that passed verification; earlier failed requests of their chatters forget their subject.

    In the transaction that `blocked_by_exports` began.
    `done_by_ids` are those of `failed_by_ids` that have nothing left in any store.
    """
    with held.transaction() as now:
        ids = list(request_ids)
        execute(_FORGET_FAILED, [array(ids), held.id])
        if done_by_ids:
            execute(_FORGET_FAILED_BY_IDS, [array(done_by_ids)])
        references.clear_for_chatters(ids)  # needs the values, which completing clears
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
