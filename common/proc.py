"""What this process is, and what the kernel says of others on this machine.

Linux only in parts: elsewhere nothing is known of other processes, and whoever asks has to wait for a lease to end.
"""

import ctypes
import os
import signal
import socket
from functools import lru_cache
from pathlib import Path

_PR_SET_PDEATHSIG = 1

# Of the process that guards a cluster, inherited by its workers.
_cluster: str | None = None


def name_cluster(name: str) -> None:
    """Give the cluster that this process guards a name that no other has, for itself and the processes it starts."""
    global _cluster  # noqa: PLW0603  (a fact of the process)
    _cluster = name


def cluster() -> str:
    """Return the name of this process' cluster. Outside one: its host and its parent."""
    return _cluster or f"{socket.gethostname()}:{os.getppid()}"


def owner() -> str:
    """Return what this process signs its claims with: the name of its cluster, and its number."""
    return f"{cluster()}:{os.getpid()}"


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process as soon as the one that started it has ended, however that ends."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel knew
        os._exit(1)


def state(pid: int) -> str | None:
    """Return the state of a process as the kernel names it (`T` stopped, `Z` ended and not yet seen), or None."""
    found = _stat(pid)
    return found[0] if found else None


def began(pid: int) -> int | None:
    """Return when a living process began, in ticks since the machine did: its number may be given to another later.

    None for one that has ended, or where nothing is known.
    """
    found = _stat(pid)
    return int(found[19]) if found and found[0] != "Z" else None


@lru_cache
def place() -> str:
    """Return a name for where a process number means the same as here, "" if unknown: of the machine's present run
    and of our container, since containers may share the name of a host, and each counts its own processes.
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
