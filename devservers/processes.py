"""Base class of the embedded servers: launching, joining, stopping.

Each server has a folder of its own and may outlive the process that launched it. It inherits a file lock and holds it
until it ends, which shows whether it runs; a pid file would not, since pids are reused. Not safe for concurrent
processes: `devservers.control` holds a lock.
"""

import fcntl
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

START_SECONDS = 60
LOOPBACK = "127.0.0.1"
INSTALL = "install requirements-dev.txt, or set"


class EmbeddedError(RuntimeError):
    """An embedded server cannot run. The message says what to do."""


def exclusively(lock: int) -> bool:
    """Try to take an exclusive file lock, and return whether that succeeded."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hold(port: int) -> socket.socket:
    """Bind this loopback port without listening. Raises OSError if another program listens there.

    As long as the socket is open, a server can listen on the port, but no outgoing connection gets it.
    """
    holder = socket.socket()
    # As servers do: connections of a server that has just ended do not matter.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((LOOPBACK, port))
    except OSError:
        holder.close()
        raise
    return holder


def is_free(port: int) -> bool:
    """Return whether a server could listen on this loopback port."""
    try:
        hold(port).close()
    except OSError:
        return False
    return True


def is_unused(port: int) -> bool:
    """Return whether this loopback port is unused: no program listens on it, holds it, or has connections."""
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


class Server(ABC):
    """A server process with its data under `home`."""

    name = ""
    stop_signals: tuple[tuple[signal.Signals, float], ...] = ()  # sent in turn, with seconds to wait

    def __init__(self, home: Path, runtime: Path) -> None:
        self.home = home
        self.runtime = runtime
        self.data = home / "data"
        self.log = home / "log"
        self._pid_file = home / "server.pid"
        self._lock_file = home / "server.lock"
        self._identity_file = home / "server.identity"
        # Next to the sockets, for a server whose folder was removed while it ran.
        self._pid_copy = runtime / f"{home.name}.pid"
        self._is_ours = False

    @abstractmethod
    def command(self) -> list[str]: ...

    def environment(self) -> dict[str, str]:
        """Return a minimal environment: the servers would read settings, even credentials, from ours."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.home), "LC_ALL": "C.UTF-8"}

    def identity(self) -> str:
        """Return the configuration that a running server must have been launched with to be joined."""
        return "\n".join(self.command())

    @abstractmethod
    def prepare(self) -> None:
        """Create what the server needs before its launch."""

    @abstractmethod
    def ready(self) -> bool:
        """Return whether it is ready for work. Must not raise during its start."""

    @abstractmethod
    def remove_leftovers(self) -> None:
        """Remove what a killed server leaves behind, while none runs."""

    def alive(self) -> bool:
        try:
            lock = os.open(self._lock_file, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return not exclusively(lock)
        finally:
            os.close(lock)

    def pid(self) -> int:
        """Return the server's first process. Raises FileNotFoundError or ValueError where it was never launched."""
        return int(self._pid_file.read_text())

    def begin(self, *, alone: bool) -> None:
        """Join the running server, or launch one; `alone` if no other process uses it. Then call `wait`."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.alive():
            if self._identity_file.exists() and self._identity_file.read_text() == self.identity():
                return
            if not alone:
                raise EmbeddedError(
                    f"The embedded {self.name} was started with other settings and is in use: "
                    "stop the other processes of this copy, then start again."
                )
            self.stop()
        self._launch()

    def wait(self) -> None:
        """Return when the server is ready.

        It is launched once more if it was stopping when joined, or was launched here and does not come up, since
        another program took a port.
        """
        began = time.monotonic()
        second_try = True
        while not self.ready():
            seconds = time.monotonic() - began
            is_stuck = self._is_ours and seconds > START_SECONDS / 4
            if not self.alive() or (second_try and is_stuck):
                if not second_try:
                    raise EmbeddedError(f"The embedded {self.name} does not start. {self.hint()}")
                second_try = False
                self.stop()
                self._launch()
            if seconds > START_SECONDS:
                raise EmbeddedError(f"The embedded {self.name} runs but does not answer. {self.hint()}")
            time.sleep(0.02)

    def hint(self) -> str:
        return f"Its log: {self.log}"

    def stop(self) -> None:
        """Stop the server if it runs, with increasingly strong signals, and return when it has ended."""
        if not self.alive():
            return
        for number, seconds in self.stop_signals:
            with suppress(FileNotFoundError, ValueError, ProcessLookupError):
                os.kill(self.pid(), number)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if not self.alive():
                    self.remove_leftovers()
                    self._pid_copy.unlink(missing_ok=True)
                    return
                time.sleep(0.01)
        raise EmbeddedError(f"The embedded {self.name} cannot be stopped. {self.hint()}")

    def _launch(self) -> None:
        self._is_ours = True
        self.evict()
        self.prepare()
        self.remove_leftovers()
        self._identity_file.write_text(self.identity())
        self._pid_file.unlink(missing_ok=True)
        lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with self.log.open("ab") as log:
                # The shell writes the pid even if we are killed now, and leaves the server to init. In a session of
                # its own, Ctrl-C in the terminal does not reach it.
                subprocess.run(
                    ["/bin/sh", "-c", '"$@" & echo $! >"$0"', str(self._pid_file), *self.command()],
                    check=True,
                    cwd=self.home,
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(lock,),
                    umask=0o077,
                )
        finally:
            os.close(lock)
        self._pid_copy.write_text(self._pid_file.read_text())

    def evict(self) -> None:
        """Kill a server whose folder was removed while it ran, and which still holds sockets."""
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pid = int(self._pid_copy.read_text())
            while os.fsencode(self.data) in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
