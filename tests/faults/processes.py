"""Processes of this machine, as the kernel shows them."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from devservers.processes import Server
from scripts.processes import children_of
from tests.operated import wait_until


def running() -> dict[int, int]:
    """Return the processes that are neither dead nor stopped, each with its parent."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZXT":
                found[int(folder.name)] = int(parent)
    return found


def family_of(pid: int) -> list[int]:
    """Return a process and all its descendants, beginning with the process."""
    return [pid, *(each for child in children_of(pid) for each in family_of(child))]


def kill_server(server: Server) -> None:
    for pid in family_of(server.pid()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not server.alive(), f"{server.name} has ended")
