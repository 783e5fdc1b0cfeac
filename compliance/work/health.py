"""Is the service working? One answer for the console, for `manage.py health` and for monitoring systems.

The most telling number is the age of the oldest request that may be taken: it grows whatever the reason, be it a dead
worker, a cluster that looks well and does nothing, or a full disk. The rest helps to find the reason.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from chatbots.operations.credentials import interrupted_chatbots
from common.db import array, fetch, fetch_one
from compliance.work import heartbeats, lookups, notify, occurrences
from compliance.work.heartbeats import Cluster, Condition
from compliance.work.lookups import ResolverTrouble
from compliance.work.sql import DUE_AT, IS_EARLIER, IS_QUEUED, RUNNABLE, SHARING

# Seconds are normal.
LONGEST_WAIT = timedelta(minutes=10)
# A guard notifies every few seconds while requests wait, so idle workers after this are not for want of a task.
_IDLE_WAIT = timedelta(seconds=60)
# The sweep is asked for every minute, and may wait for a worker and take its time.
_SWEEP_LATE = timedelta(minutes=3)
# How long a lost or restarted cluster, and unexpected tasks, are reported.
_CLUSTERS_REPORTED = timedelta(minutes=10)
_TASKS_REPORTED = timedelta(days=1)
# Each guard requeues expired claims every few seconds, so one that stays means that no guard runs.
_CLAIM_LATE = timedelta(minutes=1)
_MOST_WAITING = 1_000

# The first waiting request of each chatbot, kind and lane: one index step each, however many wait. Requests that must
# call a storage that does not answer are left out, since that is reported by itself.
FIRST_IN_QUEUES = f"""
  FROM chatbots_chatbot c
 CROSS JOIN unnest(ARRAY['deletion', 'export', 'retention', 'redaction']) AS k(kind)
 CROSS JOIN unnest(ARRAY['normal', 'isolated', 'large', 'client']) AS l(lane)
 CROSS JOIN LATERAL (
    SELECT r.id, r.seq, r.variable_id, r.uci_digest, r.conversation_digests, {DUE_AT} AS waits_since
      FROM compliance_compliancerequest r
     WHERE {IS_QUEUED} AND r.kind = k.kind AND r.lane = l.lane AND r.chatbot_id = c.id
       AND {DUE_AT} <= statement_timestamp()
     ORDER BY {DUE_AT}, r.seq
     LIMIT 1
 ) AS r
 WHERE (%(all)s OR c.id = ANY(%(chatbots)s::bigint[]))
   AND NOT EXISTS (
       SELECT FROM chatbots_silentstorage s JOIN chatbots_bucket b ON b.chatbot_id = c.id
        WHERE CASE b.hosting WHEN 'client' THEN s.chatbot_id = c.id AND (k.kind = 'export' OR l.lane = 'client')
                             ELSE s.chatbot_id IS NULL AND k.kind = 'export' END
          AND (NOT %(trials)s OR s.rests_until > clock_timestamp()))
