"""Which clusters of workers are alive. All times are the database's.

The guard of a cluster records that it is alive. Its workers also record when they took a task, since they may stop
taking tasks for a reason that the guard does not see. Each cluster also records its guard's process, so that another
cluster on the same machine notices its end at once: no process has that number, or one that began later.
"""

import logging
import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from django.db import Error, connection
from django.db.models import Q
from django.db.models.functions import Now

from common import proc
from common.logs import describe_kind
from common.version import VERSION
from compliance.models import Heartbeat

logger = logging.getLogger(__name__)

# A process writes each kind of beat at most this often.
BEAT_SECONDS = 5.0
# A cluster that was not seen for this long is gone.
GONE_AFTER = timedelta(seconds=40)
# Each minute one of the clusters gets a task. A cluster without one for this time, multiplied by the clusters, is
# stalled.
STALLED_AFTER = timedelta(minutes=10)
# The successor of a dead cluster has more information on its end, and starts within seconds; others wait this long
# for it.
_SUCCESSOR_WAIT = timedelta(seconds=15)
_KEPT = timedelta(days=1)


class Condition(StrEnum):
    ALIVE = "alive"
    STALLED = "stalled"
    GONE = "gone"
    STOPPED = "stopped"


class Cluster(NamedTuple):
    """The heartbeat of a cluster that was seen within a day, and its condition."""

    beat: Heartbeat
    condition: Condition


_last_beat: dict[str, float] = {}


def _beat(name: str, write: Callable[[], object], *, at_once: bool = False) -> None:
    """Write a beat, at most every BEAT_SECONDS unless `at_once`. Never fails the caller."""
    now = time.monotonic()
    if not at_once and now - _last_beat.get(name, -BEAT_SECONDS) < BEAT_SECONDS:
        return
    _last_beat[name] = now
    try:
        write()
    except Error as error:
        logger.warning("heartbeat.failed %s", describe_kind(error))
        connection.close()


def seen(*, cluster_id: UUID, name: str, workers: int, stopped: bool) -> None:
    """Record that the cluster guarded by this process is alive, or has stopped."""
    _beat("seen", lambda: _record_seen(cluster_id, name, workers, stopped=stopped), at_once=stopped)


def _record_seen(cluster_id: UUID, name: str, workers: int, *, stopped: bool) -> None:
    beat = {"seen_at": Now(), "stopped_at": Now() if stopped else None, "died_at": None}
    pid = os.getpid()
    known = {"name": name, "version": VERSION, "workers": workers, "started_at": Now()}
    process = {"pid_scope": proc.pid_scope(), "pid": pid, "began": proc.began(pid)}
    if not Heartbeat.objects.filter(pk=cluster_id).update(**beat):
        Heartbeat.objects.create(pk=cluster_id, **known, **process, **beat)
    Heartbeat.objects.filter(seen_at__lt=Now() - _KEPT).delete()


def record_work() -> None:
    """Record that a worker of this process' cluster takes a task."""
    _beat("worked", lambda: Heartbeat.objects.filter(name=proc.cluster()).update(worked_at=Now()))


def find_dead(*, former: str = "", at_once: bool = False) -> list[tuple[UUID, str]]:
    """Return id and name of each dead cluster of this machine whose work is not requeued yet.

    `former` is the caller's predecessor. Others are left to their own successor for some seconds, unless `at_once`.
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


def record_cleanup(cluster_id: UUID) -> None:
    """Record that a cluster is dead and its work is requeued."""
    Heartbeat.objects.filter(pk=cluster_id).update(died_at=Now())


def clusters() -> list[Cluster]:
    """Return the clusters of the last day, the newest first."""
    rows = list(Heartbeat.objects.annotate(now=Now()).order_by("-started_at", "-id"))
    present = sum(_is_present(row, row.now) for row in rows)
    return [Cluster(row, _condition(row, row.now, STALLED_AFTER * present)) for row in rows]


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
