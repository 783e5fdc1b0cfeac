"""Start exports, complete requests, and count erased or exported data, in transactions that hold the claim.

Counters are added in the transaction that did the counted work, so a kill neither loses nor repeats any. Completing
clears the chatter's value.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models.functions import Greatest

from common.db import array, execute, fetch
from compliance.models import ComplianceRequest, RequestSubject
from compliance.work import free_text
from compliance.work.claims import HeldClaim
from compliance.work.outbox import announce, log
from compliance.work.sql import IS_EARLIER, RUNNABLE, SHARING, digests_of, subjects
from compliance.work.transitions import rest
from conversations.assurance import WAYS
from conversations.models import Assurance
from conversations.sql import SELECTED_CONVERSATIONS

# The counts of a chatter's conversations by the reliability of the identity, and the sources of an identity for each.
ASSURANCE_COUNTERS = tuple(f"assurance_{level}" for level in Assurance)
COUNTER_OF_WAY = {way: f"assurance_{level}" for level, ways in WAYS.items() for way in ways}
COUNTERS = (
    "conversations",
    "shared_conversations",
    "messages",
    "identities",
    "variable_values",
    "files",
    "exports",
    "extracts",
    "unverified_left_out",
    "csat_comments",
    *ASSURANCE_COUNTERS,
)

Counts = Counter[str]


# Lock in order of filing: the sweeps of two workers may add to the same requests.
_ADD = f"""
WITH added AS (
    SELECT * FROM unnest({", ".join(["%s::uuid[]", *["%s::bigint[]"] * len(COUNTERS)])})
               AS added(id, {", ".join(COUNTERS)})
), locked AS (
    SELECT id FROM compliance_compliancerequest WHERE id IN (SELECT id FROM added) ORDER BY seq FOR NO KEY UPDATE
)
UPDATE compliance_compliancerequest r SET {", ".join(f"{name} = r.{name} + added.{name}" for name in COUNTERS)}
  FROM locked JOIN added ON added.id = locked.id WHERE r.id = locked.id
"""

# Marking does not count conversations that another deletion had erased before. They are added when found; the row
# records the added number, since a worker can be killed in between.
_NOTE = """
UPDATE compliance_compliancerequest r
   SET conversations_total = counted.total, erased_before = counted.before, extracts_left = noted.days,
       extracts = CASE WHEN counted.total > 0 OR r.kind = 'redaction' THEN noted.clean ELSE 0 END
  FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[]) AS noted(id, before, clean, days)
 CROSS JOIN LATERAL (
       SELECT greatest(was.erased_before, noted.before) AS before,
              greatest(was.conversations_total + greatest(noted.before - was.erased_before, 0), was.conversations)
                  AS total
         FROM compliance_compliancerequest AS was WHERE was.id = noted.id) AS counted
 WHERE r.id = noted.id
"""

# Locks exactly the rows that completing changes, in one statement and one order: two workers can complete
# requests of one chatter, each with the other's among those to change. It also keeps failed exports from being
# retried meanwhile: an export goes first, and its file contains the chatter's value.
_LOCK = f"""
SELECT FROM compliance_compliancerequest
 WHERE id = ANY(ARRAY(
       SELECT each.id
         FROM compliance_compliancerequest r
        CROSS JOIN LATERAL (
              SELECT r.id
               UNION ALL
              SELECT of_chatter.id
                FROM (SELECT id, seq, status, failed_at, uci_value FROM compliance_compliancerequest
                       WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest) AS of_chatter
               WHERE (seq < r.seq OR failed_at <= r.cutoff_at) AND status = 'failed' AND uci_value IS NOT NULL
               UNION ALL
              SELECT earlier.id FROM {SHARING} AS earlier WHERE earlier.seq < r.seq AND earlier.status = 'failed'
              ) AS each
        WHERE r.id = ANY(%s) AND r.claim_id = %s
        UNION ALL
       SELECT unnest(%s::uuid[])))
 ORDER BY seq FOR NO KEY UPDATE
"""
# For each request whether it is by conversations, whether an export of its chatter goes first, and whether any
# request of the chatter has failed.
_MET = f"""
SELECT r.id, r.named_conversations IS NOT NULL AS names,
       EXISTS (SELECT FROM compliance_compliancerequest earlier
                WHERE {IS_EARLIER} AND earlier.status IN {RUNNABLE} AND earlier.kind = 'export'),
       EXISTS (SELECT FROM compliance_compliancerequest other
                WHERE other.variable_id = r.variable_id AND other.uci_digest = r.uci_digest
                  AND other.status = 'failed'),
       r.withheld > 0
  FROM compliance_compliancerequest r
 WHERE r.id = ANY(%s) AND r.claim_id = %s
