"""Object storage against a real S3 server; botocore's Stubber only for responses that server cannot give."""

import hashlib
import http.client
import os
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.stub import ANY, Stubber
from pytest_django import Settings

from chatbots.buckets import hosted_storage
from chatbots.buckets.locations import forget_storages
from common.storage import PART_BYTES, ObjectStorage, StorageError, Version, Written
from tests.clients import empty, storage_at
from tests.patches import failing

KEY = "acme/chatter_data_exports/erin%40example.org/file.csv"
MIB = 1024 * 1024


def s3(storage: ObjectStorage) -> Any:
    return storage.client


def open_uploads(storage: ObjectStorage) -> list[str]:
    return [
        upload["Key"] for upload in s3(storage).list_multipart_uploads(Bucket=storage.bucket_name).get("Uploads", [])
    ]


def write(storage: ObjectStorage, data: bytes, key: str = KEY) -> Written:
    return storage.write_parts(key, storage.open_upload(key, content_type="text/csv"), iter([data]))


@pytest.fixture
def versioned(storage: ObjectStorage, settings: Settings) -> Iterator[ObjectStorage]:
    """A bucket that keeps every version, empty at the start of the test and emptied after it."""
    settings.S3_BUCKET = f"{settings.S3_BUCKET}-versioned"
    bucket = hosted_storage()
    bucket.create_bucket_if_missing()
    s3(bucket).put_bucket_versioning(Bucket=bucket.bucket_name, VersioningConfiguration={"Status": "Enabled"})
    empty(bucket)
    yield bucket
    empty(bucket)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore retry at once."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))


# --- Writing -------------------------------------------------------------------------------------------


@pytest.mark.long(reason="20 MiB", beyond=5)
@pytest.mark.parametrize(
    "sizes",
    [[], [0], [1], [8 * MIB], [8 * MIB - 1, 2], [3 * MIB] * 7, [20 * MIB]],
    ids=["nothing", "empty", "byte", "part", "over-a-part", "small-chunks", "large-chunk"],
)
def test_a_write_publishes_the_bytes_and_returns_their_digest(storage: ObjectStorage, sizes: list[int]) -> None:
    chunks = [os.urandom(size) for size in sizes]
    written = storage.write_parts(KEY, storage.open_upload(KEY, content_type="text/csv"), iter(chunks))
    whole = b"".join(chunks)
    assert storage.read(KEY) == whole
    assert written == Written(bytes=len(whole), sha256=hashlib.sha256(whole).hexdigest())
    assert open_uploads(storage) == []


def test_it_shows_nothing_before_the_upload_completes(storage: ObjectStorage) -> None:
    upload_id = storage.open_upload(KEY, content_type="text/csv")
    seen: list[bool] = []
    storage.write_parts(KEY, upload_id, [b"text"], before_complete=lambda: seen.append(storage.exists(KEY)))
    assert seen == [False]
    assert storage.exists(KEY)


def test_a_lease_can_be_renewed_between_two_parts_also_before_the_last(storage: ObjectStorage) -> None:
    renewed: list[bool] = []
    upload_id = storage.open_upload(KEY, content_type="text/csv")
    chunks = iter([b"x" * PART_BYTES, b"last"])
    storage.write_parts(KEY, upload_id, chunks, meanwhile=lambda: renewed.append(True))
    assert renewed == [True]


@pytest.mark.parametrize(("error", "sent"), [(KeyboardInterrupt, 1), (GeneratorExit, 1), (RuntimeError, 17 * MIB)])
def test_it_leaves_neither_object_nor_upload_when_the_producer_fails(storage, error, sent) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x" * sent
        raise error

    with pytest.raises(error):
        storage.write_parts(KEY, storage.open_upload(KEY, content_type="text/csv"), chunks())
    assert list(storage.keys()) == open_uploads(storage) == []


def test_it_leaves_nothing_when_the_last_check_before_publishing_fails(storage: ObjectStorage) -> None:
    with pytest.raises(RuntimeError):
        storage.write_parts(
            KEY, storage.open_upload(KEY, content_type="text/csv"), [b"x"], before_complete=failing(RuntimeError)
        )
    assert list(storage.keys()) == open_uploads(storage) == []


