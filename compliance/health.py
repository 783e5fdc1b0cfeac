"""Is the service at work? One answer for the console, for `manage.py health` and for whoever watches from outside.

The one number that says most is the age of the oldest request that waits and may be taken up: it grows whatever the
reason, a dead worker, a cluster that looks well and does nothing, a full disk. The rest helps to find the reason.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from compliance import heartbeats, queue
from compliance.heartbeats import Cluster, Condition
from config.arrays import array

# Seconds are normal.
LONGEST_WAIT = timedelta(minutes=10)
# The sweep runs every minute; django-q2 looks at its schedule twice a minute.
_SWEEP_LATE = timedelta(minutes=5)
# The sweep breaks up expired claims, so one that stays has nobody who does.
_CLAIM_LATE = timedelta(minutes=5)

# By the order of the line of each chatbot, kind and lane: a step into the index for each, however many wait.
_OLDEST = """
SELECT oldest.id, c.id, oldest.waits_since, statement_timestamp()
  FROM chatbots_chatbot c
 CROSS JOIN unnest(ARRAY['deletion', 'export']) AS k(kind)
 CROSS JOIN unnest(ARRAY['normal', 'alone', 'large']) AS l(lane)
 CROSS JOIN LATERAL (
    SELECT r.id, coalesce(r.not_before, r.queued_at) AS waits_since
      FROM compliance_compliancerequest r
     WHERE r.status = 'accepted' AND r.claim_id IS NULL
       AND r.kind = k.kind AND r.lane = l.lane AND r.chatbot_id = c.id
       AND coalesce(r.not_before, r.queued_at) <= statement_timestamp()
     ORDER BY coalesce(r.not_before, r.queued_at), r.seq
     LIMIT 1
 ) AS oldest
 WHERE %(all)s OR c.id = ANY(%(chatbots)s::bigint[])
 ORDER BY oldest.waits_since, oldest.id
 LIMIT 1
"""

_CLAIMS = """
SELECT c.id, c.owner, c.is_large, c.created_at, c.expires_at, taken.requests, taken.kind, taken.lane
  FROM compliance_claim c
 CROSS JOIN LATERAL (
    SELECT count(*) AS requests, min(r.kind) AS kind, min(r.lane) AS lane
      FROM compliance_compliancerequest r
     WHERE r.claim_id = c.id AND (%(all)s OR r.chatbot_id = ANY(%(chatbots)s::bigint[]))
 ) AS taken
 WHERE %(all)s OR taken.requests > 0
 ORDER BY c.created_at, c.id
 LIMIT 200
"""


class Waiting(NamedTuple):
    """The request that has waited longest of those that may be taken up, and for how long."""

    request_id: UUID
    chatbot_id: int
    since: datetime
    age: timedelta


class ClaimInHand(NamedTuple):
    """What a worker has taken. Of its requests those are counted that were asked about."""

    id: int
    owner: str
    is_large: bool
    since: datetime
    expires_at: datetime
    requests: int
    kind: str | None
    lane: str | None


class Code(StrEnum):
    """All that can be wrong. Others watch for these codes: they are never renamed."""

    NO_CLUSTER = "no_cluster"
    CLUSTER_STALLED = "cluster_stalled"
    WORK_WAITS = "work_waits"
    SWEEP_MISSING = "sweep_missing"
    SWEEP_LATE = "sweep_late"
    CLAIMS_EXPIRED = "claims_expired"


class Problem(NamedTuple):
    """What is wrong, by a code of ours, and what to do."""

    code: Code
    detail: str


@dataclass(frozen=True)
class Health:
    at: datetime
    clusters: list[Cluster]
    oldest: Waiting | None
    claims: list[ClaimInHand]
    tasks_waiting: int
    next_sweep: datetime | None

    @property
    def alive(self) -> int:
        return sum(cluster.condition is Condition.ALIVE for cluster in self.clusters)

    @property
    def expired_claims(self) -> list[ClaimInHand]:
        return [claim for claim in self.claims if claim.expires_at < self.at]

    @property
    def problems(self) -> list[Problem]:
        return list(_problems(self))


def look(*, chatbots: Collection[int] | None = None) -> Health:
    """Look at the service: at the work of all chatbots, or of these. Five statements, none of which counts rows."""
    now = _database_time()
    return Health(
        at=now,
        clusters=heartbeats.clusters(),
        oldest=oldest_waiting(chatbots),
        claims=_claims(chatbots),
        tasks_waiting=queue.tasks_waiting(),
        next_sweep=queue.next_sweep(),
    )


def oldest_waiting(chatbots: Collection[int] | None = None) -> Waiting | None:
    """Return what has waited longest of what may be taken up, of all chatbots or of these."""
    rows = _rows(_OLDEST, chatbots)
    if not rows:
        return None
    request_id, chatbot_id, since, now = rows[0]
    return Waiting(request_id, chatbot_id, since, now - since)


def _database_time() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        [(now,)] = cursor.fetchall()
    found: datetime = now
    return found


def _claims(chatbots: Collection[int] | None) -> list[ClaimInHand]:
    return [ClaimInHand(*row) for row in _rows(_CLAIMS, chatbots)]


def _rows(statement: str, chatbots: Collection[int] | None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"all": chatbots is None, "chatbots": array(chatbots or ())})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _problems(health: Health) -> Iterator[Problem]:
    stalled = [cluster.name for cluster in health.clusters if cluster.condition is Condition.STALLED]
    if not health.alive and not stalled:
        yield Problem(
            Code.NO_CLUSTER,
            "No cluster of workers is alive. Start one (manage.py qcluster); its log says why the last one ended. "
            "Meanwhile manage.py process_requests carries out what waits.",
        )
    for name in stalled:
        yield Problem(
            Code.CLUSTER_STALLED, f"The cluster {name} is there, but its workers take up nothing. Restart it."
        )
    if health.oldest and health.oldest.age > LONGEST_WAIT:
        minutes = health.oldest.age // timedelta(minutes=1)
        yield Problem(
            Code.WORK_WAITS,
            f"A request has waited for {minutes} minutes to be taken up. Look at the clusters and at the "
            "worker's log; if there is too much to do, add workers.",
        )
    if health.next_sweep is None:
        yield Problem(Code.SWEEP_MISSING, "The sweep is on no schedule. Run manage.py sync_schedules.")
    elif health.at - health.next_sweep > _SWEEP_LATE:
        yield Problem(
            Code.SWEEP_LATE,
            "The sweep did not run when it was due. Without it nothing is done by time. Restart the cluster.",
        )
    if any(health.at - claim.expires_at > _CLAIM_LATE for claim in health.claims):
        yield Problem(
            Code.CLAIMS_EXPIRED,
            "What a worker left behind was not put back into the line. Start a cluster, or run "
            "manage.py process_requests.",
        )
