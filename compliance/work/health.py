"""The health of the service, for the console, for `manage.py health` and for monitoring systems.

The most important number is the age of the oldest request that may be taken: it grows for any cause, be it a dead
worker, an idle cluster that seems to work, or too much work. The rest helps to find the cause, and reports requests
that wait and may not be taken.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models.functions import Now

from chatbots.operations.credentials import interrupted_chatbots
from common.db import array, fetch, fetch_one
from common.texts import counted
from compliance.cluster import heartbeats, notify, occurrences
from compliance.cluster.heartbeats import Cluster, Condition
from compliance.cluster.occurrences import Last, Name
from compliance.models import JournalEntry, Service
from compliance.work import canary, legal_holds, lookups
from compliance.work.canary import CanaryState
from compliance.work.health_codes import Code, HealthProblem, problem
from compliance.work.legal_holds import HoldsOfChatbot
from compliance.work.lookups import ResolverTrouble
from compliance.work.sql import DUE_AT, IS_EARLIER, IS_QUEUED, RUNNABLE, SHARING
from conversations.placement import machines

# The age of the oldest request. Seconds are normal.
LONGEST_WAIT = timedelta(minutes=10)
# A guard notifies every few seconds while requests wait, so workers that are idle after this time do not lack a task.
_IDLE_WAIT = timedelta(seconds=60)
# The sweep is requested every minute, and may wait for a worker and take some time.
_SWEEP_LATE = timedelta(minutes=3)
# How long a lost or restarted cluster, and unexpected tasks, are reported.
_CLUSTERS_REPORTED = timedelta(minutes=10)
_TASKS_REPORTED = timedelta(days=1)
_LEDGER_REPORTED = timedelta(days=1)
# A request that was refused twice is retried after two minutes, and may run for some time until it is refused.
_REFUSAL_REPORTED = timedelta(minutes=10)
# The time after a refusal in which workers are not reported as idle: each pauses for seconds.
_REFUSAL_IDLE = timedelta(seconds=15)
# Workers write the journal every few seconds, and compare the ledger each minute.
_JOURNAL_LATE = timedelta(minutes=1)
_LEDGER_UNCOMPARED = timedelta(minutes=10)
# Each guard requeues expired claims every few seconds, so one that stays means that no guard runs.
_CLAIM_LATE = timedelta(minutes=1)
_MOST_WAITING = 1_000

# The first waiting request of each chatbot, kind and lane: one index step each, however many wait. Requests that must
# call a storage that does not answer are left out, since that is reported by itself.
FIRST_IN_QUEUES = f"""
  FROM chatbots_chatbot c
 CROSS JOIN unnest(ARRAY['deletion', 'export', 'retention', 'redaction']) AS k(kind)
 CROSS JOIN unnest(ARRAY['normal', 'split', 'isolated', 'large', 'client']) AS l(lane)
 CROSS JOIN LATERAL (
    SELECT r.id, r.seq, r.variable_id, r.uci_digest, r.named_conversations, {DUE_AT} AS waits_since
      FROM compliance_compliancerequest r
     WHERE {IS_QUEUED} AND r.kind = k.kind AND r.lane = l.lane AND r.chatbot_id = c.id
       AND {DUE_AT} <= statement_timestamp()
     ORDER BY {DUE_AT}, r.seq
     LIMIT 1
 ) AS r
 WHERE (%(all)s OR c.id = ANY(%(chatbots)s::bigint[])) AND (k.kind <> 'export' OR c.closed_at IS NULL)
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
# No row of the service in a database that was just emptied.
_NOW = """
SELECT statement_timestamp(),
       EXISTS (SELECT FROM compliance_claim WHERE expires_at > statement_timestamp())
       OR EXISTS (SELECT FROM conversations_dailyextract
                   WHERE state IN ('pending', 'stale') AND token IS NOT NULL
                     AND next_attempt_at > statement_timestamp()),
       s.state, s.reason, s.tripped_at, s.checked_at, s.mended_to IS NOT NULL,
       (SELECT at FROM compliance_journalentry ORDER BY id LIMIT 1),
       ARRAY(SELECT slug FROM chatbots_chatbot WHERE closed_at IS NOT NULL ORDER BY slug LIMIT 20)
  FROM (VALUES (1)) AS one(row) LEFT JOIN compliance_service s ON s.id = one.row
"""
# Most younger entries are done at once, and then need no line of their own.
JOURNAL_AGE_SECONDS = 2.0
# For the operator's bucket all exports wait, so they are not counted.
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