"""
# Also exports that were filed later, as while the deletion was held, and failed before the mark. Not deletions that
# failed after a later mark: their scope is larger, and they can be retried. Intake closes late data for the latest
# mark, even if nothing was stored between the two. Requests that failed since the lock are skipped if another worker
# has locked them.
_FORGET_FAILED = """
UPDATE compliance_compliancerequest SET uci_value = NULL, callback_url = ''
 WHERE id = ANY(ARRAY(
       SELECT other.id
         FROM compliance_compliancerequest r
         JOIN compliance_compliancerequest other
           ON other.variable_id = r.variable_id AND other.uci_digest = r.uci_digest
          AND other.status = 'failed' AND other.uci_value IS NOT NULL
          AND CASE other.kind WHEN 'export' THEN other.seq < r.seq OR other.failed_at <= r.cutoff_at
                              ELSE other.seq < r.seq AND coalesce(other.cutoff_at, '-infinity') <= r.cutoff_at END
        WHERE r.id = ANY(%s) AND r.claim_id = %s
        FOR NO KEY UPDATE OF other SKIP LOCKED))
"""
# Requests by conversations delete the ids once no data of any is left: until then they can be retried.
_FAILED_BY_IDS = f"""
WITH earlier AS MATERIALIZED (
    SELECT DISTINCT ON (earlier.id)
           earlier.id, earlier.chatbot_id, earlier.variable_id, earlier.uci_digest,
           {digests_of("earlier")} AS conversation_digests
      FROM compliance_compliancerequest r
     CROSS JOIN LATERAL {SHARING} AS earlier
     WHERE r.id = ANY(%(ids)s) AND r.claim_id = %(claim)s AND earlier.seq < r.seq AND earlier.status = 'failed'
), over AS MATERIALIZED (
    SELECT r.id
      FROM earlier AS r
     WHERE NOT EXISTS (
           SELECT FROM ({SELECTED_CONVERSATIONS}) AS named
             JOIN conversations_conversation c
               ON c.id = named.conversation_id AND c.chatbot_id = ANY(%(chatbots)s) AND c.deleted_at IS NULL)
) SELECT id FROM over
"""

# With an entry of the change log for each.
_COMPLETE = """
WITH done AS (
    UPDATE compliance_compliancerequest
       SET status = 'completed', completed_at = %s, claim_id = NULL, uci_value = NULL, waiting_for = NULL,
           extracts_left = 0, conversations_total = greatest(conversations_total, conversations),
           result = CASE WHEN withholds AND withheld > 0 THEN 'partial'
                         WHEN conversations_total + conversations + messages + csat_comments + files + exports > 0
                           OR EXISTS (SELECT FROM compliance_leftcopy
                                       WHERE deletion_id = compliance_compliancerequest.id)
                         THEN 'done' ELSE 'nothing_found' END,
           error_code = '', error_detail = ''
     WHERE id = ANY(ARRAY(SELECT id FROM compliance_compliancerequest
                           WHERE id = ANY(%s) AND claim_id = %s ORDER BY seq FOR NO KEY UPDATE))
    RETURNING *
), logged AS (
    INSERT INTO chatbots_changelogentry (chatbot_id, request_id, event, actor, data)
    SELECT chatbot_id, id, 'request.completed', 'worker', jsonb_strip_nulls(jsonb_build_object(
           'result', result, 'conversations', conversations, 'messages', messages, 'files', files,
           'exports', exports, 'unverified_left_out', nullif(unverified_left_out, 0),
           'csat_comments', nullif(csat_comments, 0)))
      FROM done
)
SELECT id FROM done
"""

# Compare the chatbots last: without statistics, PostgreSQL would read all of their requests.
_START_EXPORTS = """
WITH claimed AS (
    SELECT id, chatbot_id FROM compliance_compliancerequest WHERE claim_id = %(claim)s ORDER BY seq FOR UPDATE
)
UPDATE compliance_compliancerequest r
   SET status = 'processing', started_at = coalesce(r.started_at, %(now)s), cutoff_at = %(now)s
  FROM claimed WHERE r.id = claimed.id AND claimed.chatbot_id = ANY(%(chatbots)s)
"""

# Lock in order of id, as all code that locks many of them. If the chatter's deletion has marked meanwhile, the file
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


class Remainder(NamedTuple):
    """The remaining data of a deletion.

    `erased_before` counts conversations that another deletion erased but that left data. `extracts` are days already
    rebuilt, `extracts_left` days still to rebuild.
    """

    erased_before: int
    extracts: int
    extracts_left: int


def record_remainders(left: Mapping[UUID, Remainder]) -> None:
    """Store the amounts of remaining data of the claim's deletions, in the caller's transaction."""
    if left:
        columns = (array(count) for count in zip(*left.values(), strict=True))
        execute(_NOTE, [array(left), *columns])


def add_counts(counts: Mapping[UUID, Counts]) -> None:
    """Add to the counters of many requests in one statement, in the caller's transaction."""
    changed = {request_id: count for request_id, count in counts.items() if count}
    if changed:
        execute(_ADD, [array(changed), *columns_of(changed.values()).values()])


def columns_of(counts: Collection[Counts]) -> dict[str, str]:
    """Return an array of each counter, as texts; most counters are 0."""
    counted = set[str]().union(*counts)
    nothing = array([0] * len(counts))
    return {name: array(one[name] for one in counts) if name in counted else nothing for name in COUNTERS}


