"""A site: the whole service with servers of its own, whose parts can be killed, stopped and started again.

PostgreSQL (whose files can lie on a small disk), an S3 server behind a wire, a web server with two processes, and two
clusters of two workers, each with a role of its own in the database. It depends on no settings and no environment.
No fault is aimed at a further web server and cluster, if they are wanted: they live through all of it.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import boto3
import psycopg
from botocore.config import Config

from devservers.postgres import DATABASE, PORT
from devservers.processes import Server
from devservers.s3 import SeaweedFS
from scripts.drill_site import WEB, WORKER, Database, Said, new_keys, role_of, wait_until
from scripts.processes import Processes, children_of, free_port, wait_for_http, web_command
from tests.faults.disk import SmallDisk
from tests.faults.processes import kill_server, running
from tests.faults.wire import Wire
from tests.oracle.http import Client
from tests.oracle.objects import Objects, objects_in

ROOT = Path(__file__).resolve().parents[2]
UCI = "member_id"
SCOPES = (
    *("deletions:write", "exports:write", "requests:read", "requests:approve", "conversations:write"),
    *("conversations:read", "identities:write", "messages:redact"),
)
_PATIENCE = 120.0
# Those that no fault is aimed at.
_STEADY_WEB, _STEADY_CLUSTER = "steady-web", "steady-cluster"
# Of these a process is made that kills its children when it dies; a reader of /proc meets them half-way.
KINDS = ("worker", "monitor", "pusher")
_SAID = {"ready for work": "worker", "monitoring": "monitor", "pushing tasks": "pusher"}
_READY = re.compile(rf" ({'|'.join(_SAID)}) at (\d+)\n")
# Below the first process of a web server, and below the guard of a cluster: two workers and one of each other kind.
_WEB_PROCESSES, _CLUSTER_PROCESSES = 2, 4
# Of guards, which beat every 5 seconds.
_BEATS = """
SELECT pid FROM compliance_heartbeat
 WHERE stopped_at IS NULL AND died_at IS NULL AND seen_at > clock_timestamp() - interval '12 seconds'
