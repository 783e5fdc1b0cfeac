"""The first two steps of a deletion: may it go on, and the mark.

The mark is the moment that counts. It takes intake's lock exclusively, so every document is stored either wholly
before it (and marked) or wholly after it (and then sees the mark and the ErasedChatter row). From the mark on
nothing more is stored in a marked conversation, and the deletion can no longer be cancelled or held.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

from django.conf import settings
from django.db import connection

from chatbots import changelog
from chatbots.secrets import digest
from compliance import progress
from compliance.claims import HeldClaim
from compliance.models import ComplianceRequest
from conversations import locks

HoldReason = ComplianceRequest.HoldReason

# Counting stops one above the guard: a value shared by 100,000 conversations costs no more than one of 1,001.
# An earlier export can be in the line again since the claim was made (a retry): it too has to go first.
_ASK_AGAIN = """
SELECT r.id, r.cut_at IS NOT NULL, r.approved_holds,
       c.four_eyes,
       EXISTS (SELECT 1 FROM compliance_compliancerequest earlier
                WHERE earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest
                  AND earlier.seq < r.seq AND earlier.kind = 'export' AND earlier.uci_value IS NOT NULL
                  AND earlier.status IN ('failed', 'on_hold', 'accepted', 'processing')),
       (SELECT count(*) FROM (
            SELECT 1 FROM conversations_identity i
             WHERE i.chatbot_id = r.chatbot_id AND i.variable_id = r.variable_id AND i.value = r.uci_value
             LIMIT c.max_conversations_per_deletion + 1) AS found) > c.max_conversations_per_deletion
  FROM compliance_compliancerequest r JOIN chatbots_chatbot c ON c.id = r.chatbot_id
 WHERE r.claim_id = %s
 ORDER BY r.seq
"""

# Rows are locked in id order, as intake does. A conversation already marked keeps its first mark, unless that
# deletion failed: then ours takes it over.
_MARK = """
WITH matched AS (
    SELECT DISTINCT ON (i.conversation_id) i.conversation_id, r.id AS request_id
      FROM compliance_compliancerequest r
      JOIN conversations_identity i
        ON i.chatbot_id = r.chatbot_id AND i.variable_id = r.variable_id AND i.value = r.uci_value
     WHERE r.id = ANY(%(ids)s)
     ORDER BY i.conversation_id, r.seq
), free AS (
    SELECT c.id, m.request_id
      FROM matched m JOIN conversations_conversation c ON c.id = m.conversation_id
     WHERE c.deletion_request_id IS NULL
        OR EXISTS (SELECT 1 FROM compliance_compliancerequest f
                    WHERE f.id = c.deletion_request_id AND f.status = 'failed')
     ORDER BY c.id
       FOR UPDATE OF c
), marked AS (
    UPDATE conversations_conversation c SET deletion_request_id = f.request_id
      FROM free f WHERE c.id = f.id
    RETURNING f.request_id
)
SELECT request_id, count(*) FROM marked GROUP BY request_id
"""

# A chatter's earlier deletions that failed. What they marked may name the chatter no longer: identities go before
# files do. So it is taken over by the mark itself, with what they still had to erase.
_GIVEN_UP = """
SELECT DISTINCT ON (f.seq) f.id, r.id
  FROM compliance_compliancerequest r
  JOIN compliance_compliancerequest f
    ON f.variable_id = r.variable_id AND f.uci_digest = r.uci_digest AND f.seq < r.seq
 WHERE r.id = ANY(%s) AND f.kind = 'deletion' AND f.status = 'failed'
 ORDER BY f.seq, r.seq
