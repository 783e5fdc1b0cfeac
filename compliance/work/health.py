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

from common.db import array, fetch
from compliance.work import heartbeats, notify, occurrences
from compliance.work.heartbeats import Cluster, Condition

# Seconds are normal.
LONGEST_WAIT = timedelta(minutes=10)
# A guard nudges every few seconds while something waits, so nobody at work so long after is not for want of a nudge.
_IDLE_WAIT = timedelta(seconds=60)
# The sweep is asked for every minute, and may wait for a worker and take its time.
_SWEEP_LATE = timedelta(minutes=3)
# So long it is told that a cluster vanished, or was started anew.
_TOLD_OF_CLUSTERS = timedelta(minutes=10)
_TOLD_OF_FOREIGN = timedelta(days=1)
# Each guard breaks up expired claims every few seconds, so one that stays has nobody who does.
_CLAIM_LATE = timedelta(minutes=1)

# The first of each line: of a chatbot, kind and lane. A step into the index for each, however many wait. What has to
# call a storage that does not answer may not be taken up, and is told by itself.
FIRST_OF_LINES = """
  FROM chatbots_chatbot c
 CROSS JOIN unnest(ARRAY['deletion', 'export']) AS k(kind)
 CROSS JOIN unnest(ARRAY['normal', 'isolated', 'large', 'client']) AS l(lane)
 CROSS JOIN LATERAL (
    SELECT r.id, r.seq, r.variable_id, r.uci_digest, r.conversation_digests,
           coalesce(r.not_before, r.queued_at) AS waits_since
      FROM compliance_compliancerequest r
     WHERE r.status = 'accepted' AND r.claim_id IS NULL
       AND r.kind = k.kind AND r.lane = l.lane AND r.chatbot_id = c.id
       AND coalesce(r.not_before, r.queued_at) <= statement_timestamp()
     ORDER BY coalesce(r.not_before, r.queued_at), r.seq
     LIMIT 1
 ) AS oldest
 WHERE (%(all)s OR c.id = ANY(%(chatbots)s::bigint[]))
   AND NOT EXISTS (
       SELECT FROM chatbots_silentstorage s JOIN chatbots_bucket b ON b.chatbot_id = c.id
        WHERE CASE b.hosting WHEN 'client' THEN s.chatbot_id = c.id AND (k.kind = 'export' OR l.lane = 'client')
                             ELSE s.chatbot_id IS NULL AND k.kind = 'export' END
          AND (NOT %(trials)s OR s.rests_until > clock_timestamp()))
"""
_OLDEST = f"""
SELECT oldest.id, c.id, oldest.waits_since, statement_timestamp(),
       -- It may have to wait for an earlier one, which waits for its own time.
       EXISTS (SELECT FROM compliance_compliancerequest earlier
                WHERE earlier.variable_id = oldest.variable_id AND earlier.uci_digest = oldest.uci_digest
                  AND earlier.seq < oldest.seq AND earlier.status IN ('accepted', 'processing'))
       OR EXISTS (SELECT FROM (SELECT * FROM compliance_compliancerequest
                                WHERE conversation_digests && oldest.conversation_digests OFFSET 0) AS earlier
                   WHERE earlier.seq < oldest.seq AND earlier.status IN ('accepted', 'processing'))
{FIRST_OF_LINES}
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


_AT_WORK = """
SELECT statement_timestamp(),
       EXISTS (SELECT FROM compliance_claim WHERE expires_at > statement_timestamp())
       OR EXISTS (SELECT FROM conversations_dailyextract
                WHERE state IN ('pending', 'stale') AND claimed_until > statement_timestamp())
"""
# What waits for a bucket that does not answer, counted up to _MOST_WAITING. For the operator's, all exports wait.
_SILENT = """
SELECT c.slug, s.since, s.rests_until, waiting.requests, waiting.days
  FROM chatbots_silentstorage s
  LEFT JOIN chatbots_chatbot c ON c.id = s.chatbot_id
 CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM (
                SELECT FROM compliance_compliancerequest r
                 WHERE r.status = 'accepted' AND r.claim_id IS NULL AND r.chatbot_id = s.chatbot_id
                   AND (r.kind = 'export' OR r.lane = 'client')
                 LIMIT %(most)s) AS each) AS requests,
           (SELECT count(*) FROM (
                SELECT FROM conversations_dailyextract d
                 WHERE d.state IN ('pending', 'stale') AND d.chatbot_id = s.chatbot_id
                 LIMIT %(most)s) AS each) AS days) AS waiting
 WHERE s.chatbot_id IS NULL OR %(all)s OR s.chatbot_id = ANY(%(chatbots)s::bigint[])
 ORDER BY s.chatbot_id IS NOT NULL, s.since, s.id
 LIMIT 200
