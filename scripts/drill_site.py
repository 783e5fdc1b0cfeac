"""What the drill runs on: PostgreSQL servers that can be lost, copied and restored, one bucket, and services on them.

Nothing here knows what is restored. Everything runs below one folder, with keys and ports of its own.
"""

import base64
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import psycopg
from psycopg.conninfo import make_conninfo

from devservers import control
from devservers.postgres import DATABASE, PORT, Postgres, postgres_program
from devservers.s3 import S3, SeaweedFS
from scripts.demo_client import Browser
from scripts.demo_story import Story, require
from scripts.processes import Processes, free_port, wait_for_http, web_command

ROOT = Path(__file__).resolve().parent.parent
WEB, WORKER = "compliance_web", "compliance_worker"
# How long anything may take that takes seconds.
PATIENCE = 120.0


class Log(Story):
    """The story, with the minute and second since its clock was set, and what took how long."""

    def __init__(self) -> None:
        super().__init__()
        self._way = ""
        self._figures: dict[str, dict[str, float]] = {}
        self.restart_clock()

    def begin(self, way: str) -> None:
        self._way = way
        self.restart_clock()

    def restart_clock(self) -> None:
        self._began = time.monotonic()

    def fact(self, text: str) -> None:
        minutes, seconds = divmod(int(self.elapsed()), 60)
        super().fact(f"{minutes:02}:{seconds:02}  {text}")

    def elapsed(self) -> float:
        """Return the seconds since the clock was set."""
        return time.monotonic() - self._began

    def took(self, what: str, seconds: float) -> None:
        """Note a figure for the table at the end."""
        self._figures.setdefault(what, {})[self._way] = seconds

    def figures(self) -> list[str]:
        """Return a table of what was noted, in Markdown; nothing if nothing was."""
        ways = list(dict.fromkeys(way for each in self._figures.values() for way in each))
        rows = [f"| | {' | '.join(ways)} |", f"| --- |{' ---: |' * len(ways)}"]
        for what, seconds in self._figures.items():
            cells = [f"{seconds[way]:.1f}" if way in seconds else "" for way in ways]
            rows.append(f"| {what} | {' | '.join(cells)} |")
        return rows if ways else []


class Database(Postgres):
    """A PostgreSQL server on a socket of its own, without anything in it until `start` or a backup fills it."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder / name, Path(tempfile.mkdtemp(prefix="dca-drill-")))
        # A machine runs three of them at most, all small.
        self.options = self.options | {"shared_buffers": "64MB", "max_wal_size": "256MB"}

    def start(self) -> None:
        self.begin(alone=True)
        self.wait()

    def crash(self) -> None:
        """End it at once, like a power cut."""
        os.kill(self.pid(), signal.SIGQUIT)
        wait_until(lambda: not self.alive(), "the database server ends")

    def destroy(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.rmtree(self.runtime, ignore_errors=True)

    def create_roles(self) -> None:
        self.sql(f"CREATE ROLE {WEB} LOGIN")
        self.sql(f"CREATE ROLE {WORKER} LOGIN")

    def sql(self, statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """Run a statement as the owner and return its rows, if it has any."""
        with self.connect() as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def run(self, program: str, *words: str) -> bytes:
        """Run a program of PostgreSQL on this server, such as pg_dump, and return its output."""
        where = ["--host", str(self.runtime), "--port", str(PORT), "--username", DATABASE]
        argv = [postgres_program(program), *where, *words]
        done = subprocess.run(argv, check=False, capture_output=True, env=self.environment())
        require(done.returncode == 0, f"{program} ended with {done.returncode}: {done.stderr.decode()[-300:]}")
        return done.stdout

    def copy_to(self, other: "Database", *words: str) -> None:
        """Make another server's data directory a physical copy of this one's (pg_basebackup)."""
        other.home.mkdir(mode=0o700, parents=True)
        self.run("pg_basebackup", "--pgdata", str(other.data), "--checkpoint=fast", *words)

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as the owner; each statement commits."""
        where = make_conninfo(host=str(self.runtime), port=PORT, user=DATABASE, dbname=DATABASE)
        return psycopg.connect(where, autocommit=True)


class Said(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Keys(NamedTuple):
    """Keys and addresses that a service and its copies share: the environment of each, without the database's."""

    environment: dict[str, str]
    s3: S3
    s3_port: int


def new_keys(folder: Path) -> Keys:
    s3 = S3(f"drill{secrets.token_hex(8)}", secrets.token_urlsafe(30), "drill")
    endpoint = control.s3_endpoint(folder)
    environment = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "ENCRYPTION_KEYS": f"k1:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}",
        "DIGEST_KEY": f"k1:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}",
        "S3_ENDPOINT_URL": endpoint,
        "S3_ACCESS_KEY_ID": s3.access_key_id,
        "S3_SECRET_ACCESS_KEY": s3.secret_access_key,
        "S3_BUCKET": s3.bucket,
        "METRICS_TOKEN": secrets.token_hex(16),
        "BACKUP_HORIZON_DAYS": "30",
        "ALLOWED_HOSTS": "127.0.0.1",
        "SECURE_SSL_REDIRECT": "false",
        "SECOND_FACTOR_REQUIRED": "false",
        "WEB_WORKERS": "1",
        "PATH": os.environ.get("PATH", os.defpath),
    }
    return Keys(environment, s3, int(endpoint.rpartition(":")[2]))


@contextmanager
def bucket(folder: Path, keys: Keys) -> Iterator[None]:
    """Run an S3 server with an empty bucket below the folder."""
    runtime = Path(tempfile.mkdtemp(prefix="dca-drill-"))
    server = SeaweedFS(folder / "s3", runtime, keys.s3, keys.s3_port)
    shutil.rmtree(server.data, ignore_errors=True)
    try:
        server.begin(alone=True)
        server.wait()
        yield
    finally:
        server.stop()
        shutil.rmtree(runtime, ignore_errors=True)


