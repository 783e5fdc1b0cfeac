"""Which clusters of workers are alive. All times are the database's.

The guard of a cluster records that it is there. That is not enough, since workers may take no task for a reason the
guard does not see: so they record when they took one. Each cluster also records its guard's process, so that another
one on the same machine knows at once that it is gone: no process has that number, or one that began later.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from django.db import Error, connection
from django.db.models import Q
from django.db.models.functions import Now

from common import proc
from common.logs import describe_kind
from common.version import VERSION
from compliance.models import Heartbeat

logger = logging.getLogger(__name__)

# A process writes at most this often.
BEAT_SECONDS = 5.0
# Not seen for this long, a cluster is gone.
GONE_AFTER = timedelta(seconds=40)
# Each minute brings a task to one of the clusters. One that took none for this long, times the clusters, is stalled.
STALLED_AFTER = timedelta(minutes=10)
# A dead cluster's own successor knows more of how it died, and comes within seconds; others wait this long for it.
_SUCCESSOR_WAIT = timedelta(seconds=15)
_KEPT = timedelta(days=1)


class Condition(StrEnum):
    ALIVE = "alive"
    STALLED = "stalled"
    GONE = "gone"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Cluster:
    """A cluster that was seen within a day, and its condition."""

    name: str
    version: str
    workers: int
    started_at: datetime
    seen_at: datetime
    worked_at: datetime | None
    condition: Condition
    is_cleared_up: bool = False


class _Throttle:
    """Lets one beat through every BEAT_SECONDS."""

    def __init__(self) -> None:
        self._last = -BEAT_SECONDS

    def is_due(self) -> bool:
        now = time.monotonic()
        if now - self._last < BEAT_SECONDS:
            return False
        self._last = now
        return True

    def forget(self) -> None:
        self._last = -BEAT_SECONDS


SEEN, WORKED = _Throttle(), _Throttle()


def seen(*, cluster_id: UUID, name: str, workers: int, stopped: bool) -> None:
    """Record that the cluster guarded by this process is there, at most every BEAT_SECONDS, or has stopped.

    Never fails the caller.
    """
    if stopped or SEEN.is_due():
        _quietly(lambda: _record_seen(cluster_id, name, workers, stopped=stopped))


def _record_seen(cluster_id: UUID, name: str, workers: int, *, stopped: bool) -> None:
    beat = {"seen_at": Now(), "stopped_at": Now() if stopped else None, "died_at": None}
    if not Heartbeat.objects.filter(pk=cluster_id).update(**beat):
        pid = os.getpid()
        Heartbeat.objects.create(
            id=cluster_id,
            name=name,
            version=VERSION,
            workers=workers,
            started_at=Now(),
            pid_scope=proc.pid_scope(),
            pid=pid,
            began=proc.began(pid),
            **beat,
        )
    Heartbeat.objects.filter(seen_at__lt=Now() - _KEPT).delete()


def worked() -> None:
    """Record that a worker of this process' cluster takes a task, at most every BEAT_SECONDS. Never fails."""
    if WORKED.is_due():
        _quietly(lambda: Heartbeat.objects.filter(name=proc.cluster()).update(worked_at=Now()))


def dead_here(*, former: str = "", at_once: bool = False) -> list[tuple[UUID, str]]:
    """Return id and name of each dead cluster of this machine that has not been cleared up after.

    `former` is the one that the caller succeeds. Others are left to their own successor for some seconds, unless
    `at_once`.
    """
    if not proc.pid_scope():
        return []
    candidates = Heartbeat.objects.filter(stopped_at=None, died_at=None, pid_scope=proc.pid_scope())
    if not at_once:
        candidates = candidates.filter(Q(name=former) | Q(seen_at__lt=Now() - _SUCCESSOR_WAIT))
    return [
        (row.id, row.name)
        for row in candidates
        if row.pid is None or row.began is None or proc.began(row.pid) != row.began
    ]


def cleared_up(cluster_id: UUID) -> None:
    """Record that a cluster is dead and its work is requeued."""
    Heartbeat.objects.filter(pk=cluster_id).update(died_at=Now())


def clusters() -> list[Cluster]:
    """Return the clusters of the last day, the newest first."""
    rows = list(Heartbeat.objects.annotate(now=Now()).order_by("-started_at", "-id"))
    present = sum(_is_present(row, row.now) for row in rows)
    return [
        Cluster(
            row.name,
            row.version,
            row.workers,
            row.started_at,
            row.seen_at,
            row.worked_at,
            _condition(row, row.now, STALLED_AFTER * present),
            row.died_at is not None,
        )
        for row in rows
    ]


def is_any_alive() -> bool:
    """Return whether a cluster runs whose workers take tasks."""
    return any(one.condition is Condition.ALIVE for one in clusters())


def _condition(row: Heartbeat, now: datetime, patience: timedelta) -> Condition:
    if row.stopped_at is not None:
        return Condition.STOPPED
    if not _is_present(row, now):
        return Condition.GONE
    if now - (row.worked_at or row.started_at) > patience:
        return Condition.STALLED
    return Condition.ALIVE


def _is_present(row: Heartbeat, now: datetime) -> bool:
    return row.stopped_at is None and row.died_at is None and now - row.seen_at <= GONE_AFTER


def _quietly(beat: Callable[[], object]) -> None:
    try:
        beat()
    except Error as error:
        logger.warning("heartbeat.failed %s", describe_kind(error))
        connection.close()