"""
_MOST_WAITING = 1_000


class Silent(NamedTuple):
    """A storage that does not answer: the operator's where `slug` is None. What waits is counted up to a limit."""

    slug: str | None
    since: datetime
    rests_until: datetime | None
    requests: int
    days: int


class Waiting(NamedTuple):
    """The request that has waited longest of those that may be taken up, and for how long."""

    request_id: UUID
    chatbot_id: int
    since: datetime
    age: timedelta
    is_blocked: bool = False  # by an earlier one of the same chatter


class RunningClaim(NamedTuple):
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
    CLUSTER_GONE = "cluster_gone"
    CLUSTER_RESTARTED = "cluster_restarted"
    CLUSTER_STALLED = "cluster_stalled"
    WORKERS_IDLE = "workers_idle"
    WORK_WAITS = "work_waits"
    SWEEP_LATE = "sweep_late"
    BUCKET_SILENT = "bucket_silent"
    STORAGE_SILENT = "storage_silent"
    CLAIMS_EXPIRED = "claims_expired"
    UNEXPECTED_TASK = "unexpected_task"


class Problem(NamedTuple):
    """What is wrong, by a code of ours, and what to do."""

    code: Code
    detail: str


@dataclass(frozen=True)
class Health:
    at: datetime
    clusters: list[Cluster]
    oldest: Waiting | None
    claims: list[RunningClaim]
    is_any_worker_busy: bool
    tasks_waiting: int
    oldest_task: timedelta | None
    last_sweep: datetime | None
    unexpected_tasks: occurrences.Last
    restarts: occurrences.Last
    silent: list[Silent]

    @property
    def alive(self) -> int:
        return sum(cluster.condition is Condition.ALIVE for cluster in self.clusters)

    @property
    def expired_claims(self) -> list[RunningClaim]:
        return [claim for claim in self.claims if claim.expires_at < self.at]

    @property
    def sweep_age(self) -> timedelta:
        """How long ago the sweep ran; before its first run, since when there was somebody to run it."""
        began = [cluster.started_at for cluster in self.clusters if cluster.condition is not Condition.STOPPED]
        return self.at - (self.last_sweep or min(began, default=self.at))

    @property
    def problems(self) -> list[Problem]:
        return list(_problems(self))


def check(*, chatbots: Collection[int] | None = None) -> Health:
    """Look at the service: at the work of all chatbots, or of these. A few statements, which count few rows."""
    now, is_any_worker_busy = _now_and_at_work()
    tasks, oldest_task = notify.tasks_waiting()
    last = occurrences.last()
    return Health(
        at=now,
        clusters=heartbeats.clusters(),
        oldest=oldest_waiting(chatbots),
        claims=_claims(chatbots),
        is_any_worker_busy=is_any_worker_busy,
        tasks_waiting=tasks,
        oldest_task=oldest_task,
        last_sweep=last[occurrences.Name.SWEEP].last_at,
        unexpected_tasks=last[occurrences.Name.UNEXPECTED_TASK],
        restarts=last[occurrences.Name.CLUSTER_RESTARTED],
        silent=[Silent(*row) for row in _rows(_SILENT, chatbots)],
    )


def oldest_waiting(chatbots: Collection[int] | None = None) -> Waiting | None:
    """Return what has waited longest of what may be taken up, of all chatbots or of these."""
    rows = _rows(_OLDEST, chatbots, trials=False)
    if not rows:
        return None
    request_id, chatbot_id, since, now, is_blocked = rows[0]
    return Waiting(request_id, chatbot_id, since, now - since, is_blocked)


def is_anything_due() -> bool:
    """Say whether a worker can take something up: also what waits for a storage whose rest is over, to try that."""
    return bool(_rows(_OLDEST, None, trials=True))


def _now_and_at_work() -> tuple[datetime, bool]:
    [(now, is_any_worker_busy)] = fetch(_AT_WORK)
    return now, is_any_worker_busy


def _claims(chatbots: Collection[int] | None) -> list[RunningClaim]:
    return [RunningClaim(*row) for row in _rows(_CLAIMS, chatbots)]


