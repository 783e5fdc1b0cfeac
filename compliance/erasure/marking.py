"""The first two steps of a deletion: may it go on, and the mark.

The mark is the moment that counts. It excludes intake by a lock (conversations.locks), so every document is stored
either wholly before it (and marked) or wholly after it (and then sees the mark and the ErasedChatter row). From the
mark on nothing more is stored in a marked conversation, and the deletion can no longer be cancelled or held. Its
`cutoff_at` and `cutoff_number` say what is in its scope from then on (`scope`).

A small claim is marked and erased in one transaction, which writes each conversation once. Of a big one the mark
commits by itself, since it holds intake's lock.

Nothing waits here while it keeps others out: a chatbot whose lock is taken is marked by itself, and a request of
which a row is locked is put back for a moment.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings

from chatbots import changelog
from common.db import array, execute, fetch
from compliance.erasure import blocking_exports, exports, rows
from compliance.models import ComplianceRequest
from compliance.work import sql, transitions
from compliance.work.claims import HeldClaim
from compliance.work.sizes import Size
from conversations import locks
from conversations.sql import SELECTED_CONVERSATIONS

HoldReason = ComplianceRequest.HoldReason
WaitingFor = ComplianceRequest.WaitingFor

# How long a request is put back of which another worker has locked a row.
WAIT_FOR_ROWS = timedelta(seconds=5)

# An earlier export can be queued again since the claim was made (a retry): it too has to go first. The chatbot
# is looked up for each request (OFFSET 0): joined, it has a planner without statistics read all of its requests.
_ASK_AGAIN = f"""
SELECT r.id, r.chatbot_id, r.cutoff_at IS NOT NULL, r.approved_holds, c.four_eyes, c.max_conversations_per_deletion,
       EXISTS (SELECT 1 FROM compliance_compliancerequest earlier
                WHERE {sql.IS_EARLIER} AND earlier.kind = 'export' AND earlier.uci_value IS NOT NULL
                  AND earlier.status IN {sql.OPEN})
       OR (r.conversation_digests IS NOT NULL AND EXISTS (
           SELECT 1 FROM {sql.SHARING} AS earlier
            WHERE earlier.seq < r.seq AND earlier.kind = 'export' AND earlier.status IN {sql.OPEN})),
       r.conversation_digests IS NOT NULL OR coalesce({sql.IS_ANY_OPEN}, FALSE)
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL (
       SELECT four_eyes, max_conversations_per_deletion FROM chatbots_chatbot WHERE id = r.chatbot_id OFFSET 0) AS c
 WHERE r.claim_id = %s
 ORDER BY r.seq
"""  # noqa: S608  (a text of ours)

_GO_ON = "UPDATE compliance_compliancerequest SET status = 'processing' WHERE id = ANY(%s)"

# A conversation already marked keeps its first mark.
_MARK = f"""
WITH open AS (
    SELECT c.id, named.request_id
      FROM (SELECT DISTINCT ON (each.conversation_id) each.conversation_id, r.id AS request_id
              FROM compliance_compliancerequest r CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS each
             WHERE r.id = ANY(%s)
             ORDER BY each.conversation_id, r.seq) AS named
      JOIN conversations_conversation c ON c.id = named.conversation_id
     WHERE c.deletion_request_id IS NULL
       FOR UPDATE OF c SKIP LOCKED
)
UPDATE conversations_conversation c SET deletion_request_id = open.request_id FROM open WHERE c.id = open.id
"""  # noqa: S608  (a text of ours)

# After the mark has passed over what is locked: what the requests name and is live, and whether any of it is open
# still. What others have marked is erased and counted here, too.
_NAMED_LIVE = f"""
SELECT r.id, count(*), bool_or(c.is_open)
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named
 CROSS JOIN LATERAL (
       SELECT deletion_request_id IS NULL AS is_open
         FROM conversations_conversation WHERE id = named.conversation_id AND deleted_at IS NULL OFFSET 0) AS c
 WHERE r.id = ANY(%s)
 GROUP BY r.id
"""  # noqa: S608  (a text of ours)

# To be read after the lock: what was stored before this instant is met.
_CUT = """
SELECT chatbot_id, clock_timestamp(),
       coalesce((SELECT max(id) FROM conversations_conversation WHERE chatbot_id = ours.chatbot_id), 0)
  FROM unnest(%s::bigint[]) AS ours(chatbot_id)
