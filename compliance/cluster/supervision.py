"""A cluster of workers that ends when one of its processes dies, and a parent that starts the next (ADR 0031).

django-q2's cluster is a guard with workers, a pusher that passes them tasks through a queue in memory, and a monitor
of their results. A process that is killed or hangs while it holds that queue's lock stops all others for good. So no
process is replaced, except a worker after its number of tasks: the cluster ends as a whole, and the parent starts
another, which requeues the claims of the former.

    parent      uses no database; kills a guard that hangs, or whose process hangs
      guard     ends when one of its processes was killed; beats, and does its duties
        workers, pusher, monitor    die with the guard, and the guard with the parent
"""

import logging
import math
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from ctypes import Array, c_int
from multiprocessing.context import ForkProcess
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from django.db import connection, connections
from django_q.cluster import Sentinel
from django_q.conf import Conf
from django_q.worker import worker

from common import logs, proc
from common.db import finds_by_index
from common.logs import describe_kind
from compliance.cluster import broker, heartbeats, occurrences

logger = logging.getLogger(__name__)

# A process that is stopped, or a zombie of a hung guard, for this long is given up.
STILL_SECONDS = 3.0
TICK_SECONDS = 5.0
# With the age of an entry that is due, and the time until a worker is free: 5 seconds.
_JOURNAL_LOOK_SECONDS = 2.0
_LOOK_SECONDS = 0.2
_STILL = {"T", "Z"}  # stopped, zombie
# After a shorter life, the next cluster starts after a pause.
_SHORT_LIFE_SECONDS, _LONGEST_PAUSE_SECONDS = 10.0, 8.0


class Duties(NamedTuple):
    """The duties of a guard besides guarding."""

    # Requeues the work of a cluster, given its name and the owner to blame; returns whether all of it is requeued.
    requeue_from_cluster: Callable[[str, str | None], bool]
    requeue_expired: Callable[[], None]
    enqueue_due_work: Callable[[], None]
    enqueue_due_journal: Callable[[], None]


class FormerCluster(NamedTuple):
    """The cluster before: its name, and the process because of which it ended, or 0."""

    name: str
    lost: int


class _Board:
    """Numbers that parent and guard share in memory, without a lock, which a dead process could hold."""

    def __init__(self) -> None:
        self._pids: Array[c_int] = multiprocessing.RawArray("i", Conf.WORKERS + 8)  # spare ones for replaced workers
        self.lost = multiprocessing.RawValue("i", 0)

    @property
    def pids(self) -> list[int]:
        return [pid for pid in self._pids if pid]

    def show(self, pids: list[int]) -> None:
        places: list[Any] = [*pids, *[0] * len(self._pids)]
        self._pids[:] = places[: len(self._pids)]


class _Flag:
    """The part of an event that django-q2 uses, within one process. A signal's handler may set it."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self, *_: object) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return self._is_set


class _Process(ForkProcess):
    """A process that dies with its parent, and logs its last error without the error's text."""

    def run(self) -> None:
        # Only the parent handles a signal to all processes of a service. Otherwise it would kill workers.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        parent = multiprocessing.parent_process()
        proc.die_with_parent(parent.pid or 0 if parent else 0)
        try:
            with proc.rare_garbage_collection():
                super().run()
        except Exception:
            logger.critical("process.failed process=%s", self.name, exc_info=True)
            sys.exit(1)


class Guard(Sentinel):  # type: ignore[misc]  # django-q2 has no types
    """The process that starts the others, and ends when one of them is killed."""

    def __init__(self, cluster_id: UUID, board: _Board, former: FormerCluster | None, duties: Duties) -> None:
        super().__init__(stop_event=_Flag(), start_event=_Flag(), cluster_id=cluster_id, start=False)
        signal.signal(signal.SIGTERM, self.stop_event.set)
        self._board, self._former, self._duties = board, former, duties
        self._started: dict[_Process, str] = {}
        self._began = time.monotonic()
        self._next_tick = self._next_look = 0.0
        self._at_first: Callable[[], None] | None = _note_restart if former else _warn_of_plans

    def spawn_process(self, target: Callable[..., Any], *args: Any) -> _Process:
        process = _Process(target=target, args=args, name=f"{target.__name__}-{uuid4().hex[:8]}", daemon=True)
        if target == worker:
            process.timer = args[2]  # type: ignore[attr-defined]  # django-q2 reads it
            self.pool.append(process)
        process.start()
        self._started[process] = target.__name__
        return process

    def reincarnate(self, process: _Process) -> None:
        self._end_if_killed()
        if process in self.pool and process.timer.value == 0:  # type: ignore[attr-defined]
            self._end_for(process, "hangs")
        super().reincarnate(process)

    def status(self) -> str | None:
        """Called by the guard's loop twice a second, and ten times a second while it stops."""
        self._end_if_killed()
        status: str | None = super().status()
        now = time.monotonic()
        if status == Conf.STOPPED:
            self._beat(stopped=True)
        elif now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            _attempt(self._tick)
        elif now >= self._next_look and not self.stop_event.is_set():
            self._next_look = now + _JOURNAL_LOOK_SECONDS
            _attempt(self._duties.enqueue_due_journal)
        return status

    def _end_if_killed(self) -> None:
        for process in list(self._started):
            code = process.exitcode
            if code is not None:
                if code < 0:
                    self._end_for(process, f"was killed by signal {-code}")
                del self._started[process]
        self._board.show([process.pid or 0 for process in self._started])

    def _end_for(self, process: _Process, what: str) -> None:
        self._board.lost.value = process.pid or 0
        logger.critical("cluster.ends cluster=%s %s=%s %s", proc.cluster(), self._started[process], process.pid, what)
        os._exit(1)  # and the others with it

    def _beat(self, *, stopped: bool) -> None:
        heartbeats.seen(cluster_id=self.cluster_id, name=proc.cluster(), workers=Conf.WORKERS, stopped=stopped)

    def _tick(self) -> None:
        self._beat(stopped=False)
        self._requeue_from_dead_clusters()
        if self._at_first:
            self._at_first()
            self._at_first = None
        self._duties.requeue_expired()
        broker.drop_unexpected()
        if not self.stop_event.is_set():
            self._duties.enqueue_due_work()

    def _requeue_from_dead_clusters(self) -> None:
        """Requeue the work of dead workers of this machine."""
        former = self._former
        # A cluster that is started from outside may succeed any cluster that was killed along with its parent.
        at_once = former is None and time.monotonic() - self._began < _SHORT_LIFE_SECONDS
        for cluster_id, name in heartbeats.find_dead(former=former.name if former else "", at_once=at_once):
            blamed = f"{name}:{former.lost}" if former and former.name == name else None
            if self._duties.requeue_from_cluster(name, blamed):
                heartbeats.record_cleanup(cluster_id)


