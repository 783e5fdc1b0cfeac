"""Starts and stops the embedded servers of a development copy.

The settings use `database` and `s3_endpoint`, which start nothing. manage.py, config/wsgi.py and conftest call
`start`, which starts the servers or joins those of another process. The last process to leave stops them; if it is
killed, they keep running and the next `start` joins them.
"""

import atexit
import fcntl
import hashlib
import os
import random
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.conf import settings

from devservers.postgres import DATABASE, PORT, Postgres
from devservers.processes import LOOPBACK, EmbeddedError, Server, exclusively, is_unused
from devservers.s3 import S3, SeaweedFS, iam_key

__all__ = ["S3", "EmbeddedError", "Instance", "database", "iam_key", "s3_endpoint", "start", "stop"]


def database(var_dir: Path) -> dict[str, Any]:
    """Return the entry of DATABASES for the embedded PostgreSQL. Starts and writes nothing."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": DATABASE,
        "USER": DATABASE,
        "HOST": str(_runtime_dir(var_dir)),
        "PORT": str(PORT),
    }


def s3_endpoint(var_dir: Path) -> str:
    """Return the URL of the embedded S3 server, whose ports are chosen on first use."""
    return f"http://{LOOPBACK}:{_first_port(var_dir / 's3')}"


def start() -> None:
    """Start or join the servers that the settings require, and return when they are ready.

    Does nothing if DATABASE_URL and S3_* name real servers. Call it again after a fork: each process is a user of its
    own. Raises EmbeddedError, which says what to do.
    """
    global _instance  # noqa: PLW0603  (one per process)
    if not (settings.EMBEDDED_POSTGRES or settings.EMBEDDED_S3):
        return
    if _instance is None:
        s3 = S3(settings.S3_ACCESS_KEY_ID, settings.S3_SECRET_ACCESS_KEY, settings.S3_BUCKET)
        _instance = Instance(
            settings.VAR_DIR,
            postgres=settings.EMBEDDED_POSTGRES,
            s3=s3 if settings.EMBEDDED_S3 else None,
        )
    _instance.start()


def stop() -> None:
    """Leave the servers, and stop them if no other process uses them. Runs when the process ends."""
    if _instance:
        _instance.stop()


class Instance:
    """The servers below a VAR_DIR, from the view of a process.

    A user holds a shared lock on `users.lock` while it lives, and one on `start.lock` while it starts or stops
    servers. Both are file locks, released even if a process is killed. Launched programs do not inherit them; a
    forked child does, and counts as a user until it ends.
    """

    def __init__(self, var_dir: Path, *, postgres: bool = True, s3: S3 | None = None) -> None:
        self.var_dir = var_dir
        self._runtime = _runtime_dir(var_dir)
        self._servers: list[Server] = []
        if s3:
            home = var_dir / "s3"
            self._servers.append(SeaweedFS(home, self._runtime, s3, _first_port(home)))
        if postgres:
            self._servers.append(Postgres(var_dir / "postgres", self._runtime))
        self._users = -1
        self._pid = 0

    def start(self) -> None:
        """Start or join the servers, and leave them when this process ends."""
        if self._pid == os.getpid():
            return
        self.var_dir.mkdir(parents=True, exist_ok=True)
        with self._start_lock():
            _own_folder(self._runtime)
            users = self._open("users.lock")
            alone = exclusively(users)
            # No other process waits for an exclusive lock: it would hold the start lock.
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                for server in self._servers:
                    server.begin(alone=alone)
                for server in self._servers:
                    server.wait()
            except BaseException:
                os.close(users)
                if alone:
                    self._stop_servers()
                raise
            self._users, self._pid = users, os.getpid()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Leave the servers, and stop them if no other process uses them. A forked child stops nothing."""
        if self._pid != os.getpid():
            return
        self._pid = 0
        atexit.unregister(self.stop)
        if not self.var_dir.exists():  # and its locks with it
            for server in self._servers:
                server.evict()
            shutil.rmtree(self._runtime, ignore_errors=True)
            return
        with suppress(KeyboardInterrupt), self._start_lock():
            os.close(self._users)
            # Reopened: a forked child shares the lock of the old descriptor, and must count.
            users = self._open("users.lock")
            try:
                if exclusively(users):
                    self._stop_servers()
            finally:
                os.close(users)

    def _stop_servers(self) -> None:
        for server in self._servers:
            server.stop()
        with suppress(OSError):  # not empty: files of another server
            self._runtime.rmdir()

    @contextmanager
    def _start_lock(self) -> Iterator[None]:
        lock = self._open("start.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _open(self, name: str) -> int:
        return os.open(self.var_dir / name, os.O_RDWR | os.O_CREAT, 0o600)


_instance: Instance | None = None


def _own_folder(path: Path) -> None:
    """Create the folder of the sockets, or check that it is ours: its owner controls the database."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise EmbeddedError(f"{path} must be a folder that only you can enter: remove it, then start again.")


def _runtime_dir(var_dir: Path) -> Path:
    """Return the folder of the sockets: short, since a socket's path has at most 107 bytes."""
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) > 60:
        base = "/tmp"  # noqa: S108  (the folder is 0700 and checked to be ours)
    return Path(base) / f"dca-{hashlib.sha256(os.fsencode(var_dir)).hexdigest()[:12]}"


def _first_port(home: Path) -> int:
    """Return the first port of the S3 server of `home`: chosen once, then read from the file `port`.

    Processes that choose at the same time agree: the complete file is linked into place once.
    """
    path = home / "port"
    if not path.exists():
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = home / f".port.{os.getpid()}.{random.getrandbits(32):08x}"
        draft.write_text(str(free_ports()))
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return int(path.read_text())


def free_ports() -> int:
    """Return the first port of a free range for an S3 server. Raises EmbeddedError if there is none."""
    # Also with gRPC's 10000 added, they stay below the ports of outgoing connections (32768 and up).
    size = len(SeaweedFS.parts)
    for _ in range(200):
        first = random.randrange(12_000, 22_700)  # noqa: S311
        if all(is_unused(port + grpc) for port in range(first, first + size) for grpc in (0, 10_000)):
            return first
    raise EmbeddedError("No free ports for the embedded S3 server: set S3_ENDPOINT_URL.")
