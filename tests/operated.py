"""A service on servers of its own, operated as in production: by commands, each with its role in the database.

It depends on no settings and no environment. The drill runs several of them, `tests.faults.site.Site` breaks one.
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
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import psycopg
from botocore.config import Config
from psycopg.conninfo import make_conninfo

from devservers import control
from devservers.postgres import DATABASE, PORT, Postgres, postgres_program
from devservers.s3 import S3
from scripts.demo_story import require
from scripts.processes import Processes, free_port, wait_for_http, web_command
from tests.oracle.caller import Client
from tests.oracle.client_state import UCI
from tests.oracle.evidence import Objects, objects_in

ROOT = Path(__file__).resolve().parents[1]
WEB, WORKER = "compliance_web", "compliance_worker"
GRANT = ("grant_roles", "--web", WEB, "--worker", WORKER)
SCOPES = (
    *("deletions:write", "exports:write", "requests:read", "requests:approve", "conversations:write"),
    *("conversations:read", "identities:write", "messages:redact", "changelog:read", "holds:write"),
)
# How long anything may take that takes seconds.
PATIENCE = 120.0

_COMMANDS = """
import io, json, sys
import django
django.setup()
from django.core.management import call_command
printed = []
for words in json.load(sys.stdin):
    out = io.StringIO()
    call_command(*words, stdout=out)
    printed.append(out.getvalue())
