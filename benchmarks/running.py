"""Run workers and web servers as in production, and read their costs from /proc."""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks import world
from benchmarks.filing import file, wait
from benchmarks.filling import fill
from benchmarks.place import ROOT, VAR_DIR
from scripts.processes import Processes, free_port, wait_for_http, web_command

_TICKS = os.sysconf("SC_CLK_TCK")


class CommandFailed(Exception):
    """A command of manage.py ended with another exit code than 0."""


@dataclass(frozen=True)
class Program:
    """A program that we started, with all processes of its session."""

    session: int

    def peak_mib(self) -> float:
        """Return the most memory that any one of its processes has held (VmHWM), in MiB."""
        return max((_peak_kib(pid) for pid in self._pids()), default=0) / 1024

    def forget_peak(self) -> float:
        """Let the peak of each process begin anew at what it holds now, and return the greatest in MiB."""
        for pid in self._pids():
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")
        return self.peak_mib()

    def cpu_seconds(self) -> float:
        """Return the processor time of its processes, those that have ended included."""
        return sum(_cpu_seconds(pid) for pid in self._pids())

    def all_cpu_seconds(self) -> float:
        """Return the processor time of its processes, of PostgreSQL and of the S3 server."""
        return self.cpu_seconds() + database_cpu_seconds() + storage_cpu_seconds()

    def _pids(self) -> list[int]:
        return [pid for pid, fields in _processes() if int(fields[3]) == self.session]


@contextmanager
def cluster(*, workers: int = 2, environment: Mapping[str, str] = MappingProxyType({})) -> Iterator[Program]:
    """A django-q2 cluster whose workers have all done some work, of either kind."""
    with Processes() as processes:
        process = processes.start(
            "worker",
            [sys.executable, str(ROOT / "manage.py"), "qcluster"],
            env={**world.ENVIRONMENT, **environment, "WORKERS": str(workers)},
            log=VAR_DIR / "worker.log",
        )
        warm_up(f"warm-up-{process.pid}")
        yield Program(process.pid)


def command(*words: str) -> tuple[float, float]:
    """Run a command of manage.py; return its seconds from start to end, and its peak memory in MiB.

    Raises CommandFailed.
    """
    peak = 0
    with Processes() as processes:
        began = time.perf_counter()
        argv = [sys.executable, str(ROOT / "manage.py"), *words]
        process = processes.start("command", argv, env=world.ENVIRONMENT, log=VAR_DIR / "command.log")
        # Not the memory of wait4: that counts ours, which the child shares until it is itself.
        while process.poll() is None:
            peak = max(peak, _peak_kib(process.pid))
            time.sleep(0.01)
        seconds = time.perf_counter() - began
    if process.returncode:
        raise CommandFailed(f"{words[0]} ended with exit code {process.returncode}.")
    return seconds, peak / 1024


def warm_up(slug: str) -> None:
    """Give the workers requests that find nothing, enough for each of them."""
    empty = fill(slug, chatters=0)
    file(empty, [f"unknown-{number}" for number in range(500)])
    wait(empty, seconds=60)
    file(empty, [f"unknown-{number}" for number in range(500, 530)], "export")
    wait(empty, "export", seconds=60)


@contextmanager
def web(settings_module: str = "config.settings") -> Iterator[tuple[Program, int]]:
    """A web server on a free port, started by the command in the Procfile; yields it and its port."""
    port = free_port()
    environment = {**world.ENVIRONMENT, "WEB_BIND": f"127.0.0.1:{port}", "DJANGO_SETTINGS_MODULE": settings_module}
    with Processes() as processes:
        process = processes.start(
            "web", web_command("--log-level", "warning"), env=environment, cwd=ROOT, log=VAR_DIR / "web.log"
        )
        wait_for_http(f"http://127.0.0.1:{port}/api/", timeout=60, processes=processes)
        yield Program(process.pid), port


def database_cpu_seconds() -> float:
    """Return the processor time of PostgreSQL so far, ended connections included."""
    return _tree_cpu_seconds(VAR_DIR / "postgres" / "server.pid")


def storage_cpu_seconds() -> float:
    """Return the processor time of the S3 server so far."""
    return _tree_cpu_seconds(VAR_DIR / "s3" / "server.pid")


def machine_cpu_seconds() -> tuple[float, float]:
    """Return the machine's busy and whole processor time so far, over all cores."""
    with Path("/proc/stat").open() as lines:
        ticks = [int(word) for word in lines.readline().split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / _TICKS, sum(ticks) / _TICKS


def _tree_cpu_seconds(pid_file: Path) -> float:
    root = int(pid_file.read_text())
    return _cpu_seconds(root) + sum(_cpu_seconds(pid) for pid, fields in _processes() if int(fields[1]) == root)


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Yield each process with the fields of its `stat` from the third on: state, parent, group, session, …"""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()


def _cpu_seconds(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(ticks) for ticks in fields[11:15]) / _TICKS  # own and of ended children
    return 0.0


def _peak_kib(pid: int) -> int:
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) if found else 0
    return 0