def test_an_aborted_upload_cannot_be_published(storage: ObjectStorage) -> None:
    upload_id = storage.open_upload(KEY, content_type="text/csv")
    with pytest.raises(StorageError) as caught:
        storage.write_parts(KEY, upload_id, [b"x"], before_complete=lambda: storage.abort(KEY, upload_id))
    assert (caught.value.code, caught.value.retryable) == ("storage_incomplete", True)
    for gone in (upload_id, "never-opened"):
        storage.abort(KEY, gone)
    assert list(storage.keys()) == open_uploads(storage) == []


def test_it_keeps_the_first_error_when_the_abort_fails_too(storage, monkeypatch, caplog) -> None:
    upload_id = storage.open_upload(KEY, content_type="text/csv")
    with monkeypatch.context() as patch:
        patch.setattr(storage, "abort", failing())
        with pytest.raises(RuntimeError):
            storage.write_parts(KEY, upload_id, [b"x"], before_complete=failing(RuntimeError))
    storage.purge(KEY)
    assert "storage_unavailable" in caplog.text
    assert KEY not in caplog.text


def test_it_refuses_a_key_that_some_storage_would_change(storage: ObjectStorage) -> None:
    for key in ("", "/a", "a//b", "a/./b", "a/../b", "..", "a/", "é" * 513):
        with pytest.raises(ValueError, match="segment"):
            storage.open_upload(key, content_type="text/csv")
        with pytest.raises(ValueError, match="segment"):
            storage.put(key, b"x", "text/plain")


@pytest.mark.parametrize("way", ["put", "multipart"])
def test_it_asks_s3_to_encrypt_and_reads_it_back(storage: ObjectStorage, settings: Settings, way: str) -> None:
    encrypting = storage_at(
        str(settings.S3_ENDPOINT_URL),
        bucket_name=storage.bucket_name,
        access_key=settings.S3_ACCESS_KEY_ID,
        secret_key=settings.S3_SECRET_ACCESS_KEY,
        sse="AES256",
    )
    if way == "put":
        encrypting.put(KEY, b"text", "text/plain")
    else:
        write(encrypting, b"text")
    head = storage.client.head_object(Bucket=storage.bucket_name, Key=KEY)
    assert head["ServerSideEncryption"] == "AES256"
    assert storage.read(KEY) == b"text"


# --- Removing ------------------------------------------------------------------------------------------


def test_it_purges_exactly_one_key(storage: ObjectStorage) -> None:
    neighbours = {f"{KEY}2", KEY[:-1], "acme/other"}
    for key in (KEY, *neighbours):
        storage.put(key, b"x", "text/plain")
    for key in (KEY, KEY, f"{KEY}2"):
        storage.open_upload(key, content_type="text/csv")
    assert (storage.purge(KEY), storage.purge(KEY)) == (1, 0)
    assert set(storage.keys()) == neighbours
    assert open_uploads(storage) == [f"{KEY}2"]
    storage.purge(f"{KEY}2")


def test_it_purges_exactly_one_folder(storage: ObjectStorage) -> None:
    beside = {"acme/1.csv", "acme/12/a", "acme/1_2/a"}
    for key in (*beside, "acme/1/a", "acme/1/b/c"):
        storage.put(key, b"x", "text/plain")
    for folder in ("acme/1/", "acme/12/"):
        storage.open_upload(f"{folder}open", content_type="text/csv")
    for _ in range(2):
        storage.purge_folder("acme/1/")
        assert set(storage.keys()) == beside
        assert open_uploads(storage) == ["acme/12/open"]
    for folder in ("", "/", "acme/1"):
        with pytest.raises(ValueError, match="Not a folder"):
            storage.purge_folder(folder)
    storage.purge_folder("acme/12/")
    assert set(storage.keys()) == beside - {"acme/12/a"}
    assert open_uploads(storage) == []


def test_it_purges_every_version_and_delete_marker(versioned, monkeypatch) -> None:
    monkeypatch.setattr("common.storage.removal.MAX_KEYS_PER_DELETE", 2)
    for text in (b"one", b"two", b"three"):
        write(versioned, text)
    s3(versioned).delete_object(Bucket=versioned.bucket_name, Key=KEY)
    versioned.put(f"{KEY}2", b"x", "text/plain")
    assert not versioned.exists(KEY)
    assert len([version for version in versioned.versions(KEY) if version.key == KEY]) == 4
    versioned.purge(KEY)
    assert {version.key for version in versioned.versions()} == {f"{KEY}2"}