class OldestRequest(NamedTuple):
    """The request that has waited longest of those that may be taken."""

    request_id: UUID
    chatbot_id: int
    since: datetime
    age: timedelta
    is_blocked: bool = False  # by an earlier one of the same chatter


class RunningClaim(NamedTuple):
    """A claim of a worker. `requests` counts those of the checked chatbots."""

    id: int
    owner: str
    is_large: bool
    since: datetime
    expires_at: datetime
    requests: int
    kind: str | None
    lane: str | None


class Ledger(NamedTuple):
    """Whether the database was restored, and the state of the ledger.

    `journal_since`: the time of the oldest waiting entry. `closed_chatbots`: the slugs of chatbots with lines that
    could not be replayed, 20 at most.
    """

    state: str = Service.State.OPEN
    reason: str = ""
    tripped_at: datetime | None = None
    compared_at: datetime | None = None
    is_mending: bool = False
    journal_since: datetime | None = None
    closed_chatbots: Sequence[str] = ()

    @property
    def is_open(self) -> bool:
        return self.state == Service.State.OPEN


@dataclass(frozen=True)
class Health:
    at: datetime
    clusters: list[Cluster]
    oldest: OldestRequest | None
    claims: list[RunningClaim]
    is_any_worker_busy: bool
    tasks_waiting: int
    oldest_task: timedelta | None
    last: Mapping[Name, Last]
    ledger: Ledger
    silent: list[SilentBucket]
    interrupted_credentials: list[str]  # the slugs of their chatbots
    resolvers: list[ResolverTrouble]
    silent_nodes: list[str]  # of Citus
    canary: CanaryState
    holds: list[HoldsOfChatbot]  # in force, of all chatbots

    @property
    def alive(self) -> int:
        return sum(cluster.condition is Condition.ALIVE for cluster in self.clusters)

    @property
    def expired_claims(self) -> list[RunningClaim]:
        return [claim for claim in self.claims if claim.expires_at < self.at]

    @property
    def sweep_age(self) -> timedelta:
        """The time since the last sweep or, before the first, since the start of a cluster that could run it."""
        began = [cluster.beat.started_at for cluster in self.clusters if cluster.condition is not Condition.STOPPED]
        return self.at - (self.last[Name.SWEEP].last_at or min(began, default=self.at))

    @property
    def problems(self) -> list[HealthProblem]:
        return [
            *(problem(Code.NODE_SILENT, name=name) for name in self.silent_nodes),
            *_ledger_problems(self),
            *_cluster_problems(self),
            *_work_problems(self),
            *_bucket_problems(self),
            *_resolver_problems(self),
            *_canary_problems(self),
            *_hold_problems(self),
        ]