"""
_OLDEST = f"""
SELECT r.id, c.id, r.waits_since, statement_timestamp() - r.waits_since,
       -- It may have to wait for an earlier one, which waits for its own time.
       EXISTS (SELECT FROM compliance_compliancerequest earlier WHERE {IS_EARLIER} AND earlier.status IN {RUNNABLE})
       OR EXISTS (SELECT FROM {SHARING} AS earlier WHERE earlier.seq < r.seq AND earlier.status IN {RUNNABLE})
{FIRST_IN_QUEUES}
 ORDER BY r.waits_since, r.id
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
_IS_WORKER_BUSY = """
SELECT statement_timestamp(),
       EXISTS (SELECT FROM compliance_claim WHERE expires_at > statement_timestamp())
       OR EXISTS (SELECT FROM conversations_dailyextract
                   WHERE state IN ('pending', 'stale') AND claimed_until > statement_timestamp())
"""
# Of younger entries most are done at once, and then need no line of their own.
JOURNAL_AGE_SECONDS = 2.0
_IS_JOURNAL_DUE = f"""
SELECT EXISTS (SELECT FROM compliance_journalentry
                WHERE at < clock_timestamp() - make_interval(secs => {JOURNAL_AGE_SECONDS}))
"""
# For the operator's bucket, all exports wait, so they are not counted.
_SILENT = f"""
SELECT c.slug, s.since, s.rests_until, waiting.requests, waiting.days
  FROM chatbots_silentstorage s
  LEFT JOIN chatbots_chatbot c ON c.id = s.chatbot_id
 CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM (
                SELECT FROM compliance_compliancerequest r
                 WHERE {IS_QUEUED} AND r.chatbot_id = s.chatbot_id AND (r.kind = 'export' OR r.lane = 'client')
                 LIMIT {_MOST_WAITING}) AS each) AS requests,
           (SELECT count(*) FROM (
                SELECT FROM conversations_dailyextract d
                 WHERE d.state IN ('pending', 'stale') AND d.chatbot_id = s.chatbot_id
                 LIMIT {_MOST_WAITING}) AS each) AS days) AS waiting
 WHERE s.chatbot_id IS NULL OR %(all)s OR s.chatbot_id = ANY(%(chatbots)s::bigint[])
 ORDER BY s.chatbot_id IS NOT NULL, s.since, s.id
 LIMIT 200
"""


class SilentBucket(NamedTuple):
    """A bucket that does not answer: the operator's without a `slug`. Counts stop at _MOST_WAITING."""

    slug: str | None
    since: datetime
    rests_until: datetime | None
    requests: int
    days: int


class Waiting(NamedTuple):
    """The request that has waited longest of those that may be taken."""

    request_id: UUID
    chatbot_id: int
    since: datetime
    age: timedelta
    is_blocked: bool = False  # by an earlier one of the same chatter


class RunningClaim(NamedTuple):
    """A claim of a worker. `requests` counts those of the chatbots that were asked about."""

    id: int
    owner: str
    is_large: bool
    since: datetime
    expires_at: datetime
    requests: int
    kind: str | None
    lane: str | None


class Code(StrEnum):
    """Everything that can be wrong. Monitoring systems match these codes, so they are never renamed."""

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
    CREDENTIALS_INTERRUPTED = "credentials_interrupted"
    RESOLVER_OFF = "resolver_off"
    RESOLVER_FAILING = "resolver_failing"
    LOOKUPS_WAIT = "lookups_wait"
    UNEXPECTED_TASK = "unexpected_task"


