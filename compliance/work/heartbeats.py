"""Which clusters are alive: each writes down that it is there, and that its workers take up tasks.

django-q2's own sign of life lies in a cache of the process that writes it, where nobody else sees it. These are two
signs. The process that guards the workers says that it is there. That is not enough: workers may take up nothing for
a reason that the guard does not see. So the workers say when they took up a task, too. All times are the database's.

Each also writes down which process it is, so that a cluster on the same machine can see that it is gone, at once and
for certain: no process has that number, or another one that began later.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db import Error, connection
from django.db.models.functions import Now

from common import proc
from common.db import execute, fetch
from common.logs import describe_kind
from common.version import VERSION
from compliance.models import Heartbeat

logger = logging.getLogger(__name__)

# A process writes at most so often.
BEAT_SECONDS = 5.0
# Who was not seen for so long is gone.
GONE_AFTER = timedelta(seconds=40)
# Each minute brings a task, which goes to any of the clusters: who gets none for this long, times the clusters, has
# workers that take up nothing.
STALLED_AFTER = timedelta(minutes=10)
# Rows of clusters that are gone go after this long.
_KEPT = "1 day"

_SEEN = f"""
WITH old AS (DELETE FROM compliance_heartbeat WHERE seen_at < statement_timestamp() - interval '{_KEPT}')
INSERT INTO compliance_heartbeat AS known
       (id, name, version, workers, started_at, seen_at, stopped_at, place, pid, began)
VALUES (%(id)s, %(name)s, %(version)s, %(workers)s, statement_timestamp(), statement_timestamp(),
        CASE WHEN %(stopped)s THEN statement_timestamp() END, %(place)s, %(pid)s, %(began)s)
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, stopped_at = excluded.stopped_at, died_at = NULL
"""

_WORKED = "UPDATE compliance_heartbeat SET worked_at = statement_timestamp() WHERE name = %s"
# Its own successor knows more of how it died, and comes within seconds.
_MAY_BE_DEAD = """
SELECT id, name, pid, began FROM compliance_heartbeat
 WHERE stopped_at IS NULL AND died_at IS NULL AND place = %(place)s AND place <> ''
   AND (name = %(former)s OR %(all)s OR seen_at < statement_timestamp() - interval '15 seconds')
"""
_DIED = "UPDATE compliance_heartbeat SET died_at = statement_timestamp() WHERE id = %s"


class Condition(StrEnum):
    ALIVE = "alive"
    STALLED = "stalled"
    GONE = "gone"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Cluster:
    """A cluster that was seen within a day, and what can be said of it."""

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
    """Note that a cluster is there, at most every BEAT_SECONDS, or that it has stopped. Never fails the caller.

    Called in the process that guards its workers.
    """
    if stopped or SEEN.is_due():
        pid = os.getpid()
        values = {
            "id": cluster_id,
            "name": name,
            "version": VERSION,
            "workers": workers,
            "stopped": stopped,
            "place": proc.place(),
            "pid": pid,
            "began": proc.began(pid),
        }
        _quietly(lambda: _execute(_SEEN, values))


def worked() -> None:
    """Note that a worker of this process' cluster takes up a task, at most every BEAT_SECONDS. Never fails."""
    if WORKED.is_due():
        _quietly(lambda: _execute(_WORKED, [proc.cluster()]))


def dead_here(*, former: str = "", at_once: bool = False) -> list[tuple[UUID, str]]:
    """Return id and name of each cluster of this machine that is no more, and nobody has cleared up after yet.

    Of others than `former`, which the caller succeeds, only those that have been gone for some seconds, unless
    `at_once` is asked for.
    """
    rows = fetch(_MAY_BE_DEAD, {"place": proc.place(), "former": former, "all": at_once})
    return [(number, name) for number, name, pid, began in rows if began is None or proc.began(pid) != began]


def cleared_up(cluster_id: UUID) -> None:
    """Note that a cluster is no more, and that nothing is left of what it had in hand."""
    _execute(_DIED, [cluster_id])


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


def _execute(statement: str, values: Any) -> None:
    execute(statement, values)


def _quietly(beat: Callable[[], None]) -> None:
    # What writes it lives on whatever happens here: the guard of the workers, and a worker with a task in hand.
    try:
        beat()
    except Error as error:
        logger.warning("heartbeat.failed %s", describe_kind(error))
        connection.close()