def test_it_names_a_lock_when_one_protects_the_object(storage: ObjectStorage, settings: Settings) -> None:
    settings.S3_BUCKET = f"{settings.S3_BUCKET}-locked"
    locked = hosted_storage()
    if settings.S3_BUCKET not in [bucket["Name"] for bucket in s3(locked).list_buckets()["Buckets"]]:
        s3(locked).create_bucket(Bucket=settings.S3_BUCKET, ObjectLockEnabledForBucket=True)
    locked.put(KEY, b"x", "text/plain")
    hold = {"Bucket": settings.S3_BUCKET, "Key": KEY}
    s3(locked).put_object_legal_hold(**hold, LegalHold={"Status": "ON"})
    try:
        with pytest.raises(StorageError) as caught:
            locked.purge(KEY)
    finally:
        s3(locked).put_object_legal_hold(**hold, LegalHold={"Status": "OFF"})
        locked.purge(KEY)
    assert (caught.value.code, caught.value.retryable) == ("storage_locked", False)


VERSIONS = {"Versions": [{"Key": KEY, "VersionId": "v1"}, {"Key": KEY, "VersionId": "v2"}]}


def refused_purge(storage: ObjectStorage, *errors: dict[str, str], again: bool = False) -> StorageError:
    """Purge while the bulk delete answers with these errors for single versions."""
    with Stubber(s3(storage)) as stub:
        stub.add_response("list_multipart_uploads", {})
        stub.add_response("list_object_versions", VERSIONS)
        stub.add_response("delete_objects", {"Errors": [{"Key": KEY, **error} for error in errors]})
        for error in errors:
            if error["Code"] == "AccessDenied":
                stub.add_client_error("head_object", "403", http_status_code=403, expected_params=ANY_VERSION)
        if again:
            stub.add_response("list_multipart_uploads", {})
            stub.add_response("list_object_versions", VERSIONS)
        with pytest.raises(StorageError) as caught:
            storage.purge(KEY)
        stub.assert_no_pending_responses()
    return caught.value


ANY_VERSION = {"Bucket": ANY, "Key": KEY, "VersionId": ANY}


def test_a_missing_right_to_delete_a_version_is_explained(storage: ObjectStorage) -> None:
    error = refused_purge(
        storage,
        {"VersionId": "v1", "Code": "InternalError", "Message": "We encountered an internal error."},
        {"VersionId": "v2", "Code": "AccessDenied", "Message": f"no {KEY}"},
    )
    assert (error.code, error.retryable) == ("storage_access_denied", False)
    assert "s3:DeleteObjectVersion" in error.detail


def test_it_can_try_again_when_a_bulk_delete_half_fails(storage: ObjectStorage) -> None:
    error = refused_purge(storage, {"VersionId": "v1", "Code": "SlowDown", "Message": KEY})
    assert (error.code, error.retryable) == ("storage_unavailable", True)


def test_a_removal_is_verified(storage: ObjectStorage) -> None:
    error = refused_purge(storage, {"VersionId": "v1", "Code": "NoSuchVersion"}, again=True)
    assert (error.code, error.retryable) == ("storage_incomplete", True)


# --- Errors --------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[ObjectStorage], object]] = {
    "open_upload": lambda storage: storage.open_upload(KEY, content_type="text/csv"),
    "write_parts": lambda storage: storage.write_parts(KEY, "upload", [b"x"]),
    "put": lambda storage: storage.put(KEY, b"x", "text/plain"),
    "abort": lambda storage: storage.abort(KEY, "upload"),
    "purge": lambda storage: storage.purge(KEY),
    "exists": lambda storage: storage.exists(KEY),
    "read": lambda storage: storage.read(KEY),
    "keys": lambda storage: list(storage.keys(KEY)),
    "versions": lambda storage: list(storage.versions(KEY)),
    "create_bucket_if_missing": lambda storage: storage.create_bucket_if_missing(),
}


@pytest.mark.long(reason="each call at each fault", beyond=10)
@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("setting", "value", "outcome"),
    [
        ("S3_ENDPOINT_URL", "http://127.0.0.1:9", ("storage_unavailable", True)),
        ("S3_SECRET_ACCESS_KEY", "wrong", ("storage_access_denied", False)),
        ("S3_BUCKET", "Not A Bucket", ("storage_incomplete", False)),
    ],
)
def test_only_our_own_errors_are_raised(settings, call, setting, value, outcome) -> None:
    setattr(settings, setting, value)
    forget_storages()  # a storage that was silent in an earlier test would be paused
    with pytest.raises(StorageError) as caught:
        CALLS[call](hosted_storage())
    error = caught.value
    assert (error.code, error.retryable) == outcome
    assert error.__suppress_context__
    for private in ("chatter_data_exports", "erin", value):
        assert private not in f"{error} {error.detail}"