"""

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


class Site:
    """A context in which a service of its own runs below `folder`, which is emptied at the start.

    `settings` are variables of the environment of all its processes. With `disk_bytes` PostgreSQL's files lie on a
    disk of that size; where none can be mounted, `disk` is None. With `database_wire`, all but this object reach
    PostgreSQL through a wire. With `steady` there are two more programs: they are not among `programs` or `clusters`,
    so that they live through whatever is done to those.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clusters: int = 2,
        disk_bytes: int = 0,
        database_wire: bool = False,
        steady: bool = False,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.clusters = [f"cluster-{number + 1}" for number in range(clusters)]
        self.programs = ["web", *self.clusters]
        self.steady = [_STEADY_WEB, _STEADY_CLUSTER] if steady else []
        self.frozen: list[int] = []
        self.skewed: set[str] = set()  # programs with a wrong clock
        self.disk: SmallDisk | None = None
        self._disk_bytes = disk_bytes
        self._has_database_wire = database_wire
        self._settings = settings
        self._binds = {name: f"127.0.0.1:{free_port()}" for name in ("web", _STEADY_WEB)}
        self.address, self.steady_address = (f"http://{bind}" for bind in self._binds.values())
        self._pids: dict[str, int] = {}
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resume()
        self._exits.close()

    def _begin(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._disk_bytes:
            with suppress(OSError):  # it must not be mounted here
                self.disk = self._exits.enter_context(SmallDisk(self.folder / "postgres", self._disk_bytes))
        self.database = Database(self.folder, "postgres")
        self._exits.callback(self._discard, self.database)
        self.database.start()
        self.database.create_roles()
        keys = new_keys(self.folder)
        runtime = Path(tempfile.mkdtemp(prefix="dca-site-"))
        self.s3 = SeaweedFS(self.folder / "s3", runtime, keys.s3, keys.s3_port)
        self._exits.callback(self._discard, self.s3)
        self.start_server(self.s3)
        self.s3_wire = self._exits.enter_context(Wire(("127.0.0.1", keys.s3_port)))
        self.database_wire: Wire | None = None
        if self._has_database_wire:
            self.database_wire = self._exits.enter_context(Wire(self.database.runtime / f".s.PGSQL.{PORT}"))
        self._environment = {
            **keys.environment,
            "S3_ENDPOINT_URL": self.s3_wire.address,
            # Links lead to the server itself: what a client downloads does not pass the wire.
            "S3_PUBLIC_ENDPOINT_URL": keys.environment["S3_ENDPOINT_URL"],
            "CALLBACK_PRIVATE_NETWORKS": "127.0.0.0/8",
            "BUCKET_PRIVATE_NETWORKS": "127.0.0.0/8",
            "WEB_WORKERS": str(_WEB_PROCESSES),
            "VAR_DIR": str(self.folder),
            **self._settings,
        }
        self.keep_versions(keys.s3.bucket)
        roles = ("grant_roles", "--web", WEB, "--worker", WORKER)
        self._manage_all(DATABASE, [("migrate", "--verbosity", "0"), roles])
        self._processes = self._exits.enter_context(Processes(stop_timeout=30))
        for name in (*self.programs, *self.steady):
            self.start(name)
        self.wait_for_web()
        self.wait_for_all()

    @staticmethod
    def _discard(server: Server) -> None:
        # At once: its data is not needed any more.
        with suppress(OSError, ValueError):
            kill_server(server)
        shutil.rmtree(server.runtime, ignore_errors=True)

    # --- Programs ----------------------------------------------------------------------------------------

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

    def missing(self) -> list[str]:
        """Return what does not run as it was started: programs, their processes, and clusters that do not beat."""
        found = running()
        try:
            beats = {pid for (pid,) in self.sql(_BEATS)}
        except psycopg.Error:
            return ["PostgreSQL does not answer"]
        said = {name: self._missing_of(name, found, beats) for name in (*self.programs, *self.steady)}
        return [f"{name} {what}" for name, what in said.items() if what]

    def _missing_of(self, name: str, found: Mapping[int, int], beats: set[int]) -> str:
        if not self.is_started(name) or self.pid(name) not in found:
            return "does not run"
        second = [pid for pid, parent in found.items() if parent == self.pid(name)]
        if name in self._binds:
            return "" if len(second) >= _WEB_PROCESSES else "lacks a process"
        if sum(parent in second for parent in found.values()) < _CLUSTER_PROCESSES:
            return "lacks a process"
        return "" if beats.intersection(second) else "has no fresh heartbeat"

    def wait_for_all(self) -> None:
        """Return when everything runs as it was started."""
        wait_until(lambda: not self.missing(), "all programs run", seconds=_PATIENCE)

    def kill(self, name: str) -> None:
        """Kill a program with all its processes."""
        del self._pids[name]
        self._processes.kill(name)

    def stop(self, name: str) -> int:
        """Ask a program to stop (SIGTERM), and return its exit code."""
        process = self._processes.running(name)
        process.terminate()
        try:
            return process.wait(_PATIENCE)
        finally:
            self.kill(name)

    def restart(self, name: str, **settings: str) -> None:
        """Kill a program and start it again, as a process manager does."""
        if self.is_started(name):
            self.kill(name)
        self.start(name, **settings)

    def wait_for_web(self) -> None:
        """Return when the web server answers."""
        wait_for_http(f"{self.address}/healthz", timeout=_PATIENCE)

    def pid(self, name: str) -> int:
        """Return the first process of a program."""
        return self._pids[name]

    def guard(self, cluster: str) -> int:
        """Return the process that watches a cluster. It may change at any time, like all below it."""
        return children_of(self.pid(cluster))[0]

    def process(self, cluster: str, kind: str) -> int:
        """Return a process of a cluster, by its kind: `guard`, or one of KINDS. Waits until there is one."""
        if kind == "guard":
            return self.guard(cluster)
        found: list[int] = []

        def look() -> bool:
            with suppress(IndexError):  # it is being replaced
                found[:] = self._of_kind(cluster, kind)
            return bool(found)

        wait_until(look, f"{cluster} has a {kind}")
        return found[0]

    def _of_kind(self, cluster: str, kind: str) -> list[int]:
        kinds = self.kinds(cluster)
        return [pid for pid in children_of(self.guard(cluster)) if kinds.get(pid) == kind]

    def kinds(self, cluster: str) -> dict[int, str]:
        """Return of which of KINDS each process is that a cluster ever had."""
        return {int(pid): _SAID[said] for said, pid in _READY.findall(self.log(cluster))}

    def freeze(self, pid: int, *, alone: bool = False) -> None:
        """Stop a process where it is (SIGSTOP), and all below it unless `alone`, until `resume`."""
        self.frozen.append(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        # Only then: it starts no others any more.
        for child in () if alone else children_of(pid):
            self.freeze(child)

    def resume(self) -> None:
        """Let all frozen processes go on."""
        while self.frozen:
            with suppress(ProcessLookupError):
                os.kill(self.frozen.pop(), signal.SIGCONT)

    # --- Servers -----------------------------------------------------------------------------------------

    @staticmethod
    def start_server(server: Server) -> None:
        """Start PostgreSQL (`database`) or the S3 server (`s3`), unless it runs."""
        server.begin(alone=True)
        server.wait()

    @contextmanager
    def s3_client(self) -> Iterator[Any]:
        """Connect to the S3 server itself, past the wire, as its administrator."""
        client = boto3.client(
            "s3",
            endpoint_url=self._environment["S3_PUBLIC_ENDPOINT_URL"],
            aws_access_key_id=self.s3.s3.access_key_id,
            aws_secret_access_key=self.s3.s3.secret_access_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )
        try:
            yield client
        finally:
            client.close()

    def keep_versions(self, bucket: str) -> None:
        """Have a bucket keep every version of every object."""
        with self.s3_client() as client:
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def objects(self, bucket: str = "") -> Objects:
        """Return all that a bucket holds, the hosted one by default."""
        with self.s3_client() as client:
            return objects_in(bucket or self.s3.s3.bucket, client)

    # --- Operators ---------------------------------------------------------------------------------------

    def environment(self, role: str) -> dict[str, str]:
        """Return the environment of a process with this role in the database."""
        host = quote(str(self.database.runtime), safe="")
        where = f"127.0.0.1:{self.database_wire.port}" if self.database_wire else f"{host}:{PORT}"
        return {**self._environment, "DATABASE_URL": f"postgresql://{role}@{where}/{DATABASE}"}

    def manage(self, command: str, *words: str, ends: tuple[int, ...] = (0,), stdin: str = "") -> Said:
        """Run a command as an operator does, with its role. Raises RuntimeError if its exit code is not in `ends`."""
        role = {"web": WEB, "worker": WORKER, "owner": DATABASE}.get(role_of(command), WEB)
        argv = [sys.executable, "manage.py", command, *words]
        done = subprocess.run(
            argv, env=self.environment(role), cwd=ROOT, input=stdin, capture_output=True, text=True, check=False
        )
        if done.returncode not in ends:
            last = (done.stderr.strip() or done.stdout.strip())[-400:]
            raise RuntimeError(f"manage.py {command} ended with {done.returncode}: {last}")
        return Said(done.returncode, done.stdout, done.stderr, 0.0)

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
        said = self._manage_all(WEB, commands)
        secrets = [json.loads(said[place])["secret"] for place in range(len(said)) if place % 3]
        return [
            Client(self.address, slug, secret=secrets[2 * place], token=secrets[2 * place + 1], timeout=timeout)
            for place, slug in enumerate(slugs)
        ]

    def _manage_all(self, role: str, commands: Sequence[Sequence[str]]) -> list[str]:
        """Run commands in one process, since its start takes longer than most, and return what each has printed."""
        environment = self.environment(role) | {"DJANGO_SETTINGS_MODULE": "config.settings"}
        argv = [sys.executable, "-c", _COMMANDS]
        given = json.dumps(commands)
        done = subprocess.run(
            argv, env=environment, cwd=ROOT, input=given, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{commands[0][0]} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
        printed: list[str] = json.loads(done.stdout)
        return printed

    def sql(self, statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """Run a statement as the owner of the database, past the wire, and return its rows."""
        return self.database.sql(statement, values)

    def health(self) -> set[str]:
        """Return the codes of the problems that `manage.py health` reports."""
        said = self.manage("health", "--json", ends=(0, 1))
        return {problem["code"] for problem in json.loads(said.out)["problems"]}

    def log(self, name: str) -> str:
        """Return what a program has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def logs(self) -> dict[str, str]:
        """Return what all programs and PostgreSQL have written, by name."""
        files = [*self.folder.glob("*.log"), self.database.log]
        return {path.name: path.read_text(errors="replace") for path in files if path.exists()}

    def dump(self) -> str:
        """Return the rows of all tables as text."""
        return self.database.run("pg_dump", "--data-only", DATABASE).decode(errors="replace")
