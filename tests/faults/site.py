"""A site: the whole service with servers of its own, whose parts can be killed, stopped and started again.

PostgreSQL (whose files can lie on a small disk), an S3 server behind a wire, a web server with two processes, and two
clusters of two workers, each with a role of its own in the database. It depends on no settings and no environment.
A further web server and cluster are optional. No fault affects them, so they run the whole time.
"""

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import psycopg

from devservers.postgres import DATABASE, PORT
from devservers.processes import Server
from devservers.s3 import SeaweedFS
from scripts.processes import children_of
from tests.faults.disk import SmallDisk
from tests.faults.processes import kill_server, running
from tests.faults.wire import Wire
from tests.operated import GRANT, PATIENCE, Database, Operated, new_keys, wait_until

# The programs that no fault affects.
_STEADY_WEB, _STEADY_CLUSTER = "steady-web", "steady-cluster"
# Parts of a process that kills its children when it dies; a reader of /proc may see them half-way.
KINDS = ("worker", "monitor", "pusher")
_SAID = {"ready for work": "worker", "monitoring": "monitor", "pushing tasks": "pusher"}
_READY = re.compile(rf" ({'|'.join(_SAID)}) at (\d+)\n")
# Below the first process of a web server, and below the guard of a cluster: two workers and one of each other kind.
_WEB_PROCESSES, _CLUSTER_PROCESSES = 2, 4
# The age of a guard's heartbeat, which is written every 5 seconds.
_BEATS = """
SELECT pid FROM compliance_heartbeat
 WHERE stopped_at IS NULL AND died_at IS NULL AND seen_at > clock_timestamp() - interval '12 seconds'
"""


class Site(Operated):
    """A context in which a service of its own runs below `folder`, which is emptied at the start.

    With `disk_bytes` PostgreSQL's files lie on a disk of that size, if one can be mounted. All but this object reach
    PostgreSQL and the S3 server through wires. With `steady` there are two more programs, which are not among
    `programs` or `clusters`, so that they live through whatever is done to those. A `copy_of` another has its bucket
    and its keys, and a database that runs; none of its programs is started.
    """

    s3: SeaweedFS
    s3_wire: Wire

    def __init__(
        self,
        folder: Path,
        *,
        clusters: int = 2,
        disk_bytes: int = 0,
        steady: bool = False,
        copy_of: "tuple[Site, Database] | None" = None,
    ) -> None:
        super().__init__(folder, "web", _STEADY_WEB)
        self.clusters = [f"cluster-{number + 1}" for number in range(clusters)]
        self.programs = ["web", *self.clusters]
        self.steady = [_STEADY_WEB, _STEADY_CLUSTER] if steady else []
        self.frozen: list[int] = []
        self.skewed: set[str] = set()  # programs with a wrong clock
        self.disk: SmallDisk | None = None
        self.steady_address = f"http://{self._binds[_STEADY_WEB]}"
        self._disk_bytes = disk_bytes
        self._copy_of = copy_of
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self._exits.close()

    def _begin(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._copy_of:
            original, self.database = self._copy_of
            self.keys, self.s3, self.s3_wire = original.keys, original.s3, original.s3_wire
        else:
            self._start_servers()
        self.database_wire = self._exits.enter_context(Wire(self._socket))
        self._environment = {
            **self.keys.environment,
            "S3_ENDPOINT_URL": self.s3_wire.address,
            # Links lead to the server itself: what a client downloads does not pass the wire.
            "S3_PUBLIC_ENDPOINT_URL": self.keys.environment["S3_ENDPOINT_URL"],
            "CALLBACK_PRIVATE_NETWORKS": "127.0.0.0/8",
            "BUCKET_PRIVATE_NETWORKS": "127.0.0.0/8",
            "WEB_WORKERS": str(_WEB_PROCESSES),
            "VAR_DIR": str(self.folder),
        }
        self._exits.enter_context(self._processes)
        if not self._copy_of:
            self.manage_all(DATABASE, [("migrate", "--verbosity", "0"), GRANT])
            for name in (*self.programs, *self.steady):
                self.start(name)
            self.wait_for_web()
            self.wait_for_all()

    def _start_servers(self) -> None:
        if self._disk_bytes:
            with suppress(OSError):  # it must not be mounted here
                self.disk = self._exits.enter_context(SmallDisk(self.folder / "postgres", self._disk_bytes))
        self.database = Database(self.folder, "postgres")
        self._exits.callback(self._discard, self.database)
        self.database.start()
        self.database.create_roles()
        self.keys = new_keys(self.folder)
        runtime = Path(tempfile.mkdtemp(prefix="dca-site-"))
        self.s3 = SeaweedFS(self.folder / "s3", runtime, self.keys.s3, self.keys.s3_port)
        self._exits.callback(self._discard, self.s3)
        self.start_server(self.s3)
        self.s3_wire = self._exits.enter_context(Wire(("127.0.0.1", self.keys.s3_port)))
        self.keep_versions(self.keys.s3.bucket)

    @property
    def _socket(self) -> Path:
        return self.database.runtime / f".s.PGSQL.{PORT}"

    def turn_to(self, database: Database) -> None:
        """Let the programs connect to another server from now on, as a change in DNS would."""
        self.database = database
        self.database_wire.target = self._socket

    def start_web(self) -> None:
        self.start("web")
        self.wait_for_web()

    @staticmethod
    def _discard(server: Server) -> None:
        # At once: its data is not needed any more.
        with suppress(OSError, ValueError):
            kill_server(server)
        shutil.rmtree(server.runtime, ignore_errors=True)

    # --- Programs ----------------------------------------------------------------------------------------

    def missing(self) -> list[str]:
        """Return what is missing: programs, their processes, and heartbeats of clusters."""
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
        wait_until(lambda: not self.missing(), "all programs run", seconds=PATIENCE)

    def wait_for_journal(self) -> None:
        """Wait until workers have written accepted and withdrawn requests to the ledger."""
        waiting = "SELECT count(*) FROM compliance_journalentry"
        wait_until(lambda: self.sql(waiting) == [(0,)], "the journal is written")

    def restart(self, name: str, **settings: str) -> None:
        """Kill a program and start it again, as a process manager does."""
        if self.is_started(name):
            self.kill(name)
        self.start(name, **settings)

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
                kinds = self.kinds(cluster)
                found[:] = [pid for pid in children_of(self.guard(cluster)) if kinds.get(pid) == kind]
            return bool(found)

        wait_until(look, f"{cluster} has a {kind}")
        return found[0]

    def kinds(self, cluster: str) -> dict[int, str]:
        """Return the kind, one of KINDS, of each process that a cluster ever had."""
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
        while self.frozen:
            with suppress(ProcessLookupError):
                os.kill(self.frozen.pop(), signal.SIGCONT)

    # --- Servers -----------------------------------------------------------------------------------------

    @staticmethod
    def start_server(server: Server) -> None:
        """Start PostgreSQL (`database`) or the S3 server (`s3`), unless it runs."""
        server.begin(alone=True)
        server.wait()

    def keep_versions(self, bucket: str) -> None:
        with self.keys.client() as client:
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def environment(self, role: str) -> dict[str, str]:
        url = f"postgresql://{role}@127.0.0.1:{self.database_wire.port}/{DATABASE}"
        return {**self._environment, "DATABASE_URL": url}
