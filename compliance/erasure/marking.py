"""The first two steps of a deletion: may it go on, and the mark.

The mark is the moment that counts. It excludes intake by a lock (conversations.locks), so every document is stored
either wholly before it (and marked) or wholly after it (and then sees the mark and the ErasedChatter row). From the
mark on nothing more is stored in a marked conversation, and the deletion can no longer be cancelled or held.

A small claim is marked and erased in one transaction, which writes each conversation once. Of a big one the mark
commits by itself, since it holds intake's lock.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

from django.conf import settings
from django.db import connection

from chatbots import changelog
from compliance import by_ids, progress
from compliance.claims import HeldClaim
from compliance.erasure import dooming, extracts, owed, rows
from compliance.erasure.dooming import Fresh
from compliance.models import ComplianceRequest
from compliance.sizes import Size
from config.arrays import array
from conversations import locks
from conversations.named import NAMED

HoldReason = ComplianceRequest.HoldReason

# An earlier export can be in the line again since the claim was made (a retry): it too has to go first. The chatbot
# is looked up for each request (OFFSET 0): joined, it has a planner without statistics read all of its requests.
_ASK_AGAIN = f"""
SELECT r.id, r.cut_at IS NOT NULL, r.approved_holds, c.four_eyes, c.max_conversations_per_deletion,
       EXISTS (SELECT 1 FROM compliance_compliancerequest earlier
                WHERE earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest
                  AND earlier.seq < r.seq AND earlier.kind = 'export' AND earlier.uci_value IS NOT NULL
                  AND earlier.status IN ('failed', 'on_hold', 'accepted', 'processing'))
       OR (r.conversation_digests IS NOT NULL AND EXISTS (
           SELECT 1 FROM {by_ids.SHARING} AS earlier
            WHERE earlier.seq < r.seq AND earlier.kind = 'export'
              AND earlier.status IN ('failed', 'on_hold', 'accepted', 'processing'))),
       CASE WHEN r.conversation_digests IS NOT NULL THEN 'by_ids' WHEN {by_ids.IS_ANY_OPEN} THEN 'may_meet_ids' END
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL (
       SELECT four_eyes, max_conversations_per_deletion FROM chatbots_chatbot WHERE id = r.chatbot_id OFFSET 0) AS c
 WHERE r.claim_id = %s
 ORDER BY r.seq
"""  # noqa: S608  (a text of ours)

_FRESH = """
SELECT id, chatbot_id, variable_id, uci_value, uci_digest, cut_at IS NULL
  FROM compliance_compliancerequest WHERE id = ANY(%s) ORDER BY seq
"""

_GO_ON = "UPDATE compliance_compliancerequest SET status = 'processing' WHERE id = ANY(%s)"

# Rows are locked in id order, as intake does. A conversation already marked keeps its first mark, unless that
# deletion has ended (it failed, or intake marked late data for it): then ours takes it over.
_MARK = f"""
WITH matched AS (
    SELECT DISTINCT ON (named.conversation_id) named.conversation_id, r.id AS request_id
      FROM compliance_compliancerequest r CROSS JOIN LATERAL ({NAMED}) AS named
     WHERE r.id = ANY(%(ids)s)
     ORDER BY named.conversation_id, r.seq
), free AS (
    SELECT c.id, m.request_id
      FROM matched m JOIN conversations_conversation c ON c.id = m.conversation_id
     WHERE c.deleted_at IS NULL
       AND (c.deletion_request_id IS NULL
            OR EXISTS (SELECT 1 FROM compliance_compliancerequest f
                        WHERE f.id = c.deletion_request_id AND f.status IN ('failed', 'completed')))
     ORDER BY c.id
       FOR UPDATE OF c
), marked AS (
    UPDATE conversations_conversation c SET deletion_request_id = f.request_id
      FROM free f WHERE c.id = f.id
    RETURNING f.request_id
)
SELECT request_id, count(*) FROM marked GROUP BY request_id
"""  # noqa: S608  (a text of ours)

# Earlier deletions of the chatter that failed. What they marked may name the chatter no longer: identities go before
# files do. So it is taken over by the mark itself, with what they still had to erase. Of conversations that are named
# by their ids: earlier ones that named one of them, or whose mark one bears; of those the named ones are taken over.
_GIVEN_UP = """
SELECT DISTINCT ON (f.seq) f.id, r.id
  FROM compliance_compliancerequest r
  JOIN compliance_compliancerequest f
    ON f.variable_id = r.variable_id AND f.uci_digest = r.uci_digest AND f.seq < r.seq
 WHERE r.id = ANY(%s) AND f.kind = 'deletion' AND f.status = 'failed'
 ORDER BY f.seq, r.seq
