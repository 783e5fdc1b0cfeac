"""Run a few programs side by side and end them well: for `make run`, `make demo` and the functional tests.

Each program gets a session of its own. Only its first process is asked to stop; the rest of the session is killed
after the deadline.
"""

import http.client
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self
from urllib.parse import urlsplit

from devservers.processes import is_unused

ROOT = Path(__file__).resolve().parent.parent


def web_command(*options: str) -> list[str]:
    """Return the Procfile's command of the web server, for this Python, in ROOT. It listens on WEB_BIND."""
    lines = dict(line.split(":", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    return [sys.executable, "-m", *shlex.split(lines["web"]), *options]


class Processes:
    """A context in which programs run by name; leaving it always stops them all."""

    def __init__(self, stop_timeout: float = 15) -> None:
        self.stop_timeout = stop_timeout
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        cwd: Path | None = None,
        log: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program under a unique name; its output goes to `log`, or to our own output."""
        if name in self._running:
            raise ValueError(f"{name} runs already.")
        with log.open("ab") if log else open(os.devnull, "rb") as file:  # noqa: PTH123
            output = file if log else None
            process = subprocess.Popen(
                argv,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._running[name] = process
        return process

    def running(self, name: str) -> subprocess.Popen[bytes]:
        """Return a program that was started and not killed."""
        return self._running[name]

    def wait_any(self, timeout: float | None = None) -> tuple[str, int] | None:
        """Wait until a program ends and return its name and exit code, or None after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            for name, process in self._running.items():
                code = process.poll()
                if code is not None:
                    return name, code
            if deadline is not None and time.monotonic() >= deadline:
                return None
            time.sleep(0.1)

    def stop(self, timeout: float | None = None) -> dict[str, int]:
        """Ask all to stop, wait, kill what is left after `timeout` seconds; return exit codes by name.

        A second Ctrl-C (or SIGTERM) kills them at once and is passed on to the caller.
        """
        deadline = time.monotonic() + (self.stop_timeout if timeout is None else timeout)
        try:
            for process in self._running.values():
                if process.poll() is None:
                    process.terminate()
            for process in self._running.values():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for process in self._running.values():
                with suppress(ProcessLookupError):  # including processes that a dead parent left in its session
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            codes = {name: process.returncode for name, process in self._running.items()}
            self._running.clear()
        return codes

    def kill(self, name: str) -> None:
        """Kill a program and its whole session, like a crash of the machine."""
        process = self._running.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def children_of(pid: int) -> list[int]:
    """Return the running child processes, the oldest first. Linux only."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append((int(fields[19]), int(folder.name)))
    return [number for _, number in sorted(found)]


def exit_on_sigterm() -> None:
    """Make SIGTERM end this script like Ctrl-C: through its `with` and `finally` blocks."""

    def leave(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, leave)


def free_port() -> int:
    """Return an unused loopback port.

    It is below those of outgoing connections (32768 and up), one of which could take it before it is listened on, and
    below those of the embedded servers.
    """
    while not is_unused(port := random.randrange(10_000, 12_000)):  # noqa: S311
        pass
    return port


def wait_for_http(url: str, timeout: float = 30, processes: Processes | None = None) -> int:
    """Wait until `url` answers with a status below 500, and return the status.

    Raises TimeoutError with the last result after `timeout` seconds, or when one of `processes` has ended.
    """
    parts = urlsplit(url)
    deadline = time.monotonic() + timeout
    while True:
        connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=5)
        try:
            connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
            status = connection.getresponse().status
            last = f"status {status}"
            if status < 500:
                return status
        except (OSError, http.client.HTTPException) as error:
            last = type(error).__name__
        finally:
            connection.close()
        ended = processes.wait_any(timeout=0) if processes else None
        if ended:
            raise TimeoutError(f"{ended[0]} ended with code {ended[1]} before {url} answered.")
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{url} did not answer within {timeout:g} s ({last}).")
        time.sleep(0.1)