class Service:
    """A web server and workers, as in production, with a database role each.

    Their DATABASE_URL leads to `address`, which can be turned to another server as a name in DNS can.
    """

    def __init__(self, name: str, folder: Path, keys: Keys, database: Database) -> None:
        self.name = name
        self.keys = keys
        self._folder = folder / name
        self._folder.mkdir(parents=True)
        self._address = Path(tempfile.mkdtemp(prefix="dca-drill-")) / "db"
        self._bind = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self._bind}"
        self._running: dict[str, Processes] = {}
        self.turn_to(database)

    def turn_to(self, database: Database) -> None:
        """Have the address lead to this server from now on."""
        self.database = database
        draft = self._address.with_suffix(".new")
        draft.symlink_to(database.runtime)
        draft.replace(self._address)

    def environment(self, role: str) -> dict[str, str]:
        return {
            **self.keys.environment,
            "DATABASE_URL": f"postgresql://{role}@{quote(str(self._address), safe='')}:{PORT}/{DATABASE}",
            "WEB_BIND": self._bind,
            "VAR_DIR": str(self._folder),
        }

    def manage(self, command: str, *words: str, ends: tuple[int, ...] = (0,), stdin: str = "") -> Said:
        """Run a command as an operator does, with the role that docs/database-roles.md names for it."""
        with self._commands(command, *words) as process:
            began = time.monotonic()
            out, err = process.communicate(stdin)
        said = Said(process.returncode, out, err, time.monotonic() - began)
        last = (err.strip() or out.strip())[-400:]
        require(said.code in ends, f"manage.py {command} ended with code {said.code}, not {ends}: {last}")
        return said

    def kill_during(self, command: str, *words: str, when: Callable[[], bool], seconds: float) -> bool:
        """Run a command and kill it so many seconds after `when` holds. Return whether it was still running."""
        with self._commands(command, *words) as process:
            while process.poll() is None and not when():
                time.sleep(0.02)
            try:
                process.communicate("", timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                return True
            return False

    @contextmanager
    def _commands(self, command: str, *words: str) -> Iterator[subprocess.Popen[str]]:
        role = {"web": WEB, "worker": WORKER, "owner": DATABASE}[role_of(command)]
        pipe = subprocess.PIPE
        argv = [sys.executable, "manage.py", command, *words]
        with subprocess.Popen(
            argv, env=self.environment(role), cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        ) as process:
            yield process

    def start_web(self, *, wait: bool = True) -> None:
        self._start("web", web_command("--log-level", "warning"), WEB)
        if wait:
            wait_for_http(f"{self.url}/healthz", timeout=PATIENCE, processes=self._running["web"])

    def start_workers(self) -> None:
        self._start("workers", [sys.executable, "manage.py", "qcluster"], WORKER)

    def is_working(self) -> bool:
        """Return whether workers were started and not stopped."""
        return "workers" in self._running

    def stop(self, *names: str) -> None:
        for name in names or tuple(self._running):
            self._running.pop(name).stop()

    def kill(self, name: str) -> None:
        self._running.pop(name).kill(name)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._address.parent, ignore_errors=True)

    def _start(self, name: str, argv: list[str], role: str) -> None:
        processes = Processes()
        log = self._folder / f"{name}.log"
        processes.start(name, argv, self.environment(role), cwd=ROOT, log=log)
        self._running[name] = processes

    # --- What can be seen from outside ---------------------------------------------------------------

    def health(self) -> set[str]:
        """Return the codes of the problems that `manage.py health` reports."""
        said = self.manage("health", "--json", ends=(0, 1))
        return {problem["code"] for problem in said.document["problems"]}

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name with labels."""
        header = {"Authorization": f"Bearer {self.keys.environment['METRICS_TOKEN']}"}
        request = urllib.request.Request(f"{self.url}/metrics", headers=header)  # noqa: S310  an http address
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  as above
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}

    def log(self, name: str) -> str:
        """Return what the web server or the workers have written to stderr."""
        return (self._folder / f"{name}.log").read_text()

    def page(self, path: str) -> tuple[int, str]:
        """Return the status and the text of a page of the console, without a log-in."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:  # noqa: S310  an http address
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def browser(self, user: str) -> Browser:
        """Return a browser in which a new superuser is logged in."""
        password = secrets.token_urlsafe(12)
        # As `createsuperuser` does, which asks at a terminal.
        environment = {"DJANGO_SUPERUSER_PASSWORD": password}
        argv = [sys.executable, "manage.py", "createsuperuser", "--noinput", "--username", user, "--email", ""]
        subprocess.run(argv, env=self.environment(WEB) | environment, cwd=ROOT, check=True, capture_output=True)
        return Browser(self.url, user=user, password=password)


def role_of(command: str) -> str:
    """Return the role that docs/database-roles.md names for a command."""
    document = (ROOT / "docs" / "database-roles.md").read_text()
    found = re.search(rf"^\| `{command}` \| (\w+)", document, re.MULTILINE)
    require(found, f"docs/database-roles.md names no role for the command {command}.")
    role = found[1] if found else ""
    return role if role in {"web", "worker", "owner"} else "web"


def wait_until(holds: Callable[[], Any], what: str, *, seconds: float = PATIENCE) -> float:
    """Wait until it holds, and return the seconds that it took. Raises TimeoutError, which says what did not come.

    What raises OSError does not hold.
    """
    began = time.monotonic()
    while True:
        with suppress(OSError):
            if holds():
                return time.monotonic() - began
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"Waited {seconds:.0f} s in vain: {what}.")
        time.sleep(0.1)
