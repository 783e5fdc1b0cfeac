"""A web server as in production, on this test's database and bucket."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from scripts.processes import free_port, web_command
from tests.functional.support import ROOT, worker_environment

PATIENCE = 30
# To start. A machine that is busy with other things may take long.
_START_SECONDS = 120


class WebServer:
    def __init__(self, port: int, master: int) -> None:
        self.port = port
        self._master = master

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def stop(self) -> None:
        """Ask it to stop, and wait until it takes no more connections."""
        os.kill(self._master, signal.SIGTERM)
        end = time.monotonic() + PATIENCE
        with suppress(ConnectionError):
            while time.monotonic() < end:
                socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE).close()
                time.sleep(0.02)

    def peak_memory(self) -> int:
        """The most memory that a worker process has had, in bytes."""
        return max(_memory(pid, "VmHWM") for pid in self._children())

    def peak_memory_of_all(self) -> int:
        """The most memory that each of the worker processes has had, together, in bytes."""
        return sum(_memory(pid, "VmHWM") for pid in self._children())

    def forget_peak(self) -> None:
        """Reset the peaks to the current memory of the processes."""
        for pid in self._children():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _children(self) -> list[str]:
        return Path(f"/proc/{self._master}/task/{self._master}/children").read_text().split()


@contextmanager
def web_server(*, workers: int = 1, log: Path | None = None, **settings: str) -> Iterator[WebServer]:
    """Start it by the command in the Procfile, with processes of four threads each; stop it at the end.

    It takes seconds: share it where you can. Its output goes to `log`, if given.
    """
    port = free_port()
    ours = {
        "SECURE_SSL_REDIRECT": "false",
        # Staff of these tests have a password alone.
        "SECOND_FACTOR_REQUIRED": "false",
        "ALLOWED_HOSTS": "127.0.0.1",
        "WEB_BIND": f"127.0.0.1:{port}",
        "WEB_WORKERS": str(workers),
        **settings,
    }
    argv = web_command("--log-level", "debug" if log else "critical")
    with nullcontext() if log is None else log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=worker_environment(role="web") | ours,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        server = WebServer(port, process.pid)
        wait_until_connected(server.connect, process)
        yield server
    finally:
        # At once. To let open connections end takes seconds (`WebServer.stop`).
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)


def wait_until_connected(
    connect: Callable[[], http.client.HTTPConnection], process: "subprocess.Popen[bytes] | None" = None
) -> None:
    """Wait until a server answers, with any status. Raises AssertionError."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and (process is None or process.poll() is None):
        connection = connect()
        try:
            connection.request("GET", "/api/")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()
    raise AssertionError("The server does not answer.")


def _memory(pid: str, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in status if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024
