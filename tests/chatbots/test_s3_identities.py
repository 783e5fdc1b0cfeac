"""What a client's credentials can access, on a real S3 server with several identities."""

from collections.abc import Iterator

import pytest

from common.storage import ObjectStorage, StorageError
from tests.s3_server import Identity, S3Server, running

ACME = Identity("acme", ["Read:clients/acme/*", "Write:clients/acme/*", "List:clients/acme/*"])


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running(ACME) as server:
        yield server


@pytest.fixture
def clients(server: S3Server) -> Iterator[ObjectStorage]:
    """The bucket as an administrator sees it, with objects of acme and of another chatbot."""
    storage = server.storage()
    for key in ("acme/export.csv", "neighbour/export.csv"):
        storage.put(key, b"text", "text/csv")
    yield storage
    for key in set(storage.keys()):
        storage.purge(key)


def code_of(caught: pytest.ExceptionInfo[StorageError]) -> tuple[str, bool]:
    return caught.value.code, caught.value.retryable


def test_an_identity_can_access_its_own_prefix(server: S3Server, clients: ObjectStorage) -> None:
    acme = server.storage(ACME)

    assert acme.read("acme/export.csv") == b"text"
    assert list(acme.keys("acme/")) == ["acme/export.csv"]
    assert acme.purge("acme/export.csv") == 1


@pytest.mark.parametrize("prefix", ["neighbour/", ""])
def test_an_identity_cannot_access_other_prefixes(server: S3Server, clients: ObjectStorage, prefix: str) -> None:
    acme = server.storage(ACME)

    with pytest.raises(StorageError) as read:
        acme.read(f"{prefix}export.csv")
    with pytest.raises(StorageError) as listed:
        list(acme.keys(prefix))
    with pytest.raises(StorageError) as written:
        acme.put(f"{prefix}new.csv", b"x", "text/csv")
    with pytest.raises(StorageError) as purged:
        acme.purge("neighbour/export.csv")

    assert [code_of(caught) for caught in (read, listed, written, purged)] == [("storage_access_denied", False)] * 4
    assert set(clients.keys()) == {"acme/export.csv", "neighbour/export.csv"}


def test_access_ends_when_the_key_is_revoked(server: S3Server, clients: ObjectStorage) -> None:
    acme = server.storage(ACME)
    assert acme.exists("acme/export.csv")
    server.set_identities()
    try:
        with pytest.raises(StorageError) as caught:
            acme.read("acme/export.csv")
    finally:
        server.set_identities(ACME)
    assert code_of(caught) == ("storage_access_denied", False)
    assert acme.exists("acme/export.csv")


def test_a_missing_right_to_delete_versions_is_named(server: S3Server, clients: ObjectStorage) -> None:
    server.make_bucket("versioned", versioned=True)
    identity = Identity("versioned", ["Read:versioned", "Write:versioned", "List:versioned"])
    server.set_identities(ACME, identity)
    storage = server.storage(identity, bucket="versioned")
    storage.put("acme/export.csv", b"text", "text/csv")
    server.refuse(identity, "s3:DeleteObjectVersion", bucket="versioned")
    with pytest.raises(StorageError) as caught:
        storage.purge("acme/export.csv")
    server.refuse(identity, bucket="versioned")

    assert code_of(caught) == ("storage_access_denied", False)
    assert "s3:DeleteObjectVersion" in caught.value.detail
    assert storage.purge("acme/export.csv") == 1


def test_the_server_responds_again_after_it_was_paused_and_killed(server: S3Server, clients: ObjectStorage) -> None:
    server.pause()
    server.resume()
    assert clients.exists("acme/export.csv")
    server.stop()
    server.start()
    assert clients.read("acme/export.csv") == b"text"