def test_a_missing_bucket_is_reported(settings: Settings) -> None:
    settings.S3_BUCKET = "nobody-made-this"
    for call in ("open_upload", "put", "purge", "keys", "versions"):
        with pytest.raises(StorageError) as caught:
            CALLS[call](hosted_storage())
        assert (caught.value.code, caught.value.retryable) == ("storage_bucket_missing", False), call


def test_it_names_the_permission_that_is_missing(storage: ObjectStorage) -> None:
    for operation, call, permission in (
        ("create_multipart_upload", "open_upload", "s3:PutObject"),
        ("abort_multipart_upload", "abort", "s3:AbortMultipartUpload"),
        ("list_multipart_uploads", "purge", "s3:ListBucketMultipartUploads"),
        ("list_object_versions", "versions", "s3:ListBucketVersions"),
        ("list_objects_v2", "keys", "s3:ListBucket"),
        ("get_object", "read", "s3:GetObject"),
    ):
        with Stubber(s3(storage)) as stub:
            stub.add_client_error(operation, "AccessDenied", f"User is not authorized on {KEY}", 403)
            with pytest.raises(StorageError) as caught:
                CALLS[call](storage)
        assert caught.value.code == "storage_access_denied"
        assert caught.value.detail.endswith(f"Grant it {permission}.")


def test_it_does_not_repeat_an_unknown_error(storage: ObjectStorage) -> None:
    with Stubber(s3(storage)) as stub:
        stub.add_client_error("put_object", f"Odd {KEY}", KEY, 400)
        with pytest.raises(StorageError) as caught:
            storage.put(KEY, b"x", "text/plain")
    assert caught.value.code == "storage_incomplete"
    assert KEY not in str(caught.value)


# --- Reading and the rest ------------------------------------------------------------------------------


def test_it_lists_keys_and_versions_below_a_prefix(storage: ObjectStorage) -> None:
    for key in ("acme/a", "acme/b", "other/a"):
        storage.put(key, b"x", "text/plain")
    assert list(storage.keys("acme/")) == ["acme/a", "acme/b"]
    assert list(storage.versions("other/")) == [Version("other/a", "null")]


def test_a_missing_object_is_reported(storage: ObjectStorage) -> None:
    with pytest.raises(StorageError) as caught:
        storage.read(KEY)
    assert caught.value.code == "storage_incomplete"


def test_it_links_to_a_download_without_credentials(storage: ObjectStorage) -> None:
    write(storage, b"text")
    link = urlsplit(storage.link(KEY, filename="Zoë's export.csv"))
    connection = http.client.HTTPConnection(link.netloc)
    try:
        connection.request("GET", f"{link.path}?{link.query}")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"text")
        assert answer.headers["Content-Disposition"].startswith("attachment; filename")
        connection.request("GET", link.path)
        assert connection.getresponse().status == 403
    finally:
        connection.close()


def test_it_signs_links_for_the_address_that_browsers_see(storage: ObjectStorage, settings: Settings) -> None:
    settings.S3_PUBLIC_ENDPOINT_URL = "https://files.example"
    link = hosted_storage().link(KEY, filename="export.csv")
    assert link.startswith(f"https://files.example/{settings.S3_BUCKET}/acme/")
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in link
    assert "X-Amz-Expires=300" in link


def test_the_bucket_is_created_once(storage: ObjectStorage, settings: Settings) -> None:
    settings.S3_BUCKET = f"{settings.S3_BUCKET}-new"
    bucket = hosted_storage()
    bucket.create_bucket_if_missing()
    bucket.create_bucket_if_missing()
    assert list(bucket.keys()) == []
    s3(bucket).delete_bucket(Bucket=settings.S3_BUCKET)


def test_a_process_has_one_storage_object() -> None:
    storage = hosted_storage()
    assert hosted_storage() is storage
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: this process has threads
        child = os.fork()
    if child == 0:
        os._exit(0 if hosted_storage() is not storage else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
