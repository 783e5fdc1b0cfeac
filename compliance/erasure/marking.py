"""The first two steps of a deletion: the last check, and the mark.

The mark excludes intake by a lock (`conversations.locks`). So every document is stored either before it, and marked,
or after it, and intake then sees the mark and the chatter's tombstone. Nothing more is stored in a marked
conversation, and the deletion can no longer be cancelled or held. Its `cutoff_at` and `cutoff_number` fix its scope
(`scope`).

A small claim is marked and erased in one transaction, which writes each conversation once. The mark of a large claim
commits by itself, since it holds intake's lock.

No transaction waits while it holds a lock that others need: a chatbot whose lock is taken is marked in a transaction
of its own, and a request with a locked row is requeued for a moment.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings

from common.db import array, execute, fetch
from compliance.erasure import exports, rows
from compliance.models import ComplianceRequest
from compliance.work import legal_holds, sql
from compliance.work.claims import HeldClaim
from compliance.work.sizes import Size
from compliance.work.transitions import completion, requeue
from conversations import locks, tombstones
from conversations.sql import SELECTED_CONVERSATIONS
from conversations.tombstones import NewTombstone

HoldReason = ComplianceRequest.HoldReason
WaitingFor = ComplianceRequest.WaitingFor

# How long a request waits if another worker has locked one of its rows.
WAIT_FOR_ROWS = timedelta(seconds=5)

# Whether an export that was filed earlier has to be delivered first.
_IS_BLOCKED = f"""
EXISTS (SELECT FROM compliance_compliancerequest earlier
         WHERE {sql.IS_EARLIER} AND earlier.kind = 'export' AND earlier.uci_value IS NOT NULL
           AND earlier.status IN {sql.OPEN})
OR (r.named_conversations IS NOT NULL AND EXISTS (
    SELECT FROM {sql.SHARING} AS earlier
     WHERE earlier.seq < r.seq AND earlier.kind = 'export' AND earlier.status IN {sql.OPEN}))
"""
# An earlier export may have been retried since the claim: it goes first.
_CHECK_AGAIN = f"""
SELECT r.id, r.chatbot_id, r.cutoff_at IS NOT NULL, r.approved_holds, c.four_eyes, c.max_conversations_per_deletion,
       {_IS_BLOCKED},
       r.named_conversations IS NOT NULL OR coalesce({sql.IS_ANY_OPEN}, FALSE), r.withholds
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL (
       SELECT four_eyes, max_conversations_per_deletion FROM chatbots_chatbot WHERE id = r.chatbot_id) AS c
 WHERE r.claim_id = %s
 ORDER BY r.seq
"""

_OVERTAKEN = f"""
SELECT id, {_IS_BLOCKED}, named_conversations IS NOT NULL OR coalesce({sql.IS_ANY_OPEN}, FALSE)
  FROM compliance_compliancerequest r
 WHERE id = ANY(%s::uuid[]) AND NOT 'export_pending' = ANY(approved_holds)
"""
_CONTINUE = "UPDATE compliance_compliancerequest SET status = 'processing' WHERE id = ANY(%s)"

# A conversation already marked keeps its first mark.
_MARK = f"""
WITH open AS (
    SELECT c.id, named.request_id
      FROM (SELECT DISTINCT ON (each.conversation_id) each.conversation_id, r.id AS request_id
              FROM {sql.GIVEN} CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS each
             ORDER BY each.conversation_id, r.seq) AS named
      JOIN conversations_conversation c ON c.id = named.conversation_id
     WHERE c.chatbot_id = ANY(%(chatbots)s) AND c.deletion_request_id IS NULL
       AND c.id <> ALL(%(withheld)s::bigint[])
       FOR UPDATE OF c SKIP LOCKED
)
UPDATE conversations_conversation c SET deletion_request_id = open.request_id
  FROM open WHERE c.id = open.id AND c.chatbot_id = ANY(%(chatbots)s)