"""

_TAKE_OVER = """
WITH theirs AS (
    SELECT c.id, heir.request_id
      FROM unnest(%(failed)s::uuid[], %(heirs)s::uuid[]) AS heir(failed_id, request_id)
      JOIN conversations_conversation c ON c.deletion_request_id = heir.failed_id
     ORDER BY c.id
       FOR UPDATE OF c
), taken AS (
    UPDATE conversations_conversation c SET deletion_request_id = theirs.request_id
      FROM theirs WHERE c.id = theirs.id
    RETURNING c.deletion_request_id AS request_id, c.deleted_at
)
SELECT request_id, count(*) FROM taken WHERE deleted_at IS NULL GROUP BY request_id
"""

_TAKE_OVER_EXPORTS = """
UPDATE compliance_export e SET doomed_by = heir.request_id
  FROM unnest(%(failed)s::uuid[], %(heirs)s::uuid[]) AS heir(failed_id, request_id)
 WHERE e.doomed_by = heir.failed_id AND e.key IS NOT NULL
"""

_BEGIN = """
UPDATE compliance_compliancerequest r
   SET status = 'processing', started_at = coalesce(r.started_at, %(cut)s), cut_at = %(cut)s,
       conversations_total = coalesce(
           (SELECT f.n FROM unnest(%(marked)s::uuid[], %(counts)s::bigint[]) AS f(id, n) WHERE f.id = r.id), 0)
 WHERE r.id = ANY(%(ids)s)
RETURNING r.id, r.chatbot_id, r.conversations_total
"""

_REMEMBER = """
INSERT INTO conversations_erasedchatter (chatbot_id, variable_id, digest, cut_at, request_id, expires_at)
SELECT chatbot_id, variable_id, uci_digest, %(cut)s, id, %(cut)s + make_interval(secs => %(keep)s)
  FROM compliance_compliancerequest WHERE id = ANY(%(ids)s)
    ON CONFLICT (request_id) DO NOTHING
"""

# The others who were in the marked conversations: their exports hold copies of these conversations too.
_COMPANIONS = """
SELECT DISTINCT r.id, i.variable_id, i.value
  FROM compliance_compliancerequest r
  JOIN conversations_conversation c ON c.deletion_request_id = r.id AND c.deleted_at IS NULL
  JOIN conversations_identity i ON i.conversation_id = c.id
 WHERE r.id = ANY(%s) AND (i.variable_id, i.value) IS DISTINCT FROM (r.variable_id, r.uci_value)
"""

# An export finished within the grace is the copy the person asked for: it lives until the grace is over, unless
# the deletion says otherwise. Everything else that has a key must go, half-written leftovers included. Of several
# deletions that meet one export, one that wants it gone is enough.
_DOOM = """
WITH met AS (
    SELECT DISTINCT ON (old.id) old.id, r.id AS request_id, kept.so AS is_kept, grace.days AS grace
      FROM unnest(%(requests)s::uuid[], %(variables)s::bigint[], %(digests)s::bytea[])
             AS whose(request_id, variable_id, digest)
      JOIN compliance_compliancerequest r ON r.id = whose.request_id
      JOIN compliance_compliancerequest x ON x.variable_id = whose.variable_id AND x.uci_digest = whose.digest
      JOIN compliance_export old ON old.request_id = x.id AND old.key IS NOT NULL
     CROSS JOIN make_interval(secs => %(grace)s) AS grace(days)
     CROSS JOIN LATERAL (
           SELECT NOT r.erase_exports AND coalesce(old.finished_at > %(cut)s - grace.days, FALSE) AS so) AS kept
     ORDER BY old.id, kept.so, r.seq
)
UPDATE compliance_export e
   SET doomed_by = CASE WHEN met.is_kept THEN e.doomed_by ELSE met.request_id END,
       expires_at = CASE WHEN met.is_kept THEN least(e.expires_at, e.finished_at + met.grace) ELSE e.expires_at END
  FROM met
 WHERE e.id = met.id AND e.key IS NOT NULL