_ADVICE = {
    Code.NO_CLUSTER: (
        "No cluster of workers is alive. Start one (manage.py qcluster); its log says why the last one ended. Until "
        "then, manage.py process_requests does the waiting work."
    ),
    Code.CLUSTER_GONE: (
        "The cluster {name} is gone without having been stopped. Start it again, or check whether its machine "
        "reaches the database."
    ),
    Code.CLUSTER_STALLED: "The cluster {name} is running, but its workers take no tasks. Restart it.",
    Code.CLUSTER_RESTARTED: (
        "A process of a cluster was killed or hung, and the cluster restarted. If that happens again, look for "
        "cluster.ends in the worker's log, and check whether memory runs out."
    ),
    Code.WORKERS_IDLE: "Work has waited for a minute while all workers are idle. Restart the clusters.",
    Code.WORK_WAITS: (
        "A request has waited for {minutes} minutes. Check the clusters and the worker's log; if there is too much "
        "work, add workers."
    ),
    Code.SWEEP_LATE: "The sweep has not run for minutes, so nothing due by time is done. Restart the cluster.",
    Code.CLAIMS_EXPIRED: (
        "The requests of a lost worker were not requeued. Start a cluster, or run manage.py process_requests."
    ),
    Code.STORAGE_SILENT: (
        "The hosted bucket has not answered since {since}. Exports, files and the completion of deletions wait until "
        "it does. Check the storage and the network in between."
    ),
    Code.BUCKET_SILENT: (
        "The client's bucket of {slug} has not answered since {since}. {waiting} wait for it; other chatbots do not. "
        "It is tried again by itself. Ask the client to check the bucket; manage.py check_bucket {slug} tries it now."
    ),
    Code.CREDENTIALS_INTERRUPTED: (
        "Issuing or revoking a client's credentials for the hosted bucket of {slugs} was interrupted, so they may "
        "still exist in the storage. manage.py bucket_credentials lists them; manage.py revoke_bucket_credentials or "
        "the chatbot's settings page revokes them."
    ),
    Code.RESOLVER_OFF: (
        "The resolver of {slug} is off, since another variable has become the UCI. Set it again for the new one, or "
        "remove it: manage.py set_resolver."
    ),
    Code.RESOLVER_FAILING: (
        "All calls to the resolver of {slug} have failed since {since}, so chatters stay unknown. The chatbot's "
        "settings page says why, and lets you try it. Ask the client to check the address."
    ),
    Code.LOOKUPS_WAIT: (
        "Look-ups of identities of {slug} have waited for a first call since {since}. Check the clusters and the "
        "worker's log; if there are too many, the client's address is too slow for them."
    ),
    Code.UNEXPECTED_TASK: (
        "The queue's tables held rows that this service does not write. They were deleted, not run. Find out who can "
        "write to the database (the log has queue.unexpected_task)."
    ),
}


class HealthProblem(NamedTuple):
    """What is wrong, and what to do."""

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
    silent: list[SilentBucket]
    interrupted_credentials: list[str]  # the slugs of their chatbots
    resolvers: list[ResolverTrouble]

    @property
    def alive(self) -> int:
        return sum(cluster.condition is Condition.ALIVE for cluster in self.clusters)

    @property
    def expired_claims(self) -> list[RunningClaim]:
        return [claim for claim in self.claims if claim.expires_at < self.at]

    @property
    def sweep_age(self) -> timedelta:
        """The time since the last sweep or, before the first, since a cluster was there to run it."""
        began = [cluster.started_at for cluster in self.clusters if cluster.condition is not Condition.STOPPED]
        return self.at - (self.last_sweep or min(began, default=self.at))

    @property
    def problems(self) -> list[HealthProblem]:
        return [
            *_cluster_problems(self),
            *_work_problems(self),
            *_bucket_problems(self),
            *_resolver_problems(self),
        ]


def check(*, chatbots: Collection[int] | None = None) -> Health:
    """Check the service, for all chatbots or for these. A few statements, which read few rows."""
    [(now, is_any_worker_busy)] = fetch(_IS_WORKER_BUSY)
    tasks, oldest_task = notify.tasks_waiting()
    last = occurrences.last()
    return Health(
        at=now,
        clusters=heartbeats.clusters(),
        oldest=oldest_waiting(chatbots),
        claims=[RunningClaim(*row) for row in fetch(_CLAIMS, _scope(chatbots))],
        is_any_worker_busy=is_any_worker_busy,
        tasks_waiting=tasks,
        oldest_task=oldest_task,
        last_sweep=last[occurrences.Name.SWEEP].last_at,
        unexpected_tasks=last[occurrences.Name.UNEXPECTED_TASK],
        restarts=last[occurrences.Name.CLUSTER_RESTARTED],
        silent=[SilentBucket(*row) for row in fetch(_SILENT, _scope(chatbots))],
        interrupted_credentials=interrupted_chatbots(chatbots),
        resolvers=lookups.in_trouble(now, chatbots),
    )


def is_journal_due() -> bool:
    """Return whether the ledger is to be told of something that was accepted, withdrawn or revoked."""
    return bool(fetch(_IS_JOURNAL_DUE)[0][0])