"""

_COUNTER_ARRAYS = ", ".join(f"%({name})s::bigint[]" for name in transitions.COUNTERS)
_BEGIN = f"""
UPDATE compliance_compliancerequest r
   SET status = 'processing', started_at = coalesce(r.started_at, %(cut)s), cutoff_at = %(cut)s,
       cutoff_number = begun.cutoff, conversations_total = begun.total,
       {", ".join(f"{name} = r.{name} + begun.{name}" for name in transitions.COUNTERS)}
  FROM unnest(%(ids)s::uuid[], %(cutoffs)s::bigint[], %(totals)s::bigint[], {_COUNTER_ARRAYS})
         AS begun(id, cutoff, total, {", ".join(transitions.COUNTERS)})
 WHERE r.id = begun.id
"""  # noqa: S608  (names of ours)

_REMEMBER = """
INSERT INTO conversations_erasedchatter
       (chatbot_id, variable_id, digest, cutoff_at, cutoff_number, request_id, expires_at)
SELECT chatbot_id, variable_id, uci_digest, %(cut)s, cutoff_number, id, %(cut)s + make_interval(secs => %(keep)s)
  FROM compliance_compliancerequest WHERE id = ANY(%(ids)s) AND variable_id IS NOT NULL
    ON CONFLICT (request_id) DO NOTHING