"""


def admit(held: HeldClaim) -> list[UUID]:
    """Ask again before anything is touched. Put on hold what must wait; return the requests that go on."""
    with connection.cursor() as cursor:
        cursor.execute(_ASK_AGAIN, [held.id])
        rows = cursor.fetchall()
    going: list[UUID] = []
    reasons: dict[UUID, HoldReason] = {}
    for request_id, has_marked, approved, four_eyes, export_pending, too_many in rows:
        found = {
            HoldReason.EXPORT_PENDING: export_pending,
            HoldReason.TOO_MANY_CONVERSATIONS: too_many,
            HoldReason.AWAITING_APPROVAL: four_eyes,
        }
        reason = next((reason for reason, holds in found.items() if holds and reason not in approved), None)
        if reason is None or has_marked:
            going.append(request_id)
        else:
            reasons[request_id] = reason
    if reasons:
        progress.hold(held, reasons)
    return going


def mark(request_ids: Sequence[UUID]) -> int:
    """Mark the conversations of these requests, in the caller's bite; return how many were marked.

    A request that marked in an earlier attempt keeps that mark and its cut: what came since is new.
    """
    requests = list(ComplianceRequest.objects.filter(pk__in=request_ids).order_by("seq"))
    again = [request.pk for request in requests if request.cut_at is not None]
    ComplianceRequest.objects.filter(pk__in=again).update(status=ComplianceRequest.Status.PROCESSING)
    fresh = [request for request in requests if request.cut_at is None]
    if not fresh:
        return 0
    ids = [request.pk for request in fresh]
    locks.exclude_intake({request.chatbot_id for request in fresh})
    with connection.cursor() as cursor:
        # After the lock: whatever was stored before this instant is what the mark meets.
        cursor.execute("SELECT clock_timestamp()")
        cut = cast("datetime", cursor.fetchone()[0])
        cursor.execute(_MARK, {"ids": ids})
        marked: Counter[UUID] = Counter(dict(cursor.fetchall()))
        marked += _take_over(ids)
        cursor.execute(_BEGIN, {"ids": ids, "cut": cut, "marked": list(marked), "counts": list(marked.values())})
        begun = cursor.fetchall()
        cursor.execute(_REMEMBER, {"ids": ids, "cut": cut, "keep": settings.ERASURE_LEDGER_DAYS.total_seconds()})
        _doom_exports(fresh, cut)
    changelog.record_all(
        [
            changelog.entry(
                "request.started",
                chatbot_id=chatbot_id,
                request_id=request_id,
                actor="worker",
                data={"conversations": total},
            )
            for request_id, chatbot_id, total in begun
        ]
    )
    return sum(marked.values())


def _take_over(request_ids: Sequence[UUID]) -> Counter[UUID]:
    """Take over what earlier deletions of these chatters marked before they failed; return how many are live."""
    with connection.cursor() as cursor:
        cursor.execute(_GIVEN_UP, [list(request_ids)])
        given_up = cursor.fetchall()
        if not given_up:
            return Counter()
        pairs = {"failed": [failed for failed, _ in given_up], "heirs": [heir for _, heir in given_up]}
        cursor.execute(_TAKE_OVER_EXPORTS, pairs)
        cursor.execute(_TAKE_OVER, pairs)
        return Counter(dict(cursor.fetchall()))


def _doom_exports(requests: Sequence[ComplianceRequest], cut: datetime) -> None:
    whose = [(request.pk, request.variable_id, request.uci_digest) for request in requests]
    with connection.cursor() as cursor:
        cursor.execute(_COMPANIONS, [[request.pk for request in requests]])
        whose += [
            (request_id, variable_id, digest("chatter", variable_id, value))
            for request_id, variable_id, value in cursor.fetchall()
        ]
        cursor.execute(
            _DOOM,
            {
                "requests": [row[0] for row in whose],
                "variables": [row[1] for row in whose],
                "digests": [row[2] for row in whose],
                "cut": cut,
                "grace": settings.EXPORT_GRACE_DAYS.total_seconds(),
            },
        )