def _attempt(call: Callable[[], None]) -> None:
    """Log an error of this call, which is due again soon."""
    try:
        call()
    except Exception as error:
        logger.warning("cluster.tick_failed %s", describe_kind(error))
        connection.close()


def _note_restart() -> None:
    occurrences.note(occurrences.Name.CLUSTER_RESTARTED)


def _warn_of_plans() -> None:
    if not finds_by_index():
        logger.error("planner.not_in_force: set it for the workers' role (docs/operators/connections.md)")


def _guard(cluster_id: UUID, board: _Board, former: FormerCluster | None, duties: Duties, parent: int) -> None:
    """Run a guard. Its process ends at once, since Python would wait for the others."""
    code = 1
    try:
        proc.die_with_parent(parent)
        proc.name_cluster(_name_of(os.getpid(), cluster_id))
        Guard(cluster_id, board, former, duties).start()
        code = 0
    except Exception:
        logger.critical("process.failed process=guard", exc_info=True)
    finally:
        os._exit(code)


def _name_of(guard: int | None, cluster_id: UUID) -> str:
    """Return a unique name for this start of a cluster; host and process number may be reused."""
    return f"{socket.gethostname()}:{guard}-{cluster_id.hex[-6:]}"


def run(duties: Duties) -> None:
    """Start a cluster, watch it, and start another when it ends by itself.

    Return once a stop was requested (SIGTERM, SIGINT) and the cluster has ended. Call it in the main thread, once per
    process.
    """
    logs.log_last_errors()
    stop = _Flag()
    signal.signal(signal.SIGTERM, stop.set)
    signal.signal(signal.SIGINT, stop.set)
    former: FormerCluster | None = None
    pause = 0.0
    while not stop.is_set():
        began, board, cluster_id = time.monotonic(), _Board(), uuid4()
        connections.close_all()  # a process that is forked must not share one
        given = (cluster_id, board, former, duties, os.getpid())
        guard = ForkProcess(name="guard", target=_guard, args=given, daemon=False)
        guard.start()
        logger.info("cluster.starts guard=%s workers=%s", guard.pid, Conf.WORKERS)
        _watch(guard, board, stop)
        if stop.is_set():
            break
        logger.critical("cluster.ended guard=%s code=%s: another is started", guard.pid, guard.exitcode)
        former = FormerCluster(_name_of(guard.pid, cluster_id), board.lost.value)
        is_short = time.monotonic() - began < _SHORT_LIFE_SECONDS
        pause = min(pause * 2 or 1.0, _LONGEST_PAUSE_SECONDS) if is_short else 0.0
        end = time.monotonic() + pause
        while not stop.is_set() and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
        _reap()
    logger.info("cluster.stopped")


def _watch(guard: ForkProcess, board: _Board, stop: _Flag) -> None:
    """Wait until the guard has ended, and kill it when a process of the cluster hangs for too long."""
    still_since: dict[int, float] = {}
    signalled_at = -math.inf
    while guard.is_alive():
        now = time.monotonic()
        if stop.is_set() and now - signalled_at >= 1:
            # Repeated: it may not have been ready for signals.
            guard.terminate()
            signalled_at = now
        still = [pid for pid in (guard.pid or 0, *board.pids) if proc.state(pid) in _STILL]
        still_since = {pid: still_since.get(pid, now) for pid in still}
        lost = [pid for pid, since in still_since.items() if now - since >= STILL_SECONDS]
        if lost:
            if guard.pid not in lost:
                board.lost.value = lost[0]
            logger.critical("cluster.ends guard=%s: process %s hangs", guard.pid, lost[0])
            guard.kill()
        guard.join(_LOOK_SECONDS)


def _reap() -> None:
    """Reap orphaned processes, which the kernel assigns to the first process of a container."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