"""

# The live data of the requests after the mark has skipped locked rows, by the source of the identity, and whether any
# of it is open. Data that others have marked is erased and counted here too. `counted`: conversations that this
# transaction has locked to erase, and may have left for later.
_NAMED_LIVE = f"""
{sql.REQUESTS}, live AS MATERIALIZED (
    SELECT r.id, named.established_by,
           count(*) FILTER (WHERE named.conversation_id <> ALL(%(counted)s::bigint[])) AS uncounted,
           bool_or(c.is_open) AS is_open
      FROM r
     CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named
     CROSS JOIN LATERAL (
           SELECT deletion_request_id IS NULL AS is_open
             FROM conversations_conversation
            WHERE id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s) AND deleted_at IS NULL
              AND id <> ALL(%(withheld)s::bigint[])) AS c
     GROUP BY r.id, named.established_by
)
SELECT id, established_by, uncounted, is_open FROM live
"""

# Read after intake's lock: conversations stored before this time, with a number up to the newest of all, are in
# scope.
# With whether the chatbot has a legal hold.
CUTOFF = f"""
SELECT chatbot_id, clock_timestamp(), CASE WHEN newest.is_called THEN newest.last_value ELSE 0 END,
       {legal_holds.ANY_IN_FORCE}
  FROM unnest(%(chatbots)s::bigint[]) AS ours(chatbot_id) CROSS JOIN conversations_conversation_id_seq AS newest
"""

_COUNTER_ARRAYS = ", ".join(f"%({name})s::bigint[]" for name in completion.COUNTERS)
# With an entry of the change log for each. If nothing is withheld, the hold was released meanwhile: then the scope is
# that of any deletion, and what the person was told of the hold is not true any more.
_BEGIN = f"""
WITH marked AS (
    UPDATE compliance_compliancerequest r
       SET status = 'processing', started_at = coalesce(r.started_at, %(cutoff_at)s), cutoff_at = %(cutoff_at)s,
           cutoff_number = begun.cutoff_number, conversations_total = begun.total,
           withholds = r.withholds AND r.withheld > 0,
           answered_at = CASE WHEN r.withholds AND r.withheld > 0 THEN r.answered_at END,
           {", ".join(f"{name} = r.{name} + begun.{name}" for name in completion.COUNTERS)}
      FROM unnest(%(ids)s::uuid[], %(cutoffs)s::bigint[], %(totals)s::bigint[], {_COUNTER_ARRAYS})
             AS begun(id, cutoff_number, total, {", ".join(completion.COUNTERS)})
     WHERE r.id = begun.id
    RETURNING r.id, r.chatbot_id, r.conversations_total
)
INSERT INTO chatbots_changelogentry (chatbot_id, request_id, event, actor, data)
SELECT chatbot_id, id, 'request.started', 'worker', jsonb_build_object('conversations', conversations_total)
  FROM marked
"""

_REMEMBER = """
INSERT INTO conversations_tombstone
       (chatbot_id, kind, variable_id, digest, erased_at, cutoff_at, cutoff_number, request_id, expires_at)
SELECT chatbot_id, 'chatter', variable_id, uci_digest, cutoff_at, cutoff_at, cutoff_number, id,
       cutoff_at + make_interval(secs => %(keep)s)
  FROM compliance_compliancerequest WHERE id = ANY(%(ids)s) AND uci_digest IS NOT NULL
    ON CONFLICT (chatbot_id, digest, request_id) DO NOTHING
"""
# The erased conversations, and those of a request that a replay has filed again.
_LOST = """
WITH l AS MATERIALIZED (
    SELECT l.request_id, l.chatbot_id, l.conversation_digests,
           coalesce((l.line->>'cutoff_at')::timestamptz, l.at) AS erased_at
      FROM compliance_ledgerline l JOIN compliance_compliancerequest r ON r.id = l.request_id
     WHERE l.request_id = ANY(%(ids)s) AND l.chatbot_id IS NOT NULL
       AND (r.origin = 'replay' OR l.kind IN ('exact', 'retention'))
), named AS MATERIALIZED (
    SELECT request_id, chatbot_id, digest, erased_at FROM l CROSS JOIN LATERAL unnest(conversation_digests) AS digest
)
SELECT named.chatbot_id, named.digest, NULL, named.request_id, named.erased_at
  FROM named
  LEFT JOIN LATERAL (
       SELECT id FROM conversations_conversation
        WHERE chatbot_id = named.chatbot_id AND chatbot_id = ANY(%(chatbots)s)
          AND external_id_digest = named.digest) AS c ON TRUE
 WHERE c.id IS NULL