def check(*, chatbots: Collection[int] | None = None) -> Health:
    """Check the service, for all chatbots or for these. A few statements, which read few rows."""
    [(now, is_any_worker_busy, *ledger)] = fetch(_NOW)
    tasks, oldest_task = notify.tasks_waiting()
    silent_nodes = machines.ask()
    return Health(
        at=now,
        clusters=heartbeats.clusters(),
        oldest=oldest_waiting(chatbots),
        claims=[RunningClaim(*row) for row in fetch(_CLAIMS, _scope(chatbots))],
        is_any_worker_busy=is_any_worker_busy,
        tasks_waiting=tasks,
        oldest_task=oldest_task,
        last=occurrences.last(),
        ledger=Ledger(*ledger) if ledger[0] else Ledger(),
        silent=[SilentBucket(*row) for row in fetch(_SILENT, _scope(chatbots))],
        interrupted_credentials=interrupted_chatbots(chatbots),
        # After the check of the machines: look-ups lie on all of them, and those on silent ones are left out.
        resolvers=lookups.failing_resolvers(now, chatbots),
        silent_nodes=silent_nodes,
        canary=canary.state(),
        holds=legal_holds.in_force(),
    )


def is_journal_due() -> bool:
    """Return whether accepted, withdrawn or revoked entries wait to be written to the ledger."""
    return JournalEntry.objects.filter(at__lt=Now() - timedelta(seconds=JOURNAL_AGE_SECONDS)).exists()


def oldest_waiting(chatbots: Collection[int] | None = None) -> OldestRequest | None:
    """Return the request that has waited longest and may be taken, of all chatbots or of these."""
    row = fetch_one(_OLDEST, _scope(chatbots) | {"trials": False})
    return OldestRequest(*row) if row else None


def is_anything_due() -> bool:
    """Return whether a worker can take a request, including one that will try a storage whose rest is over."""
    return fetch_one(_OLDEST, _scope(None) | {"trials": True}) is not None


def _scope(chatbots: Collection[int] | None) -> dict[str, Any]:
    return {"all": chatbots is None, "chatbots": array(chatbots or ())}


def _ledger_problems(health: Health) -> Iterator[HealthProblem]:
    ledger = health.ledger
    if ledger.tripped_at and ledger.state == Service.State.CATCHING_UP:
        yield problem(Code.CATCHING_UP, since=_format_time(ledger.tripped_at))
    elif ledger.tripped_at:
        reason = Service.Reason(ledger.reason).label
        yield problem(Code.RESTORED_DATABASE, since=_format_time(ledger.tripped_at), reason=reason)
    if ledger.is_mending or _was_within(health, Name.LEDGER_MISSING, _LEDGER_REPORTED):
        yield problem(Code.LEDGER_MISSING)
    if _was_within(health, Name.LEDGER_FOREIGN, _LEDGER_REPORTED):
        yield problem(Code.LEDGER_FOREIGN)
    if not ledger.is_open:
        return
    if ledger.closed_chatbots:
        yield problem(Code.REPLAY_UNDECIDED, slugs=", ".join(ledger.closed_chatbots))
    if ledger.journal_since and health.at - ledger.journal_since > _JOURNAL_LATE:
        yield problem(Code.LEDGER_LATE, since=_format_time(ledger.journal_since))
    if health.alive and ledger.compared_at and health.at - ledger.compared_at > _LEDGER_UNCOMPARED:
        yield problem(Code.LEDGER_NOT_COMPARED, since=_format_time(ledger.compared_at))


def _was_within(health: Health, name: Name, period: timedelta) -> bool:
    last_at = health.last[name].last_at
    return last_at is not None and health.at - last_at < period


def _cluster_problems(health: Health) -> Iterator[HealthProblem]:
    stalled = [cluster.beat.name for cluster in health.clusters if cluster.condition is Condition.STALLED]
    if not health.alive and not stalled:
        yield problem(Code.NO_CLUSTER)
    else:
        for cluster in health.clusters:
            is_lost = cluster.condition is Condition.GONE and cluster.beat.died_at is None
            if is_lost and health.at - cluster.beat.seen_at < _CLUSTERS_REPORTED:
                yield problem(Code.CLUSTER_GONE, name=cluster.beat.name)
    for name in stalled:
        yield problem(Code.CLUSTER_STALLED, name=name)
    if _was_within(health, Name.CLUSTER_RESTARTED, _CLUSTERS_REPORTED):
        yield problem(Code.CLUSTER_RESTARTED)


