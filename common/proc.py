"""The identity of this process, and the state of others on this machine.

Other systems than Linux do not report it: then a lease must expire before a process counts as dead.
"""

import ctypes
import gc
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

_PR_SET_PDEATHSIG = 1

# Set in the guard process of a cluster, inherited by its workers.
_cluster: str | None = None


def name_cluster(name: str) -> None:
    """Set the unique name of the cluster that this process guards, for itself and its children."""
    global _cluster  # noqa: PLW0603  (a fact of the process)
    _cluster = name


def cluster() -> str:
    """Return the name of this process' cluster; without one, its host and parent."""
    return _cluster or f"{socket.gethostname()}:{os.getppid()}"


def owner() -> str:
    """Return the owner of this process' claims: its cluster and process id."""
    return f"{cluster()}:{os.getpid()}"


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process as soon as its parent ends, in whatever way."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel knew
        os._exit(1)


def state(pid: int) -> str | None:
    """Return the kernel's state of a process (`T` stopped, `Z` zombie), or None."""
    found = _stat(pid)
    return found[0] if found else None


def began(pid: int) -> int | None:
    """Return when a living process started, in ticks since boot, since its id may be reused. None if unknown."""
    found = _stat(pid)
    return int(found[19]) if found and found[0] != "Z" else None


@lru_cache
def pid_scope() -> str:
    """Return the scope in which process ids are comparable, or "" if unknown: this boot and this PID namespace.

    Containers may share a host name, but have process ids of their own.
    """
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{machine} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name in brackets, which may hold anything.
    return text.rpartition(b")")[2].decode("ascii").split()


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Exclude existing objects from garbage collection, and collect less often.

    That saves a quarter of a worker's time in Python, and an eighth of an import's.
    """
    gc.collect()
    gc.freeze()
    threshold = gc.get_threshold()
    gc.set_threshold(50_000, *threshold[1:])
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()