"""
_GIVEN_UP_BY_ID = f"""
SELECT f.id, r.id
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL {by_ids.SHARING} AS f
 WHERE r.id = ANY(%(ids)s) AND f.seq < r.seq AND f.kind = 'deletion' AND f.status = 'failed'
 UNION
SELECT f.id, r.id
  FROM compliance_compliancerequest r
  JOIN conversations_conversation c
    ON c.chatbot_id = r.chatbot_id AND c.external_id_digest = ANY(r.conversation_digests)
  JOIN compliance_compliancerequest f ON f.id = c.deletion_request_id
 WHERE r.id = ANY(%(ids)s) AND f.kind = 'deletion' AND f.status = 'failed'
 ORDER BY 1, 2
"""  # noqa: S608  (a text of ours)

_TAKE_OVER = """
WITH theirs AS (
    SELECT DISTINCT ON (c.id) c.id, heir.request_id
      FROM unnest(%(failed)s::uuid[], %(heirs)s::uuid[]) AS heir(failed_id, request_id)
      JOIN compliance_compliancerequest r ON r.id = heir.request_id
      JOIN conversations_conversation c ON c.deletion_request_id = heir.failed_id
     WHERE r.conversation_digests IS NULL OR c.external_id_digest = ANY(r.conversation_digests)
     ORDER BY c.id, r.seq
), locked AS (
    SELECT c.id, theirs.request_id
      FROM theirs JOIN conversations_conversation c ON c.id = theirs.id
     ORDER BY c.id
       FOR UPDATE OF c
), taken AS (
    UPDATE conversations_conversation c SET deletion_request_id = locked.request_id
      FROM locked WHERE c.id = locked.id
    RETURNING c.deletion_request_id AS request_id, c.deleted_at
)
SELECT request_id, count(*) FROM taken WHERE deleted_at IS NULL GROUP BY request_id
"""

# Of those who go on where they stopped: what came since their cut is new, and is left alone.
_TAKE_OVER_ENDED = f"""
WITH matched AS (
    SELECT DISTINCT ON (named.conversation_id) named.conversation_id, r.id AS request_id
      FROM compliance_compliancerequest r CROSS JOIN LATERAL ({NAMED}) AS named
     WHERE r.id = ANY(%s)
     ORDER BY named.conversation_id, r.seq
), ended AS (
    SELECT c.id, c.deletion_request_id AS ended_id, m.request_id
      FROM matched m JOIN conversations_conversation c ON c.id = m.conversation_id
     WHERE EXISTS (SELECT 1 FROM compliance_compliancerequest f
                    WHERE f.id = c.deletion_request_id AND f.status IN ('failed', 'completed'))
     ORDER BY c.id
       FOR UPDATE OF c
), taken AS (
    UPDATE conversations_conversation c SET deletion_request_id = ended.request_id
      FROM ended WHERE c.id = ended.id
    RETURNING ended.ended_id, ended.request_id
)
SELECT DISTINCT ended_id, request_id FROM taken ORDER BY 1, 2
"""  # noqa: S608  (a text of ours)

_TAKE_OVER_EXPORTS = """
UPDATE compliance_export e SET doomed_by = heir.request_id
  FROM unnest(%(failed)s::uuid[], %(heirs)s::uuid[]) AS heir(failed_id, request_id)
 WHERE e.doomed_by = heir.failed_id AND e.key IS NOT NULL
"""

_COUNTER_ARRAYS = ", ".join(f"%({name})s::bigint[]" for name in progress.COUNTERS)
_BEGIN = f"""
UPDATE compliance_compliancerequest r
   SET status = 'processing', started_at = coalesce(r.started_at, %(cut)s), cut_at = %(cut)s,
       conversations_total = begun.total,
       {", ".join(f"{name} = r.{name} + begun.{name}" for name in progress.COUNTERS)}
  FROM unnest(%(ids)s::uuid[], %(totals)s::bigint[], {_COUNTER_ARRAYS})
         AS begun(id, total, {", ".join(progress.COUNTERS)})
 WHERE r.id = begun.id