def _rows(statement: str, chatbots: Collection[int] | None, **values: bool) -> list[tuple[Any, ...]]:
    asked: dict[str, Any] = {"all": chatbots is None, "chatbots": array(chatbots or ()), "most": _MOST_WAITING}
    rows: list[tuple[Any, ...]] = fetch(statement, asked | values)
    return rows


def _problems(health: Health) -> Iterator[Problem]:
    yield from _problems_of_clusters(health)
    yield from _problems_of_work(health)
    if _is_recent(health, health.unexpected_tasks.last_at, _TOLD_OF_FOREIGN):
        yield Problem(
            Code.UNEXPECTED_TASK,
            "Somebody wrote into the queue's tables what this service does not put there. It was dropped, not run. "
            "Find out who can write into the database (the log has queue.unexpected_task).",
        )


def _problems_of_clusters(health: Health) -> Iterator[Problem]:
    stalled = [cluster.name for cluster in health.clusters if cluster.condition is Condition.STALLED]
    if not health.alive and not stalled:
        yield Problem(
            Code.NO_CLUSTER,
            "No cluster of workers is alive. Start one (manage.py qcluster); its log says why the last one ended. "
            "Meanwhile manage.py process_requests carries out what waits.",
        )
    else:
        for cluster in health.clusters:
            if (
                cluster.condition is Condition.GONE
                and not cluster.is_cleared_up
                and _is_recent(health, cluster.seen_at, _TOLD_OF_CLUSTERS)
            ):
                yield Problem(
                    Code.CLUSTER_GONE,
                    f"The cluster {cluster.name} was not told to stop and is not seen any more. Start it again, or "
                    "look whether its machine reaches the database.",
                )
    for name in stalled:
        yield Problem(
            Code.CLUSTER_STALLED, f"The cluster {name} is there, but its workers take up nothing. Restart it."
        )
    if _is_recent(health, health.restarts.last_at, _TOLD_OF_CLUSTERS):
        yield Problem(
            Code.CLUSTER_RESTARTED,
            "A process of a cluster was killed or stood still, and the cluster has started itself anew. If that "
            "happens again, look at cluster.ends in the worker's log, and whether memory runs out.",
        )


def _problems_of_work(health: Health) -> Iterator[Problem]:
    age = health.oldest.age if health.oldest and not health.oldest.is_blocked else timedelta()
    if health.alive and not health.is_any_worker_busy and max(age, health.oldest_task or timedelta()) > _IDLE_WAIT:
        yield Problem(
            Code.WORKERS_IDLE,
            "Work has waited for a minute, and no worker of the clusters has anything in hand. Restart them.",
        )
    if health.oldest and health.oldest.age > LONGEST_WAIT:
        minutes = health.oldest.age // timedelta(minutes=1)
        yield Problem(
            Code.WORK_WAITS,
            f"A request has waited for {minutes} minutes to be taken up. Look at the clusters and at the "
            "worker's log; if there is too much to do, add workers.",
        )
    if health.sweep_age > _SWEEP_LATE:
        yield Problem(
            Code.SWEEP_LATE,
            "The sweep has not run for minutes. Without it nothing is done by time. Restart the cluster.",
        )
    if any(health.at - claim.expires_at > _CLAIM_LATE for claim in health.claims):
        yield Problem(
            Code.CLAIMS_EXPIRED,
            "What a worker left behind was not put back into the line. Start a cluster, or run "
            "manage.py process_requests.",
        )
    for silent in health.silent:
        yield _of_silent(silent)


def _of_silent(silent: Silent) -> Problem:
    since = f"{silent.since:%Y-%m-%d %H:%M:%S} UTC"
    if silent.slug is None:
        return Problem(
            Code.STORAGE_SILENT,
            f"The hosted bucket has not answered since {since}. Exports, files and the completion of deletions wait, "
            "and go on by themselves once it does. Look at the storage and at the network in between.",
        )
    return Problem(
        Code.BUCKET_SILENT,
        f"The client's bucket of {silent.slug} has not answered since {since}. {_waiting(silent)} wait for it; "
        "nothing of others does. It is tried again by itself. Ask the client to look at the bucket; "
        f"manage.py check_bucket {silent.slug} tries it now.",
    )


def _waiting(silent: Silent) -> str:
    def counted(number: int, of: str) -> str:
        most = "or more " if number == _MOST_WAITING else ""
        return f"{number:,} {most}{of}{'s' * (number != 1)}"

    return f"{counted(silent.requests, 'request')} and {counted(silent.days, 'daily extract')}"


def _is_recent(health: Health, at: datetime | None, period: timedelta) -> bool:
    return at is not None and health.at - at < period