def oldest_waiting(chatbots: Collection[int] | None = None) -> Waiting | None:
    """Return the request that has waited longest and may be taken, of all chatbots or of these."""
    row = fetch_one(_OLDEST, _scope(chatbots) | {"trials": False})
    return Waiting(*row) if row else None


def is_anything_due() -> bool:
    """Return whether a worker can take a request, also one that will try a storage whose rest is over."""
    return fetch_one(_OLDEST, _scope(None) | {"trials": True}) is not None


def _scope(chatbots: Collection[int] | None) -> dict[str, Any]:
    return {"all": chatbots is None, "chatbots": array(chatbots or ())}


def _problem(code: Code, **values: object) -> HealthProblem:
    return HealthProblem(code, _ADVICE[code].format(**values))


def _cluster_problems(health: Health) -> Iterator[HealthProblem]:
    stalled = [cluster.name for cluster in health.clusters if cluster.condition is Condition.STALLED]
    if not health.alive and not stalled:
        yield _problem(Code.NO_CLUSTER)
    else:
        for cluster in health.clusters:
            is_lost = cluster.condition is Condition.GONE and not cluster.is_cleared_up
            if is_lost and health.at - cluster.seen_at < _CLUSTERS_REPORTED:
                yield _problem(Code.CLUSTER_GONE, name=cluster.name)
    for name in stalled:
        yield _problem(Code.CLUSTER_STALLED, name=name)
    if health.restarts.last_at and health.at - health.restarts.last_at < _CLUSTERS_REPORTED:
        yield _problem(Code.CLUSTER_RESTARTED)


def _work_problems(health: Health) -> Iterator[HealthProblem]:
    age = health.oldest.age if health.oldest and not health.oldest.is_blocked else timedelta()
    if health.alive and not health.is_any_worker_busy and max(age, health.oldest_task or timedelta()) > _IDLE_WAIT:
        yield _problem(Code.WORKERS_IDLE)
    if health.oldest and health.oldest.age > LONGEST_WAIT:
        yield _problem(Code.WORK_WAITS, minutes=health.oldest.age // timedelta(minutes=1))
    if health.sweep_age > _SWEEP_LATE:
        yield _problem(Code.SWEEP_LATE)
    if any(health.at - claim.expires_at > _CLAIM_LATE for claim in health.claims):
        yield _problem(Code.CLAIMS_EXPIRED)


def _bucket_problems(health: Health) -> Iterator[HealthProblem]:
    for silent in health.silent:
        since = _at(silent.since)
        if silent.slug is None:
            yield _problem(Code.STORAGE_SILENT, since=since)
        else:
            waiting = f"{_number(silent.requests, 'request')} and {_number(silent.days, 'daily extract')}"
            yield _problem(Code.BUCKET_SILENT, since=since, slug=silent.slug, waiting=waiting)
    if health.interrupted_credentials:
        yield _problem(Code.CREDENTIALS_INTERRUPTED, slugs=", ".join(health.interrupted_credentials))
    if health.unexpected_tasks.last_at and health.at - health.unexpected_tasks.last_at < _TASKS_REPORTED:
        yield _problem(Code.UNEXPECTED_TASK)


def _resolver_problems(health: Health) -> Iterator[HealthProblem]:
    for one in health.resolvers:
        if one.off_reason:
            yield _problem(Code.RESOLVER_OFF, slug=one.slug)
        elif one.failing_since is not None:
            yield _problem(Code.RESOLVER_FAILING, slug=one.slug, since=_at(one.failing_since))
        elif one.oldest is not None:
            yield _problem(Code.LOOKUPS_WAIT, slug=one.slug, since=_at(one.oldest))


def _at(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _number(count: int, of: str) -> str:
    return f"{count:,} {'or more ' * (count == _MOST_WAITING)}{of}{'s' * (count != 1)}"
