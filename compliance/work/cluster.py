"""A cluster of workers that ends when one of its processes dies, and a parent that starts the next (ADR 0031).

django-q2's cluster is a guard with workers, a pusher that passes them tasks through a queue in memory, and a monitor
of their results. A process that is killed or hangs while it holds that queue's lock stops all others for good. So no
process is replaced, except a worker after its number of tasks: the cluster ends as a whole, and the parent starts
another, which requeues the claims of the former.

    parent      uses no database; kills a guard that hangs, or whose process hangs
      guard     ends when one of its processes was killed; beats, notifies workers, enqueues the sweep
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
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from typing import Any
from uuid import UUID, uuid4

from django.db import connection, connections
from django_q.cluster import Sentinel
from django_q.conf import Conf
from django_q.worker import worker

from common import logs, proc
from common.db import finds_by_index
from common.logs import describe_kind
from compliance.work import bucket_checks, claims, health, heartbeats, lookups, notify, occurrences
from conversations.extracts import leases
from conversations.placement import machines

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


@dataclass(frozen=True)
class Former:
    """The cluster before: its name, and the process because of which it ended, or 0."""

    name: str
    lost: int


class _Board:
    """Numbers that parent and guard share in memory, without a lock, which a dead process could hold."""

    def __init__(self, processes: int) -> None:
        self._pids: Array[c_int] = multiprocessing.RawArray("i", processes)
        self.lost = multiprocessing.RawValue("i", 0)

    @property
    def pids(self) -> list[int]:
        return [pid for pid in self._pids if pid]

    def show(self, pids: list[int]) -> None:
        places: list[Any] = [*pids, *[0] * len(self._pids)]
        self._pids[:] = places[: len(self._pids)]


class _Flag:
    """The part of an event that django-q2 uses, within one process."""

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
        # Only the parent handles a signal to all processes of a service, which would else kill workers.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        parent = multiprocessing.parent_process()
        proc.die_with_parent(parent.pid or 0 if parent else 0)
        try:
            super().run()
        except Exception:
            logger.critical("process.failed process=%s", self.name, exc_info=True)
            sys.exit(1)


class Guard(Sentinel):  # type: ignore[misc]  # django-q2 has no types
    """The process that starts the others, and ends when one of them is killed."""

    def __init__(self, cluster_id: UUID, board: _Board, former: Former | None) -> None:
        super().__init__(stop_event=_Flag(), start_event=_Flag(), cluster_id=cluster_id, start=False)
        signal.signal(signal.SIGTERM, self.stop_event.set)
        self._board = board
        self._former = former
        self._started: dict[_Process, str] = {}
        self._began = time.monotonic()
        self._next_tick = 0.0
        self._next_look = 0.0
        self._has_noted_restart = former is None
        self._has_checked_sessions = former is not None

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
        if status == Conf.STOPPED:
            self._beat(stopped=True)
        elif time.monotonic() >= self._next_tick:
            self._next_tick = time.monotonic() + TICK_SECONDS
            _attempt(self._tick)
        elif time.monotonic() >= self._next_look and not self.stop_event.is_set():
            self._next_look = time.monotonic() + _JOURNAL_LOOK_SECONDS
            _attempt(_have_journal_written)
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

    def _tick(self) -> None:
        self._beat(stopped=False)
        self._clear_up()
        notify.drop_unexpected()
        if not self.stop_event.is_set():
            enqueue_what_is_due()

    def _beat(self, *, stopped: bool) -> None:
        heartbeats.seen(cluster_id=self.cluster_id, name=proc.cluster(), workers=Conf.WORKERS, stopped=stopped)

    def _clear_up(self) -> None:
        """Requeue the work of dead workers: those of this machine, and any whose lease has expired."""
        former = self._former
        # One that is started from outside may succeed any cluster that was killed along with its parent.
        at_once = former is None and time.monotonic() - self._began < _SHORT_LIFE_SECONDS
        for cluster_id, name in heartbeats.dead_here(former=former.name if former else "", at_once=at_once):
            blamed = f"{name}:{former.lost}" if former and former.name == name else None
            leases.requeue_from_cluster(name, blamed=blamed)
            bucket_checks.requeue_from_cluster(name)
            if claims.requeue_from_cluster(name, blamed=blamed):
                heartbeats.cleared_up(cluster_id)
        if not self._has_checked_sessions:
            if not finds_by_index():
                logger.error("planner.not_in_force: set it for the workers' role (docs/scaling.md)")
            self._has_checked_sessions = True
        if not self._has_noted_restart:
            occurrences.note(occurrences.Name.CLUSTER_RESTARTED)
            self._has_noted_restart = True
        claims.requeue_expired()
        leases.requeue_expired()


def _attempt(call: Callable[[], None]) -> None:
    """Log an error of this call, which is due again soon."""
    try:
        call()
    except Exception as error:
        logger.warning("cluster.tick_failed %s", describe_kind(error))
        connection.close()


def _have_journal_written() -> None:
    if health.is_journal_due():
        notify.notify_workers()


def enqueue_what_is_due() -> None:
    """Insert tasks for what is due: some may have been lost, with their process or because the database failed."""
    if health.is_anything_due() or bucket_checks.is_any_waiting():
        notify.notify_workers()
    notify.enqueue_sweep()
    # Intake queues look-ups without a task. Late, and not of a silent machine of Citus, where this would fail.
    machines.look_if_due()
    if lookups.is_any_due():
        notify.enqueue_callbacks()


def _guard(cluster_id: UUID, host: str, board: _Board, former: Former | None, parent: int) -> None:
    """Run a guard. Its process ends at once, since Python would wait for the others."""
    code = 1
    try:
        proc.die_with_parent(parent)
        proc.name_cluster(name_of(host, os.getpid(), cluster_id))
        Guard(cluster_id, board, former).start()
        code = 0
    except Exception:
        logger.critical("process.failed process=guard", exc_info=True)
    finally:
        os._exit(code)


class Parent:
    """The first process: starts a cluster, watches it, and starts another when it ends by itself."""

    def __init__(self) -> None:
        self._stop = _Flag()

    def run(self) -> None:
        """Return once a stop was requested (SIGTERM, SIGINT) and the cluster has ended. Call it once per process."""
        signal.signal(signal.SIGTERM, self._stop.set)
        signal.signal(signal.SIGINT, self._stop.set)
        host = socket.gethostname()
        former: Former | None = None
        pause = 0.0
        while not self._stop.is_set():
            began = time.monotonic()
            board = _Board(Conf.WORKERS + 8)  # spare ones while a worker is replaced
            cluster_id = uuid4()
            connections.close_all()  # a process that is forked must not share one
            guard = ForkProcess(
                name="guard", target=_guard, args=(cluster_id, host, board, former, os.getpid()), daemon=False
            )
            guard.start()
            logger.info("cluster.starts guard=%s workers=%s", guard.pid, Conf.WORKERS)
            self._watch(guard, board)
            if self._stop.is_set():
                break
            logger.critical("cluster.ended guard=%s code=%s: another is started", guard.pid, guard.exitcode)
            former = Former(name_of(host, guard.pid or 0, cluster_id), board.lost.value)
            pause = (
                min(pause * 2 or 1.0, _LONGEST_PAUSE_SECONDS) if time.monotonic() - began < _SHORT_LIFE_SECONDS else 0
            )
            self._rest(pause)
        logger.info("cluster.stopped")

    def _watch(self, guard: ForkProcess, board: _Board) -> None:
        """Wait until the guard has ended, and kill it when a process of the cluster hangs for too long."""
        still_since: dict[int, float] = {}
        signalled_at = -math.inf
        while guard.is_alive():
            now = time.monotonic()
            if self._stop.is_set() and now - signalled_at >= 1:
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

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stop.is_set() and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
        _reap()


def name_of(host: str, guard: int, cluster_id: UUID) -> str:
    """Return a unique name for this start of a cluster; host and process number may be reused."""
    return f"{host}:{guard}-{cluster_id.hex[-6:]}"


def _reap() -> None:
    """Reap orphaned processes, which the kernel assigns to the first process of a container."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def run() -> None:
    """Run clusters in the main thread until this process is stopped."""
    logs.log_last_errors()
    Parent().run()
