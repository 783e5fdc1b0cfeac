"""A web server of its own, as production runs it, on this test's database and bucket."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.functional.support import ROOT, worker_environment

PATIENCE = 30


class WebServer:
    def __init__(self, port: int, master: int) -> None:
        self.port = port
        self._master = master

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def peak_memory(self) -> int:
        """The most memory that a worker process has had, in bytes."""
        children = Path(f"/proc/{self._master}/task/{self._master}/children").read_text().split()
        return max(_peak(pid) for pid in children)


@contextmanager
def web_server(*, workers: int = 1, **settings: str) -> Iterator[WebServer]:
    """Start gunicorn with workers of four threads each; stop it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [sys.executable, "-m", "gunicorn", "config.wsgi", "--worker-class", "gthread", "--threads", "4"]
    argv += ["--bind", f"127.0.0.1:{port}", "--log-level", "critical", "--workers", str(workers)]
    # Staff of these tests have a password alone.
    plain = {"SECURE_SSL_REDIRECT": "false", "SECOND_FACTOR_REQUIRED": "false"}
    ours = {**plain, "ALLOWED_HOSTS": "127.0.0.1", **settings}
    process = subprocess.Popen(argv, cwd=ROOT, env=worker_environment(role="web") | ours)
    try:
        server = WebServer(port, process.pid)
        _wait_for(server, process)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            # A test that failed has left a connection open. The worker ends when its master is gone.
            process.kill()
            process.wait(PATIENCE)


def _wait_for(server: WebServer, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        connection = server.connect()
        try:
            connection.request("GET", "/api/")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()
    raise AssertionError("The web server does not answer.")


def _peak(pid: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
