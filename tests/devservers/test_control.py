"""The embedded servers with several processes: shared, killed, restarted, side by side."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from botocore.config import Config

from devservers import control
from devservers.postgres import Postgres
from devservers.s3 import SeaweedFS

ROOT = Path(__file__).resolve().parents[2]
S3 = control.S3("embedded-test", "embedded-test-secret", "hosted")
USER = """
import os, sys
from pathlib import Path
from devservers.control import S3, Instance
instance = Instance(Path(sys.argv[1]), s3=S3(*sys.argv[2:5]))
instance.start()
if sys.argv[5:] == ["fork"]:
    if os.fork() == 0:
        raise SystemExit  # with the parent's exit handlers
    os.wait()
print("ready", flush=True)
sys.stdin.read()
"""


class Copy:
    """One development copy, and the processes that use it."""

    def __init__(self, var_dir: Path) -> None:
        self.var_dir = var_dir
        self.users: list[subprocess.Popen[str]] = []

    def begin(self, *words: str, s3: control.S3 = S3) -> subprocess.Popen[str]:
        identity = (s3.access_key_id, s3.secret_access_key, s3.bucket)
        user = subprocess.Popen(
            [sys.executable, "-c", USER, str(self.var_dir), *identity, *words],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.users.append(user)
        return user

    def use(self, *words: str, s3: control.S3 = S3) -> subprocess.Popen[str]:
        user = self.begin(*words, s3=s3)
        assert user.stdout
        assert user.stdout.readline() == "ready\n", user.communicate()[1]
        return user

    def sql(self, *statements: str) -> Any:
        entry = control.database(self.var_dir)
        with psycopg.connect(
            host=entry["HOST"], port=entry["PORT"], user=entry["USER"], dbname=entry["NAME"]
        ) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
            return row and row[0]

    def s3(self) -> Any:
        client = boto3.client(
            "s3",
            endpoint_url=control.s3_endpoint(self.var_dir),
            aws_access_key_id=S3.access_key_id,
            aws_secret_access_key=S3.secret_access_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )
        return closing(client)

    def pids(self) -> list[int]:
        return [int((self.var_dir / name / "server.pid").read_text()) for name in ("postgres", "s3")]

    def alive(self) -> list[bool]:
        runtime = Path(control.database(self.var_dir)["HOST"])
        port = int(control.s3_endpoint(self.var_dir).rpartition(":")[2])
        postgres = Postgres(self.var_dir / "postgres", runtime)
        return [postgres.alive(), SeaweedFS(self.var_dir / "s3", runtime, S3, port).alive()]

    def end(self) -> None:
        for user in self.users:
            if user.poll() is None:
                user.kill()
            user.communicate()
        if any(self.alive()):
            leave(self.use())  # servers left running are joined, and stopped by the last process


def leave(user: subprocess.Popen[str]) -> None:
    _, errors = user.communicate(timeout=120)
    assert (user.returncode, errors) == (0, "")


@pytest.fixture
def make_copy(tmp_path: Path) -> Iterator[Callable[[str], Copy]]:
    copies: list[Copy] = []

    def make(name: str) -> Copy:
        copies.append(Copy(tmp_path / name))
        return copies[-1]

    yield make
    for copy in copies:
        copy.end()


@pytest.mark.long(reason="starts database and storage several times")
def test_two_processes_share_the_servers_and_the_last_one_stops_them(make_copy) -> None:
    copy, beside = make_copy("a"), make_copy("b")
    first, second = copy.begin("fork"), copy.begin()  # at the same moment, from nothing
    for user in (first, second):
        assert user.stdout
        assert user.stdout.readline() == "ready\n", user.communicate()[1]
    other = beside.use()

    assert copy.alive() == beside.alive() == [True, True]
    assert not set(copy.pids()) & set(beside.pids())
    assert copy.sql("SELECT count(*) FROM pg_extension WHERE extname <> 'plpgsql'") == 0
    assert copy.sql("SHOW server_encoding") == "UTF8"
    with copy.s3() as client:
        assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["hosted", SeaweedFS.probed_bucket]
        client.create_bucket(Bucket="versioned")
        client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
        for bucket in ("hosted", "versioned"):
            client.put_object(Bucket=bucket, Key="k", Body=b"1")
            client.put_object(Bucket=bucket, Key="k", Body=b"2")
        assert len(client.list_object_versions(Bucket="versioned")["Versions"]) == 2
        assert len(client.list_object_versions(Bucket="hosted")["Versions"]) == 1

    leave(first)
    assert copy.alive() == [True, True]
    assert copy.sql("SELECT 1") == 1
    leave(second)
    assert copy.alive() == [False, False]
    assert beside.alive() == [True, True]
    leave(other)
    assert beside.alive() == [False, False]


@pytest.mark.long(reason="starts database and storage several times")
def test_it_starts_again_with_its_data_after_everything_was_killed(make_copy: Callable[[str], Copy]) -> None:
    copy = make_copy("a")
    user = copy.use()
    copy.sql("CREATE TABLE note (text text)", "INSERT INTO note VALUES ('kept')")
    with copy.s3() as client:
        client.put_object(Bucket="hosted", Key="note", Body=b"kept")
    pids = copy.pids()

    user.kill()  # the servers stay, and are joined
    user = copy.use()
    assert copy.pids() == pids

    user.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    # A stale pid file that names a living process of ours must not stop PostgreSQL from starting.
    stale = copy.var_dir / "postgres" / "data" / "postmaster.pid"
    stale.write_text(stale.read_text().replace(str(pids[0]), str(os.getpid()), 1))
    user = copy.use()
    assert not set(copy.pids()) & set(pids)
    assert copy.sql("SELECT text FROM note") == "kept"
    with copy.s3() as client:
        assert client.get_object(Bucket="hosted", Key="note")["Body"].read() == b"kept"

    # Other settings are refused while the server is in use, and restart it otherwise.
    other = control.S3("another", "another-secret", "hosted")
    _, errors = copy.begin(s3=other).communicate()
    assert "with other settings and is in use" in errors
    user.kill()
    user.wait()
    leave(copy.use(s3=other))


@pytest.mark.long(reason="starts database and storage")
def test_servers_end_when_their_folder_is_removed_under_them(make_copy: Callable[[str], Copy]) -> None:
    copy = make_copy("a")
    user = copy.use()
    runtime = Path(control.database(copy.var_dir)["HOST"])
    pids = copy.pids()
    shutil.rmtree(copy.var_dir)
    leave(user)
    assert not runtime.exists()
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)


@pytest.mark.long(reason="starts an S3 server")
def test_ports_taken_by_a_stranger_are_given_up(make_copy: Callable[[str], Copy]) -> None:
    copy = make_copy("a")
    before = control.s3_endpoint(copy.var_dir)
    assert control.s3_endpoint(copy.var_dir) == before
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", int(before.rpartition(":")[2])))
        stranger.listen()
        _, errors = copy.begin().communicate()
        assert "It moves to others: start again." in errors
        # While the stranger still has them; freed ports may be chosen again.
        assert control.s3_endpoint(copy.var_dir) != before


def test_processes_that_choose_ports_together_agree(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def choose(_: int) -> str:
        barrier.wait()
        return control.s3_endpoint(tmp_path / "var")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(choose, range(8)))) == 1


def test_the_database_url_is_returned_without_starting_anything(tmp_path: Path) -> None:
    entry = control.database(tmp_path / ("long" * 40) / "var")
    assert entry == control.database(tmp_path / ("long" * 40) / "var")
    assert entry["NAME"] == "compliance"
    assert len(entry["HOST"]) < 90
    assert not Path(entry["HOST"]).exists()
    assert not list(tmp_path.iterdir())


def test_a_socket_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    folder = Path(control.database(tmp_path)["HOST"])
    folder.mkdir()
    folder.chmod(0o755)
    try:
        with pytest.raises(control.EmbeddedError, match="only you can enter"):
            control.Instance(tmp_path).start()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    finally:
        folder.rmdir()


@pytest.mark.long(reason="starts an S3 server")
def test_the_s3_server_waits_for_one_that_lets_go_of_its_ports(tmp_path: Path) -> None:
    first_port = control.free_ports()
    with socket.create_server(("127.0.0.1", first_port + 10_004)) as listener:
        server = SeaweedFS(tmp_path / "s3", tmp_path, S3, first_port)
        threading.Timer(0.5, listener.close).start()
        server.begin(alone=True)
    try:
        server.wait()
    finally:
        server.stop()


@pytest.mark.long(reason="starts S3 servers on a taken port")
def test_a_port_that_is_taken_while_the_s3_server_starts_is_noticed_soon(tmp_path, monkeypatch) -> None:
    """Without that port the server keeps running without working."""
    monkeypatch.setattr("devservers.processes.START_SECONDS", 20)
    first_port = control.free_ports()
    with socket.create_server(("127.0.0.1", first_port + 10_004)):
        server = SeaweedFS(tmp_path / "s3", tmp_path, S3, first_port)
        server.ports_seconds = 0
        with monkeypatch.context() as patch:
            patch.setattr("devservers.s3.is_free", lambda port: True)
            server.begin(alone=True)
        with pytest.raises(control.EmbeddedError, match="took ports"):
            server.wait()
        assert not server.alive()