def add_late_counts(counts: Mapping[UUID, Counts]) -> None:
    """Add late data to completed deletions, in the caller's transaction: their result is now `done`."""
    add_counts(counts)
    ComplianceRequest.objects.filter(pk__in=counts).update(
        conversations_total=Greatest("conversations_total", "conversations"), result=ComplianceRequest.Result.DONE
    )


class Obstacles(NamedTuple):
    """The obstacles to the completion of deletions. Most have none.

    `blocked`: those that must wait for an earlier export of their chatter, which was retried since. `by_ids`: those
    by conversations. `partial`: those that leave out conversations under a legal hold. The flags: whether any of
    their chatters has failed requests, or requests with free text that contains the value.
    """

    blocked: list[UUID]
    by_ids: list[UUID]
    partial: list[UUID]
    has_failed: bool
    has_free_text: bool


def begin(held: HeldClaim, request_ids: Sequence[UUID]) -> Obstacles:
    """Begin the transaction that completes deletions: lock them, and all requests that completing them changes."""
    named = free_text.of_chatters(request_ids).requests
    execute(_LOCK, [array(request_ids), held.id, array(named)])
    met = fetch(_MET, [array(request_ids), held.id])
    return Obstacles(
        blocked=[request_id for request_id, _, is_blocked, *_ in met if is_blocked],
        by_ids=[request_id for request_id, names, *_ in met if names],
        partial=[request_id for request_id, *_, is_partial in met if is_partial],
        has_failed=any(has_failed for *_, has_failed, _ in met),
        has_free_text=bool(named),
    )


def failed_by_ids(held: HeldClaim, request_ids: Iterable[UUID]) -> list[UUID]:
    """Return earlier failed requests with conversations of these that have no live one left.

    In the caller's transaction. Other stores may still have data of them.
    """
    ids = list(request_ids)
    if not ids:
        return []  # Citus refuses the statement for no chatbot, which is of no shard
    return [request_id for (request_id,) in fetch(_FAILED_BY_IDS, {**subjects(ids), "claim": held.id})]


def complete_deletions(
    held: HeldClaim, request_ids: Sequence[UUID], met: Obstacles, *, done_by_ids: Sequence[UUID] = ()
) -> None:
    """Complete verified deletions; former failed requests of their chatters lose their subject.

    In the transaction that `begin` began, which returned `met`.
    `done_by_ids` are those of `failed_by_ids` that have nothing left in any store.
    """
    with held.transaction() as now:
        if met.has_failed:
            execute(_FORGET_FAILED, [array(request_ids), held.id])
        if done_by_ids:
            failed = ComplianceRequest.objects.filter(pk__in=done_by_ids, status=ComplianceRequest.Status.FAILED)
            ids = list(failed.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True))
            ComplianceRequest.objects.filter(pk__in=ids).update(named_conversations=None, callback_url="")
            RequestSubject.objects.filter(request__in=ids).delete()
        if met.has_free_text:
            free_text.clear_for_chatters(request_ids)  # needs the values, which completing clears
        if partial := set(met.partial).intersection(request_ids):
            rest.file(partial)
        complete(held, request_ids, now)


def complete(held: HeldClaim, request_ids: Sequence[UUID], now: datetime) -> None:
    """Complete requests of the claim, in the caller's transaction."""
    announce([request_id for (request_id,) in fetch(_COMPLETE, [now, array(request_ids), held.id])])


def start_exports(held: HeldClaim, now: datetime, chatbot_ids: Collection[int]) -> list[ComplianceRequest]:
    """Start the claim's exports for these chatbots, in the caller's transaction, and return them."""
    execute(_START_EXPORTS, {"claim": held.id, "now": now, "chatbots": list(chatbot_ids)})
    claimed = ComplianceRequest.objects.filter(claim=held.id).order_by("seq")
    requests = [request for request in claimed if request.chatbot_id in chatbot_ids]
    log("request.started", [(request.pk, request.chatbot_id, {}) for request in requests])
    return requests


@dataclass(frozen=True)
class DeliveredFile:
    """A complete export file under its key, and its counts."""

    request_id: UUID
    chatbot_id: int
    export_id: int
    key: str
    rows: int
    bytes: int
    sha256: str
    counts: Counts


def complete_exports(held: HeldClaim, files: Sequence[DeliveredFile]) -> list[UUID]:
    """Complete exports whose files are under their keys. Raises ClaimLost.

    Returns the requests that cannot complete: a deletion has reached one of their conversations since, so the file
    must be removed and the export rebuilt from the rest.
    """

    def publish(now: datetime, chatbots: set[int]) -> set[UUID]:
        return _publish(held, [file for file in files if file.chatbot_id in chatbots], now)

    # Under the lock, so that marking sees an export either unfinished or finished with all its counts.
    finished = set(held.share_with_intake((file.chatbot_id for file in files), publish))
    return [file.request_id for file in files if file.request_id not in finished]


def _publish(held: HeldClaim, files: Sequence[DeliveredFile], now: datetime) -> set[UUID]:
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