"""


# A request, and the source of the identity by which a conversation is in its scope; None for one requested by its id.
Named = tuple[UUID, str | None]


class Admitted(NamedTuple):
    """A deletion as `admit` reads it. `may_meet_others`: requests by the other selector."""

    request_id: UUID
    chatbot_id: int
    has_marked: bool
    approved: list[str]
    four_eyes: bool
    guard: int
    export_pending: bool
    may_meet_others: bool
    withholds: bool


class _RowsInUse(Exception):
    """Another worker has locked rows of these requests. The transaction writes nothing."""

    def __init__(self, request_ids: Collection[UUID]) -> None:
        super().__init__()
        self.request_ids = request_ids


class MarkedRequests(NamedTuple):
    """The marked requests in the order of filing; `new` are those that this claim has marked.

    `leaves_rows`: rows may be left to erase. `chatbot_ids` include those of requeued requests.
    """

    request_ids: list[UUID]
    new: set[UUID]
    leaves_rows: bool
    chatbot_ids: set[int]


def admit(held: HeldClaim, sizes: Mapping[UUID, Size]) -> list[Admitted]:
    """Hold the requests that must wait, after checking again; return the others in the order of filing."""
    checked = [Admitted(*row) for row in fetch(_CHECK_AGAIN, [held.id])]
    blocked = exports.find_blocking(
        [
            one.request_id
            for one in checked
            if one.may_meet_others and not one.has_marked and HoldReason.EXPORT_PENDING not in one.approved
        ]
    )
    admitted: list[Admitted] = []
    reasons: dict[UUID, HoldReason] = {}
    for one in checked:
        size = sizes.get(one.request_id)
        holds = holds_of(
            is_blocked=one.export_pending or one.request_id in blocked,
            is_too_large=size is not None and size.conversations > one.guard,
            four_eyes=one.four_eyes,
        )
        reason = next((reason for reason in holds if reason not in one.approved), None)
        if reason is None or one.has_marked:
            admitted.append(one)
        else:
            reasons[one.request_id] = reason
    if reasons:
        waiting = {each for each, reason in reasons.items() if reason == HoldReason.EXPORT_PENDING}
        requeue.hold(held, reasons, pending={each: blocked[each] for each in waiting & blocked.keys()})
    return admitted


def holds_of(*, is_blocked: bool, is_too_large: bool, four_eyes: bool) -> list[HoldReason]:
    """Return the reasons that hold a deletion until its approval, in the order of the checks."""
    reasons = {
        HoldReason.EXPORT_PENDING: is_blocked,
        HoldReason.TOO_MANY_CONVERSATIONS: is_too_large,
        HoldReason.AWAITING_APPROVAL: four_eyes,
    }
    return [reason for reason, applies in reasons.items() if applies]


def mark(held: HeldClaim, admitted: Sequence[Admitted], *, erases: bool) -> MarkedRequests:
    """Mark the conversations of these requests, and with `erases` erase them in the same transaction.

    `erases` is only for requests that fit one chunk by `sizes`. A request that marked in an earlier attempt keeps
    that mark and its cutoff. One with a locked row, or whose chatbot is busy taking in, leaves the claim for a
    moment.
    """
    again = [one.request_id for one in admitted if one.has_marked]
    if again:
        again = _continue(held, [one for one in admitted if one.has_marked])
    new = [one for one in admitted if not one.has_marked]
    marked = _mark_free(held, new, waits=False, erases=erases)
    refused = [one for one in new if one.request_id not in marked]
    for chatbot_id in sorted({one.chatbot_id for one in refused}):
        of_chatbot = [one for one in refused if one.chatbot_id == chatbot_id]
        marked |= _mark_free(held, of_chatbot, waits=True, erases=erases)
    done = {request_id for request_id, is_marked in marked.items() if is_marked}
    return MarkedRequests(
        [one.request_id for one in admitted if one.request_id in done or one.request_id in again],
        new=done,
        leaves_rows=bool(again) or not erases,
        chatbot_ids={one.chatbot_id for one in admitted},
    )


def _continue(held: HeldClaim, marked: Sequence[Admitted]) -> list[UUID]:
    """Continue requests that have marked, and return them; the others left the claim.

    Those that a replay has filed with a cutoff have marked nothing yet, so a legal hold can cover some of their data.
    """
    chatbot_ids = {one.chatbot_id for one in marked}
    with held.transaction():
        if legal_holds.any_in_force():
            for chatbot_id in sorted(chatbot_ids):
                locks.share_with_intake(chatbot_id)
            ids = [one.request_id for one in marked if not one.withholds]
            on_hold = legal_holds.find_held_by_request(ids, chatbot_ids) if ids else {}
            if on_hold:
                requeue.hold(held, dict.fromkeys(on_hold, HoldReason.LEGAL_HOLD), pending={})
            marked = [one for one in marked if one.request_id not in on_hold]
        ids = [one.request_id for one in marked]
        execute(_CONTINUE, [array(ids)])
    return ids


def _mark_free(held: HeldClaim, new: Sequence[Admitted], *, waits: bool, erases: bool) -> dict[UUID, bool]:
    """Mark the requests of chatbots whose locks are free, in one transaction. `waits` is for requests of one chatbot.

    Returns whether each was marked; one that was not has left the claim. Requests that are missing were refused the
    lock.
    """
    requeued: dict[UUID, bool] = {}
    while new:
        try:
            with held.transaction():
                free = _exclude_intake(held, {one.chatbot_id for one in new}, waits=waits)
                ours = [one for one in new if one.chatbot_id in free]
                on_hold = _mark_all(held, ours, erases=erases) if ours else set()
        except _RowsInUse as error:
            busy = error.request_ids
        except locks.Busy:
            busy = {one.request_id for one in new}
        else:
            return requeued | {one.request_id: one.request_id not in on_hold for one in ours}
        requeue.requeue(held, busy, waiting_for=WaitingFor.ROWS, wait=WAIT_FOR_ROWS)
        requeued |= dict.fromkeys(busy, False)
        new = [one for one in new if one.request_id not in busy]
    return requeued


def _exclude_intake(held: HeldClaim, chatbot_ids: set[int], *, waits: bool) -> set[int]:
    """Return the chatbots whose locks are held now. Raises locks.Busy."""
    if not waits:
        return locks.try_to_exclude_intake(chatbot_ids, number=held.id)
    [chatbot_id] = chatbot_ids
    locks.exclude_intake(chatbot_id, number=held.id)
    return chatbot_ids


def _mark_all(held: HeldClaim, new: Sequence[Admitted], *, erases: bool) -> set[UUID]:
    """Mark, in the caller's transaction and under intake's locks; return the requests that a legal hold keeps.

    Raises _RowsInUse.
    """
    cutoffs = fetch(CUTOFF, {"chatbots": array({one.chatbot_id for one in new})})
    on_hold, withheld = set[UUID](), dict[UUID, set[int]]()
    if with_hold := {chatbot_id for chatbot_id, _, _, has_hold in cutoffs if has_hold}:
        withheld = legal_holds.find_held_by_request(
            [one.request_id for one in new if one.chatbot_id in with_hold], with_hold
        )
        on_hold = {one.request_id for one in new if one.request_id in withheld and not one.withholds}
        if on_hold:
            requeue.hold(held, dict.fromkeys(on_hold, HoldReason.LEGAL_HOLD), pending={})
            new = [one for one in new if one.request_id not in on_hold]
            withheld = {each: numbers for each, numbers in withheld.items() if each not in on_hold}
    if not new:
        return on_hold
    ids = [one.request_id for one in new]
    # Exports that a redaction has filed again since they were admitted. The next claim holds them.
    checked = fetch(_OVERTAKEN, [array(ids)])
    overtaken = {request_id for request_id, is_blocked, _ in checked if is_blocked}
    overtaken |= exports.find_blocking([request_id for request_id, _, meets_others in checked if meets_others]).keys()
    if overtaken:
        raise _RowsInUse(overtaken)
    times = [at for _, at, _, _ in cutoffs]
    numbers = {chatbot_id: number for chatbot_id, _, number, _ in cutoffs}
    kept = set[int]().union(*withheld.values())
    counts: Mapping[UUID, completion.Counts] = {}
    found: Counter[Named] = Counter()
    numbers_named: set[int] = set()
    is_all = False
    if erases:
        named, is_all = rows.lock_named(ids, withheld=kept)
        numbers_named = {one.number for one in named}
        found += Counter((one.request_id, one.established_by) for one in named)
        counts = rows.erase(named, marked_by=ids)
        # Without those whose requests have free text that another transaction has locked.
        is_all &= sum(count["conversations"] for count in counts.values()) == len(numbers_named)
    else:
        execute(_MARK, sql.given(ids) | {"withheld": array(kept)})
    if not is_all:
        found += _count_remaining(ids, counted=numbers_named, withheld=kept)
    if not erases:
        exports.expire_marked(ids)
    for request_id, left_out in withheld.items():
        ComplianceRequest.objects.filter(pk=request_id).update(withheld=len(left_out))
    _begin(new, min(times), numbers, found=found, counts=counts)
    return on_hold


def _count_remaining(
    request_ids: Sequence[UUID], *, counted: Collection[int], withheld: Collection[int]
) -> Counter[Named]:
    """Return how much each request has still to erase, without these conversations.

    Raises _RowsInUse if some of it is open: another worker has locked it.
    """
    values = {**sql.subjects(request_ids), "counted": array(counted), "withheld": array(withheld)}
    named = fetch(_NAMED_LIVE, values)
    in_use = {request_id for request_id, _, _, is_open in named if is_open}
    if in_use:
        raise _RowsInUse(in_use)
    return Counter({(request_id, way): number for request_id, way, number, _ in named})


def _begin(
    new: Sequence[Admitted],
    cutoff_at: datetime,
    cutoff_numbers: Mapping[int, int],
    *,
    found: Counter[Named],
    counts: Mapping[UUID, completion.Counts],
) -> None:
    """Set the requests to processing with their cutoffs and counts so far, and remember the chatters for intake."""
    ids = [request.request_id for request in new]
    counted: dict[UUID, completion.Counts] = defaultdict(Counter, counts)
    totals: Counter[UUID] = Counter()
    for (request_id, way), number in found.items():
        totals[request_id] += number
        if way is not None:
            counted[request_id][completion.COUNTER_OF_WAY[way]] += number
    begun: dict[str, str | datetime] = {**completion.columns_of([counted[each] for each in ids])}
    begun |= {
        "ids": array(ids),
        "cutoff_at": cutoff_at,
        "cutoffs": array(cutoff_numbers[request.chatbot_id] for request in new),
        "totals": array(totals[each] for each in ids),
    }
    execute(_BEGIN, begun)
    remember(ids)


def remember(request_ids: Sequence[UUID]) -> None:
    """Have intake refuse late data of the chatters of these deletions, in the transaction that marks.

    For a replayed request this includes the conversations in the ledger that have no row any more. The chatbots of
    all live in one place.
    """
    keep = settings.ERASURE_LEDGER_DAYS.total_seconds()
    execute(_REMEMBER, {"ids": array(request_ids), "keep": keep})
    lost: dict[int, list[NewTombstone]] = defaultdict(list)
    for chatbot_id, *row in fetch(_LOST, sql.subjects(request_ids)):
        lost[chatbot_id].append(NewTombstone(*row))
    for chatbot_id, rows_of_chatbot in lost.items():
        tombstones.write(rows_of_chatbot, chatbot_id=chatbot_id)