"""


class Admitted(NamedTuple):
    """What `admit` has to know of a deletion. `may_meet_others`: requests by the other selector."""

    request_id: UUID
    chatbot_id: int
    has_marked: bool
    approved: list[str]
    four_eyes: bool
    guard: int
    export_pending: bool
    may_meet_others: bool


class _Cut(NamedTuple):
    """The moment of a mark, and by chatbot the highest number of its conversations at that time."""

    at: datetime
    numbers: dict[int, int]


class _InUse(Exception):
    """Another worker has locked what these requests would mark: nothing of the transaction is written."""

    def __init__(self, request_ids: Collection[UUID]) -> None:
        super().__init__()
        self.request_ids = request_ids


class Marked(NamedTuple):
    """The requests that have marked, in the order of filing, and those of them that did so just now.

    `leaves_rows`: rows may be left to be erased. `chatbot_ids` are their chatbots, and of those put back.
    """

    request_ids: list[UUID]
    fresh: set[UUID]
    leaves_rows: bool
    chatbot_ids: set[int]


def admit(held: HeldClaim, sizes: Mapping[UUID, Size]) -> list[Admitted]:
    """Ask again before anything is touched. Put on hold what must wait; return the others, in the order of filing."""
    asked = [Admitted(*row) for row in fetch(_ASK_AGAIN, [held.id])]
    pending = blocking_exports.find(
        [
            one.request_id
            for one in asked
            if one.may_meet_others and not one.has_marked and HoldReason.EXPORT_PENDING not in one.approved
        ]
    )
    going: list[Admitted] = []
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
            going.append(one)
        else:
            reasons[one.request_id] = reason
    if reasons:
        waiting = {each for each, reason in reasons.items() if reason == HoldReason.EXPORT_PENDING}
        transitions.hold(held, reasons, pending={each: pending[each] for each in waiting & pending.keys()})
    return going


def mark(held: HeldClaim, admitted: Sequence[Admitted], *, erases: bool) -> Marked:
    """Mark what these requests name, and with `erases` erase it in the same transaction.

    `erases` is only for what `sizes` found to be no more than a chunk may erase. A request that marked in an earlier
    attempt keeps that mark and its cut: what came since is new. One of which a row is locked, or whose chatbot is
    busy taking in, leaves the claim for a moment.
    """
    again = [one.request_id for one in admitted if one.has_marked]
    if again:
        with held.transaction():
            execute(_GO_ON, [array(again)])
    fresh = [one for one in admitted if not one.has_marked]
    marked = _mark_free(held, fresh, waits=False, erases=erases)
    refused = [one for one in fresh if one.request_id not in marked]
    for chatbot_id in sorted({one.chatbot_id for one in refused}):
        of_chatbot = [one for one in refused if one.chatbot_id == chatbot_id]
        marked |= _mark_free(held, of_chatbot, waits=True, erases=erases)
    done = {request_id for request_id, is_marked in marked.items() if is_marked}
    return Marked(
        [one.request_id for one in admitted if one.has_marked or one.request_id in done],
        fresh=done,
        leaves_rows=bool(again) or not erases,
        chatbot_ids={one.chatbot_id for one in admitted},
    )


def _mark_free(held: HeldClaim, fresh: Sequence[Admitted], *, waits: bool, erases: bool) -> dict[UUID, bool]:
    """Mark the requests of the chatbots whose locks are free, in a transaction of their own. With `waits`, of one
    chatbot.

    Return whether each was marked; one that was not has left the claim. What is not in there was refused the lock.
    """
    put_back: dict[UUID, bool] = {}
    while fresh:
        try:
            with held.transaction():
                free = _exclude_intake(held, {one.chatbot_id for one in fresh}, waits=waits)
                ours = [one for one in fresh if one.chatbot_id in free]
                if ours:
                    _mark_all(ours, erases=erases)
        except _InUse as met:
            busy = met.request_ids
        except locks.Busy:
            busy = {one.request_id for one in fresh}
        else:
            return put_back | {one.request_id: True for one in ours}
        transitions.requeue(held, busy, waiting_for=WaitingFor.ROWS, wait=WAIT_FOR_ROWS)
        put_back |= dict.fromkeys(busy, False)
        fresh = [one for one in fresh if one.request_id not in busy]
    return put_back


def _exclude_intake(held: HeldClaim, chatbot_ids: set[int], *, waits: bool) -> set[int]:
    """Return the chatbots whose locks are held now. Raises locks.Busy."""
    if not waits:
        return locks.try_to_exclude_intake(chatbot_ids, number=held.id)
    [chatbot_id] = chatbot_ids
    locks.exclude_intake(chatbot_id, number=held.id)
    return chatbot_ids


def _mark_all(fresh: Sequence[Admitted], *, erases: bool) -> None:
    """Mark, in the caller's transaction and under intake's locks. Raises _InUse."""
    ids = [one.request_id for one in fresh]
    cut = _cut({one.chatbot_id for one in fresh})
    counts: Mapping[UUID, transitions.Counts] = {}
    totals: Counter[UUID] = Counter()
    if erases:
        named = rows.lock_named(ids)
        totals += Counter(one.request_id for one in named)
        counts = rows.erase(named, marked_by=ids)
    else:
        execute(_MARK, [array(ids)])
    totals += _still_live(ids)
    if not erases:
        exports.expire_marked(ids)
    _conclude(fresh, cut, totals=totals, counts=counts)


def _cut(chatbot_ids: Collection[int]) -> _Cut:
    found = fetch(_CUT, [array(chatbot_ids)])
    return _Cut(min(at for _, at, _ in found), {chatbot_id: number for chatbot_id, _, number in found})


def _still_live(request_ids: Sequence[UUID]) -> Counter[UUID]:
    """Return how much of what each request names is still to be erased.

    Raises _InUse if some of it is open: somebody else has locked it.
    """
    named = fetch(_NAMED_LIVE, [array(request_ids)])
    in_use = {request_id for request_id, _, is_open in named if is_open}
    if in_use:
        raise _InUse(in_use)
    return Counter({request_id: number for request_id, number, _ in named})


def _conclude(
    fresh: Sequence[Admitted], cut: _Cut, *, totals: Counter[UUID], counts: Mapping[UUID, transitions.Counts]
) -> None:
    """Set the requests under way, with what is counted already, and remember the chatters for intake."""
    ids = [request.request_id for request in fresh]
    none: transitions.Counts = Counter()
    counted = [counts.get(request_id, none) for request_id in ids]
    begun: dict[str, str | datetime] = {
        name: array(count[name] for count in counted) for name in transitions.COUNTERS
    }
    begun |= {
        "ids": array(ids),
        "cut": cut.at,
        "cutoffs": array(cut.numbers[request.chatbot_id] for request in fresh),
        "totals": array(totals[each] for each in ids),
    }
    execute(_BEGIN, begun)
    execute(_REMEMBER, {"ids": array(ids), "cut": cut.at, "keep": settings.ERASURE_LEDGER_DAYS.total_seconds()})
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