def _work_problems(health: Health) -> Iterator[HealthProblem]:
    age = health.oldest.age if health.oldest and not health.oldest.is_blocked else timedelta()
    if not health.ledger.is_open:  # nothing is taken
        age = timedelta()
    if _was_within(health, Name.DATABASE_REFUSED, _REFUSAL_REPORTED):
        yield problem(Code.DATABASE_REFUSED)
    rests = _was_within(health, Name.DATABASE_REFUSED, _REFUSAL_IDLE)
    is_idle = health.alive and not health.is_any_worker_busy and not rests
    if is_idle and max(age, health.oldest_task or timedelta()) > _IDLE_WAIT:
        yield problem(Code.WORKERS_IDLE)
    if health.ledger.is_open and health.oldest and health.oldest.age > LONGEST_WAIT:
        yield problem(Code.WORK_WAITS, minutes=health.oldest.age // timedelta(minutes=1))
    if health.sweep_age > _SWEEP_LATE:
        yield problem(Code.SWEEP_LATE)
    if any(health.at - claim.expires_at > _CLAIM_LATE for claim in health.claims):
        yield problem(Code.CLAIMS_EXPIRED)


def _bucket_problems(health: Health) -> Iterator[HealthProblem]:
    if health.last[Name.BUCKET_MISSING].last_at:
        yield problem(Code.BUCKET_MISSING)
    for silent in health.silent:
        since = _format_time(silent.since)
        if silent.slug is None:
            yield problem(Code.STORAGE_SILENT, since=since)
        else:
            waiting = f"{_number(silent.requests, 'request')} and {_number(silent.days, 'daily extract')}"
            yield problem(Code.BUCKET_SILENT, since=since, slug=silent.slug, waiting=waiting)
    if health.interrupted_credentials:
        yield problem(Code.CREDENTIALS_INTERRUPTED, slugs=", ".join(health.interrupted_credentials))
    if _was_within(health, Name.UNEXPECTED_TASK, _TASKS_REPORTED):
        yield problem(Code.UNEXPECTED_TASK)


def _resolver_problems(health: Health) -> Iterator[HealthProblem]:
    for one in health.resolvers:
        if one.off_reason:
            yield problem(Code.RESOLVER_OFF, slug=one.slug)
        elif one.failing_since is not None:
            yield problem(Code.RESOLVER_FAILING, slug=one.slug, since=_format_time(one.failing_since))
        elif one.oldest is not None:
            yield problem(Code.LOOKUPS_WAIT, slug=one.slug, since=_format_time(one.oldest))


def _canary_problems(health: Health) -> Iterator[HealthProblem]:
    state = health.canary
    if not state.is_on:
        return
    if state.found_at is not None:
        places = ", ".join(f"{place} ({number})" for place, number in sorted(state.findings.items()))
        yield problem(Code.CANARY_FOUND, since=_format_time(state.found_at), places=places)
    elif health.ledger.is_open and state.is_late(health.at):
        silent = "no turn has ended" + (" since" if state.clean_at else "")
        trouble = f"{state.last.trouble} {state.last.trouble_at}".strip() if state.last else ""
        reason = trouble or (silent if state.clean_since else "it is not set up: create_canary")
        since = _format_time(state.clean_since) if state.clean_since else "its beginning"
        yield problem(Code.CANARY_LATE, since=since, reason=reason)


def _hold_problems(health: Health) -> Iterator[HealthProblem]:
    if due := [one for one in health.holds if one.review_due]:
        number = counted(sum(one.review_due for one in due), "legal hold")
        yield problem(Code.HOLDS_REVIEW_DUE, number=number, slugs=", ".join(one.slug for one in due[:20]))


def _format_time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _number(count: int, of: str) -> str:
    return counted(count, f"or more {of}" if count == _MOST_WAITING else of)