"""  # noqa: S608  (names of ours)

_REMEMBER = """
INSERT INTO conversations_erasedchatter (chatbot_id, variable_id, digest, cut_at, request_id, expires_at)
SELECT chatbot_id, variable_id, uci_digest, %(cut)s, id, %(cut)s + make_interval(secs => %(keep)s)
  FROM compliance_compliancerequest WHERE id = ANY(%(ids)s) AND variable_id IS NOT NULL
    ON CONFLICT (request_id) DO NOTHING
"""


class _Asked(NamedTuple):
    """What `admit` has to know of a deletion. `meets` says what else may meet it, if anything."""

    request_id: UUID
    has_marked: bool
    approved: list[str]
    four_eyes: bool
    guard: int
    export_pending: bool
    meets: str | None


def admit(held: HeldClaim, sizes: Mapping[UUID, Size]) -> list[UUID]:
    """Ask again before anything is touched. Put on hold what must wait; return the requests that go on."""
    with connection.cursor() as cursor:
        cursor.execute(_ASK_AGAIN, [held.id])
        asked = [_Asked(*row) for row in cursor.fetchall()]
    pending = _exports_by_the_other_selector(asked)
    going: list[UUID] = []
    reasons: dict[UUID, HoldReason] = {}
    for one in asked:
        size = sizes.get(one.request_id)
        found = {
            HoldReason.EXPORT_PENDING: one.export_pending or one.request_id in pending,
            HoldReason.TOO_MANY_CONVERSATIONS: size is not None and size.conversations > one.guard,
            HoldReason.AWAITING_APPROVAL: one.four_eyes,
        }
        reason = next((reason for reason, holds in found.items() if holds and reason not in one.approved), None)
        if reason is None or one.has_marked:
            going.append(one.request_id)
        else:
            reasons[one.request_id] = reason
    if reasons:
        waiting = {each for each, reason in reasons.items() if reason == HoldReason.EXPORT_PENDING}
        progress.hold(held, reasons, pending={each: pending[each] for each in waiting & pending.keys()})
    return going


def _exports_by_the_other_selector(asked: Sequence[_Asked]) -> dict[UUID, UUID]:
    """Return which of these deletions have to wait for an export that names its subject otherwise, and for which."""
    fresh = [one for one in asked if not one.has_marked and HoldReason.EXPORT_PENDING not in one.approved]
    by_ids = [one.request_id for one in fresh if one.meets == "by_ids"]
    may_meet_ids = [one.request_id for one in fresh if one.meets == "may_meet_ids"]
    pending: dict[UUID, UUID] = {}
    if by_ids:
        pending |= owed.by_exports_of_chatters(by_ids)
    if may_meet_ids:
        pending |= owed.by_exports_of_conversations(may_meet_ids)
    return pending


def mark(held: HeldClaim, request_ids: Sequence[UUID]) -> None:
    """Mark the conversations of these requests, in the claim's bite.

    A request that marked in an earlier attempt keeps that mark and its cut: what came since is new.
    """
    fresh = _read_fresh(request_ids)
    if not fresh:
        return
    ids = [request.request_id for request in fresh]
    cut = _begin_cut(held, fresh)
    with connection.cursor() as cursor:
        cursor.execute(_MARK, {"ids": array(ids)})
        marked: Counter[UUID] = Counter(dict(cursor.fetchall()))
    marked += _take_over(fresh)
    companions = dooming.companions(ids)
    _conclude(fresh, cut, totals=marked, counts={})
    dooming.doom_exports(fresh, companions, cut)


def mark_and_erase(held: HeldClaim, request_ids: Sequence[UUID]) -> bool:
    """Mark and erase these requests' conversations at once, in the claim's bite; return whether more may be left.

    Only for what `sizes` found to be no more than a bite may erase.
    """
    fresh = _read_fresh(request_ids)
    if not fresh:
        return True
    ids = [request.request_id for request in fresh]
    cut = _begin_cut(held, fresh)
    named = rows.lock_named(ids)
    if any(row.has_files_first for row in named):
        mark(held, request_ids)
        return True
    counts, shared = rows.erase(named)
    # What named the chatters is erased now and bears our mark: the rest is what the failed ones had left.
    taken_over = _take_over(fresh)
    own = {(request.request_id, request.variable_id, request.value) for request in fresh}
    companions = {(one.request_id, one.variable_id, one.value) for one in shared} - own
    if taken_over:
        companions.update(dooming.companions(ids))
    marked = Counter(row.request_id for row in named if row.marked_by == row.request_id)
    _conclude(fresh, cut, totals=marked + taken_over, counts=counts)
    dooming.doom_exports(fresh, companions, cut)
    return bool(taken_over) or len(fresh) < len(request_ids)


def _read_fresh(request_ids: Sequence[UUID]) -> list[Fresh]:
    """Return those that have not marked yet; the others go on where they stopped."""
    with connection.cursor() as cursor:
        cursor.execute(_FRESH, [array(request_ids)])
        found = cursor.fetchall()
        again = [request_id for request_id, *_, is_fresh in found if not is_fresh]
        if again:
            cursor.execute(_GO_ON, [array(again)])
            _take_over_ended(again)
    return [
        Fresh(request_id, chatbot_id, variable_id, value, bytes(digest) if digest else None)
        for request_id, chatbot_id, variable_id, value, digest, is_fresh in found
        if is_fresh
    ]


def _take_over_ended(request_ids: Sequence[UUID]) -> None:
    """Take over conversations that name these chatters and bear the mark of another's deletion that has failed since,
    with all that it had still to do."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_OVER_ENDED, [array(request_ids)])
        pairs = cursor.fetchall()
        if pairs:
            failed, heirs = [failed for failed, _ in pairs], [heir for _, heir in pairs]
            cursor.execute(_TAKE_OVER_EXPORTS, {"failed": failed, "heirs": heirs})
            extracts.take_over(failed=failed, heirs=heirs)