json.dump(printed, sys.stdout)
"""


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

    @contextmanager
    def client(self) -> Iterator[Any]:
        client = boto3.client(
            "s3",
            endpoint_url=self.environment["S3_ENDPOINT_URL"],
            aws_access_key_id=self.s3.access_key_id,
            aws_secret_access_key=self.s3.secret_access_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )
        try:
            yield client
        finally:
            client.close()


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


class Operated(ABC):
    """A service: its programs run below a folder; it is operated by commands, and can be read past its API."""

    database: Database
    keys: Keys

    def __init__(self, folder: Path, *webs: str) -> None:
        """`webs` are the names of its web servers; it is called at the first. All other programs are clusters."""
        self.folder = folder
        self._binds = {name: f"127.0.0.1:{free_port()}" for name in webs}
        self.address = f"http://{self._binds[webs[0]]}"
        self._processes = Processes(stop_timeout=30)
        self._pids: dict[str, int] = {}

    @abstractmethod
    def environment(self, role: str) -> dict[str, str]:
        """Return the environment of a process with this role in the database."""

    def start(self, name: str, *, argv: Sequence[str] = (), **settings: str) -> None:
        """Start a program: a web server, or a cluster. `settings` are variables of its environment alone.

        `argv` is run in place of its command.
        """
        bind = self._binds.get(name)
        command = web_command("--log-level", "warning") if bind else [sys.executable, "manage.py", "qcluster"]
        environment = self.environment(WEB if bind else WORKER) | ({"WEB_BIND": bind} if bind else {}) | settings
        process = self._processes.start(name, argv or command, environment, cwd=ROOT, log=self.folder / f"{name}.log")
        self._pids[name] = process.pid

    def is_started(self, name: str) -> bool:
        """Return whether a program was started and neither stopped nor killed. It may have ended by itself."""
        return name in self._pids

    def kill(self, name: str) -> None:
        del self._pids[name]
        self._processes.kill(name)

    def stop(self, name: str) -> int:
        """Ask a program to stop (SIGTERM), and return its exit code."""
        process = self._processes.running(name)
        process.terminate()
        try:
            return process.wait(PATIENCE)
        finally:
            self.kill(name)

    def wait_for_web(self) -> None:
        wait_for_http(f"{self.address}/healthz", timeout=PATIENCE)

    def pid(self, name: str) -> int:
        return self._pids[name]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # --- Operators ---------------------------------------------------------------------------------------

    def manage(self, command: str, *words: str, ends: tuple[int, ...] = (0,), stdin: str = "") -> Said:
        """Run a command as an operator does, with its role. Raises CheckFailed if its exit code is not in `ends`."""
        with self.commanding(command, *words) as process:
            began = time.monotonic()
            out, err = process.communicate(stdin)
        said = Said(process.returncode, out, err, time.monotonic() - began)
        last = (err.strip() or out.strip())[-400:]
        require(said.code in ends, f"manage.py {command} ended with code {said.code}, not {ends}: {last}")
        return said

    @contextmanager
    def commanding(self, command: str, *words: str) -> Iterator[subprocess.Popen[str]]:
        pipe, environment = subprocess.PIPE, self.environment(role_of(command))
        argv = [sys.executable, "manage.py", command, *words]
        with subprocess.Popen(
            argv, env=environment, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        ) as process:
            yield process

    def create_chatbot(self, slug: str, *words: str, timeout: float = 10.0) -> Client:
        """Create a chatbot with a signing key and a token, and return a client that has both."""
        return self.create_chatbots(slug, words=words, timeout=timeout)[0]

    def create_chatbots(self, *slugs: str, words: Sequence[str] = (), timeout: float = 10.0) -> list[Client]:
        """Create chatbots alike, in the time of one."""
        variables = ("--variable", f"custom:{UCI}", "--variable", "custom:pass", "--uci", UCI)
        fixed = (*variables, "--enable-compliance", "--hosted-bucket", *words)
        scopes = [word for scope in SCOPES for word in ("--scope", scope)]
        commands: list[Sequence[str]] = []
        for slug in slugs:
            key = ("create_api_key", slug, "--label", "site", "--json", "--type")
            chatbot = ("create_chatbot", slug, "--name", slug.title(), *fixed)
            commands += [chatbot, (*key, "signing"), (*key, "token", *scopes)]
        said = self.manage_all(WEB, commands)
        secrets = [json.loads(said[place])["secret"] for place in range(len(said)) if place % 3]
        return [
            Client(self.address, slug, secret=secrets[2 * place], token=secrets[2 * place + 1], timeout=timeout)
            for place, slug in enumerate(slugs)
        ]

    def manage_all(self, role: str, commands: Sequence[Sequence[str]]) -> list[str]:
        """Run commands in one process, since its start takes longer than most, and return what each has printed."""
        environment = self.environment(role) | {"DJANGO_SETTINGS_MODULE": "config.settings"}
        argv = [sys.executable, "-c", _COMMANDS]
        given = json.dumps(commands)
        done = subprocess.run(
            argv, env=environment, cwd=ROOT, input=given, capture_output=True, text=True, check=False
        )
        last = done.stderr.strip()[-400:]
        require(not done.returncode, f"{commands[0][0]} ended with {done.returncode}: {last}")
        printed: list[str] = json.loads(done.stdout)
        return printed

    def sql(self, statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """Run a statement as the owner of the database, past any wire, and return its rows."""
        return self.database.sql(statement, values)

    def objects(self, bucket: str = "") -> Objects:
        """Return all that a bucket holds, the hosted one by default."""
        with self.keys.client() as client:
            return objects_in(bucket or self.keys.s3.bucket, client)

    def health(self) -> set[str]:
        """Return the codes of the problems that `manage.py health` reports."""
        said = self.manage("health", "--json", ends=(0, 1))
        return {problem["code"] for problem in said.document["problems"]}

    def logs(self) -> dict[str, str]:
        """Return what all programs and PostgreSQL have written, by name."""
        files = [*self.folder.glob("*.log"), self.database.log]
        return {path.name: path.read_text(errors="replace") for path in files if path.exists()}


def role_of(command: str) -> str:
    """Return the role of a command in the database, as docs/reference/commands.md names it."""
    document = (ROOT / "docs" / "reference" / "commands.md").read_text()
    found = re.search(rf"^\| `{command}` \| (\w+)", document, re.MULTILINE)
    require(found, f"docs/reference/commands.md names no role for the command {command}.")
    return {"worker": WORKER, "owner": DATABASE}.get(found[1] if found else "", WEB)


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
