"""Access to the embedded servers: only by S3 with the copy's keys, and by no other port."""

import http.client
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest
from django.conf import settings
from pytest_django import Settings

from chatbots.buckets.locations import storage_read_with
from common.storage import ObjectStorage, StorageError
from common.storage.iam import IamUsers
from devservers.control import iam_key
from tests.s3_server import S3Server, running

STRANGER = {"Origin": "https://stranger.example", "Content-Type": "text/plain"}
# What open ports of SeaweedFS serve: lists, objects, places to write to, the removal of a bucket.
PATHS = (
    *("/buckets/", "/buckets/clients/", "/buckets/clients/acme/kept", "/buckets/clients/planted", "/clients"),
    *("/clients/acme/kept", "/clients/planted", "/dir/assign", "/dir/lookup?volumeId=1", "/dir/status", "/submit"),
    *("/col/delete?collection=clients", "/vol/grow?count=1", "/vol/vacuum", "/1,01637037d6"),
    *("/.tus/planted", "/api/files", "/debug/pprof/goroutine?debug=1"),
)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running() as one:
        one.storage().put("acme/kept", b"kept", "text/plain")
        yield one


def listening(pid: int) -> list[tuple[str, int]]:
    """Return address and port of each TCP socket on which a process listens."""
    inodes = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes |= set(re.findall(r"socket:\[(\d+)\]", str(file.readlink())))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                address, port = words[1].split(":")
                found.append(
                    (socket.inet_ntoa(bytes.fromhex(address)[::-1]) if table == "tcp" else "::", int(port, 16))
                )
    return found


def ask(port: int, method: str, path: str) -> int:
    """Return the status of a call without credentials, 0 where no HTTP is spoken."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, b"planted" if method in {"PUT", "POST"} else None, STRANGER)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def pid_of(server: S3Server) -> int:
    return int((server.home / "server.pid").read_text())


def test_no_port_serves_unauthenticated_calls(server):
    ports = {port + more for port in server.ports.values() for more in (0, 10_000)}
    until = time.monotonic() + 30
    # One of them opens later than S3 is ready.
    while len(sockets := listening(pid_of(server))) < len(ports) and time.monotonic() < until:
        time.sleep(0.05)
    assert {address for address, _ in sockets} == {"127.0.0.1"}
    assert {port for _, port in sockets} == ports

    let_in = [
        (port, method, path)
        for (_, port), method, path in product(sockets, ("GET", "PUT", "POST", "DELETE"), PATHS)
        if 200 <= ask(port, method, path) < 400
    ]

    assert let_in == []
    storage = server.storage()
    assert storage.read("acme/kept") == b"kept"
    assert not storage.exists("planted")


def test_inner_calls_require_a_certificate(server):
    stranger = ssl.create_default_context(cafile=str(server.home / "security" / "cert.pem"))
    for port in server.ports.values():
        with socket.create_connection(("127.0.0.1", port + 10_000), timeout=5) as plain:
            plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            with suppress(ConnectionResetError):
                assert plain.recv(100)[3:4] != b"\x04"  # settings, as a server of HTTP/2 begins

        with (
            socket.create_connection(("127.0.0.1", port + 10_000), timeout=5) as plain,
            pytest.raises((ssl.SSLError, ConnectionError), match=r"certificate required|reset"),
            stranger.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
        ):
            wrapped.recv(1)


def test_its_keys_are_for_its_owner_alone_and_for_one_launch(server):
    security = server.home / "security"
    assert {path.stat().st_mode & 0o777 for path in [server.home / "s3.json", *security.iterdir()]} == {0o600}
    before = {path.read_text() for path in security.iterdir()}
    server.stop()
    server.start()
    assert len(before) == 3
    assert not before & {path.read_text() for path in security.iterdir()}
    assert server.storage().read("acme/kept") == b"kept"


@pytest.mark.skipif(not settings.EMBEDDED_POSTGRES, reason="The database is not embedded here.")
def test_the_database_has_no_port_and_its_socket_is_its_owner_s_alone():
    home = settings.VAR_DIR / "postgres"
    assert listening(int((home / "data" / "postmaster.pid").read_text().split()[0])) == []
    folder = Path(settings.DATABASES["default"]["HOST"])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in folder.glob(".s.PGSQL.*")} <= {0}


def test_the_iam_server_creates_and_removes_users(storage: ObjectStorage, settings: Settings) -> None:
    storage.put("acme/export.csv", b"text", "text/csv")
    settings.IAM_ACCESS_KEY_ID, settings.IAM_SECRET_ACCESS_KEY = iam_key(settings.S3_SECRET_ACCESS_KEY)
    settings.IAM_ENDPOINT_URL, settings.IAM_REGION = settings.S3_ENDPOINT_URL, "us-east-1"
    settings.IAM_BOUNDARY_ARN = ""
    users = IamUsers()
    name = f"dca-of-a-test-{settings.S3_BUCKET}"
    own = f"arn:aws:s3:::{settings.S3_BUCKET}/acme/*"
    users.create(name)
    try:
        statement = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": own}
        users.grant(name, {"Version": "2012-10-17", "Statement": [statement]})
        key = users.create_key(name)
        theirs = storage_read_with(access_key_id=key.id, secret=key.secret)
        assert theirs.read("acme/export.csv") == b"text"
    finally:
        users.remove(name)
    with pytest.raises(StorageError):
        theirs.read("acme/export.csv")


def test_the_identity_for_users_has_no_right_in_the_bucket(storage: ObjectStorage) -> None:
    storage.put("acme/export.csv", b"text", "text/csv")
    key_id, secret = iam_key(settings.S3_SECRET_ACCESS_KEY)
    manager = storage_read_with(access_key_id=key_id, secret=secret)
    for call in (
        lambda: manager.read("acme/export.csv"),
        lambda: list(manager.keys()),
        lambda: manager.put("acme/new.csv", b"text", "text/csv"),
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert caught.value.code == "storage_access_denied"