def _begin_cut(held: HeldClaim, fresh: Sequence[Fresh]) -> datetime:
    """Keep intake out of these chatbots, and return the cut: what was stored before this instant is met."""
    locks.exclude_intake({request.chatbot_id for request in fresh}, number=held.id)
    with connection.cursor() as cursor:
        # A statement of its own, after the lock.
        cursor.execute("SELECT clock_timestamp()")
        return cast("datetime", cursor.fetchone()[0])


def _conclude(
    fresh: Sequence[Fresh], cut: datetime, *, totals: Counter[UUID], counts: Mapping[UUID, progress.Counts]
) -> None:
    """Set the requests under way, with what is counted already, and remember the chatters for intake."""
    ids = [request.request_id for request in fresh]
    none: progress.Counts = Counter()
    counted = [counts.get(request_id, none) for request_id in ids]
    counters = {name: array(count[name] for count in counted) for name in progress.COUNTERS}
    with connection.cursor() as cursor:
        cursor.execute(
            _BEGIN, {"ids": array(ids), "cut": cut, "totals": array(totals[each] for each in ids), **counters}
        )
        cursor.execute(
            _REMEMBER, {"ids": array(ids), "cut": cut, "keep": settings.ERASURE_LEDGER_DAYS.total_seconds()}
        )
    changelog.record_all(
        [
            changelog.entry(
                "request.started",
                chatbot_id=request.chatbot_id,
                request_id=request.request_id,
                actor="worker",
                data={"conversations": totals[request.request_id]},
            )
            for request in fresh
        ]
    )


def _take_over(fresh: Sequence[Fresh]) -> Counter[UUID]:
    """Take over what earlier deletions marked before they failed; return how many conversations are live."""
    by_id = [request.request_id for request in fresh if request.variable_id is None]
    with connection.cursor() as cursor:
        cursor.execute(_GIVEN_UP, [array(request.request_id for request in fresh)])
        given_up = cursor.fetchall()
        if by_id:
            cursor.execute(_GIVEN_UP_BY_ID, {"ids": array(by_id)})
            given_up += cursor.fetchall()
        if not given_up:
            return Counter()
        pairs = {"failed": [failed for failed, _ in given_up], "heirs": [heir for _, heir in given_up]}
        cursor.execute(_TAKE_OVER, pairs)
        live: Counter[UUID] = Counter(dict(cursor.fetchall()))
        # Exports after conversations, as everywhere.
        cursor.execute(_TAKE_OVER_EXPORTS, pairs)
    extracts.take_over(**pairs)
    return live
