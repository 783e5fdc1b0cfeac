"""Object storage: django-storages' `S3Storage` with what it lacks, in a package that alone knows boto3.

What it adds: a multipart writer that publishes a whole object or none, removal of an object with all its
versions and unfinished uploads, and errors in our words. A key is used exactly as it was recorded. Neither a
key nor a value stands in an error or a log line of this module: keys can bear what a chatter is known by.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from botocore import exceptions as boto
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from django.utils import timezone
from django.utils.http import content_disposition_header
from storages.backends.s3 import S3Storage

from chatbots.buckets import errors as storage_errors
from chatbots.buckets.errors import StorageError
from chatbots.buckets.parts import PART_BYTES, in_parts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, ErrorTypeDef

logger = logging.getLogger(__name__)

LINK_LIFE = timedelta(minutes=5)
MAX_KEY_BYTES = 1024
MAX_KEYS_PER_DELETE = 1000

# One call with its retries takes at most 3 x (10 + 20) seconds and two short pauses: it fits in the lease of
# a claim (compliance/claims.py). On a new connection urllib3 sends a whole part under the connect timeout.
CLIENT_CONFIG = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    retries={"mode": "standard", "total_max_attempts": 3},
    connect_timeout=10,
    read_timeout=20,
)

_BOTO_ERRORS = (boto.BotoCoreError, ClientError, ResponseParserError)
_NO_ANSWER = (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError, ResponseParserError)


@dataclass(frozen=True)
class Written:
    """What `write_parts` has published: size in bytes, SHA-256 in lower-case hex."""

    bytes: int
    sha256: str


class Version(NamedTuple):
    """One version of an object, or one of its delete markers. In an unversioned bucket the id is `null`."""

    key: str
    version_id: str


class _Sent:
    """The parts of an upload that the storage has taken."""

    def __init__(self) -> None:
        self.parts: list[CompletedPartTypeDef] = []
        self.bytes = 0
        self.digest = hashlib.sha256()

    def add(self, client: "S3Client", upload: dict[str, Any], part: bytes) -> None:
        number = len(self.parts) + 1
        with _in_our_words():
            answer = client.upload_part(**upload, PartNumber=number, Body=part)
        self.parts.append({"ETag": answer["ETag"], "PartNumber": number})
        self.bytes += len(part)
        self.digest.update(part)


class ObjectStorage(S3Storage):  # type: ignore[misc]  # django-storages has no types
    """One bucket. Whatever the storage or the network does, the methods defined here raise only StorageError.

    What else `S3Storage` has (`listdir`, `size`, …) lets botocore's errors through, with keys in them, and
    knows no versions: do not use it.
    """

    bucket_name: str
    public_endpoint_url: str | None

    def get_default_settings(self) -> dict[str, Any]:
        return {**super().get_default_settings(), "public_endpoint_url": None}

    # --- Writing ---------------------------------------------------------------------------------------

    def open_upload(self, key: str, *, content_type: str) -> str:
        """Open a multipart upload and return its id. Nothing is visible under the key until it completes."""
        _check_key(key)
        upload: Any = {"Bucket": self.bucket_name, "Key": key, "ContentType": content_type}
        with _in_our_words():
            return str(self._client.create_multipart_upload(**upload)["UploadId"])

    def write_parts(
        self,
        key: str,
        upload_id: str,
        chunks: Iterable[bytes],
        *,
        before_complete: Callable[[], None] | None = None,
    ) -> Written:
        """Send the chunks as the parts of an open upload, then publish the object, whole.

        Memory stays at a few parts. Any error, also one of `chunks` or `before_complete` (called last, before
        publishing), aborts the upload: then no object appears. One exception: if the connection breaks while
        the storage publishes, nobody knows whether it did; `purge` leaves nothing either way.
        """
        upload: dict[str, Any] = {"Bucket": self.bucket_name, "Key": key, "UploadId": upload_id}
        try:
            sent = self._send_parts(upload, chunks)
            if before_complete:
                before_complete()
            with _in_our_words():
                self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": sent.parts})
        except BaseException:
            # Also KeyboardInterrupt and SystemExit: a stopping worker leaves nothing behind.
            self.abort_after_error(key, upload_id)
            raise
        return Written(bytes=sent.bytes, sha256=sent.digest.hexdigest())

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write a small object in one call. Only where a late repetition by a stale worker does no harm."""
        _check_key(key)
        with _in_our_words():
            self._client.put_object(Bucket=self.bucket_name, Key=key, Body=data, ContentType=content_type)

    # --- Removing --------------------------------------------------------------------------------------

    def abort(self, key: str, upload_id: str) -> None:
        """Abort an open upload: it can never complete afterwards. No error when it is gone already."""
        try:
            self._client.abort_multipart_upload(Bucket=self.bucket_name, Key=key, UploadId=upload_id)
        except _BOTO_ERRORS as error:
            if _code(error) != "NoSuchUpload":
                raise _translated(error) from None

    def abort_after_error(self, key: str, upload_id: str) -> None:
        """Abort an upload while another error is on its way. A failure is logged: `purge` can still do it."""
        try:
            self.abort(key, upload_id)
        except StorageError as error:
            logger.warning("storage.upload_not_aborted code=%s", error.code)

    def purge(self, key: str) -> int:
        """Remove whatever there is of exactly this key, and return how many versions and markers that were.

        Open uploads are aborted before the versions are listed, so that none can complete unseen. If anything
        was there, it is looked for once more at the end; what is left then raises `storage_incomplete`.
        """
        uploads = self._open_uploads(key)
        for upload_id in uploads:
            self.abort(key, upload_id)
        version_ids = self._version_ids(key)
        for start in range(0, len(version_ids), MAX_KEYS_PER_DELETE):
            self._delete_versions(key, version_ids[start : start + MAX_KEYS_PER_DELETE])
        if (uploads or version_ids) and (self._open_uploads(key) or self._version_ids(key)):
            raise storage_errors.left_over()
        return len(version_ids)

    def delete(self, name: str) -> None:
        """As `purge`: S3Storage's own way leaves the object behind a marker in a versioned bucket."""
        self.purge(name)

    # --- Reading ---------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        try:
            self._client.head_object(Bucket=self.bucket_name, Key=name)
        except _BOTO_ERRORS as error:
            if _code(error) in storage_errors.GONE:
                return False
            raise _translated(error) from None
        return True

    def read(self, key: str) -> bytes:
        """Return a whole object, all of it in memory."""
        with _in_our_words():
            return self._client.get_object(Bucket=self.bucket_name, Key=key)["Body"].read()

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys of the visible objects that begin with `prefix`."""
        with _in_our_words():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket_name, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    yield entry["Key"]

    def versions(self, prefix: str = "") -> Iterator[Version]:
        """Yield all versions and delete markers of the keys that begin with `prefix`, visible or not."""
        with _in_our_words():
            pages = self._client.get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=self.bucket_name, Prefix=prefix):
                for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                    yield Version(entry["Key"], entry["VersionId"])

    def link(self, key: str, *, filename: str, expires: timedelta = LINK_LIFE) -> str:
        """Return an address where a browser without credentials can download the object, for a while."""
        params = {
            "Bucket": self.bucket_name,
            "Key": key,
            "ResponseContentDisposition": content_disposition_header(True, filename) or "attachment",
        }
        with _in_our_words():
            return self._public_client.generate_presigned_url(
                "get_object", Params=params, ExpiresIn=int(expires.total_seconds())
            )

    # --- The bucket itself -----------------------------------------------------------------------------

    def create_bucket_if_missing(self) -> None:
        """Make the bucket, unless it is there. Two processes may call this at once."""
        try:
            self._client.head_bucket(Bucket=self.bucket_name)
        except _BOTO_ERRORS as error:
            if _code(error) not in {*storage_errors.GONE, "NoSuchBucket"}:
                raise _translated(error) from None
            self._create_bucket()

    # --- Inside ----------------------------------------------------------------------------------------

    @cached_property
    def _client(self) -> "S3Client":
        """One for all threads, as boto3's clients are made for. S3Storage would make one a thread, at 60 ms each."""
        return cast("S3Client", self.connection.meta.client)

    @cached_property
    def _public_client(self) -> "S3Client":
        """Signs links for the address that browsers see. It sends nothing, so one serves all threads."""
        client = self._create_session().client(
            "s3",
            region_name=self.region_name,
            endpoint_url=self.public_endpoint_url or self.endpoint_url,
            config=self.client_config,
        )
        return cast("S3Client", client)

    def _create_bucket(self) -> None:
        # S3 wants its first region left out, and any other named.
        where: Any = {"CreateBucketConfiguration": {"LocationConstraint": self.region_name}}
        try:
            self._client.create_bucket(Bucket=self.bucket_name, **({} if self.region_name == "us-east-1" else where))
        except _BOTO_ERRORS as error:
            if _code(error) != "BucketAlreadyOwnedByYou":
                raise _translated(error) from None

    def _open(self, name: str, mode: str = "rb") -> Any:
        if mode != "rb":
            raise ValueError("Write with write_parts: S3File publishes half a file when its producer fails.")
        return super()._open(name, mode)

    def _send_parts(self, upload: dict[str, Any], chunks: Iterable[bytes]) -> "_Sent":
        """Send a part while the next one is read: one in flight, and none once this returns or raises."""
        sent = _Sent()
        with ThreadPoolExecutor(max_workers=1) as sender:
            sending = None
            for part in in_parts(chunks):
                if sending:
                    sending.result()
                if len(part) == PART_BYTES:
                    sending = sender.submit(sent.add, self._client, upload, part)
                else:
                    # The last: nothing is left to read meanwhile, so a small file needs no thread.
                    sent.add(self._client, upload, part)
            if sending:
                sending.result()
        return sent

    def _open_uploads(self, key: str) -> list[str]:
        with _in_our_words():
            pages = self._client.get_paginator("list_multipart_uploads")
            return [
                upload["UploadId"]
                for page in pages.paginate(Bucket=self.bucket_name, Prefix=key)
                for upload in page.get("Uploads", ())
                if upload["Key"] == key
            ]

    def _version_ids(self, key: str) -> list[str]:
        return [version.version_id for version in self.versions(key) if version.key == key]

    def _delete_versions(self, key: str, version_ids: list[str]) -> None:
        with _in_our_words():
            answer = self._client.delete_objects(
                Bucket=self.bucket_name,
                Delete={"Objects": [{"Key": key, "VersionId": each} for each in version_ids], "Quiet": True},
            )
        # An answer that is a success may refuse single versions.
        errors = [error for error in answer.get("Errors", ()) if error.get("Code") not in storage_errors.GONE]
        if errors:
            refusals = [self._refusal(key, error) for error in errors]
            # What needs a person goes before what needs time.
            raise min(refusals, key=lambda refusal: refusal.retryable)

    def _refusal(self, key: str, error: "ErrorTypeDef") -> StorageError:
        code = error.get("Code", "")
        if code not in storage_errors.DENIED:
            return storage_errors.from_code(code, operation="DeleteObjects")
        if self._is_locked(key, error.get("VersionId", "null")):
            return storage_errors.locked()
        return storage_errors.denied("s3:DeleteObjectVersion")

    def _is_locked(self, key: str, version_id: str) -> bool:
        """Say whether retention or a legal hold protects a version: a refusal only says AccessDenied."""
        try:
            head = dict(self._client.head_object(Bucket=self.bucket_name, Key=key, VersionId=version_id))
        except _BOTO_ERRORS:
            return False
        retained_until: Any = head.get("ObjectLockRetainUntilDate")
        retained = bool(retained_until and retained_until > timezone.now())
        return retained or head.get("ObjectLockLegalHoldStatus") == "ON"


def _check_key(key: str) -> None:
    """Raise ValueError unless every storage takes the key as it is: some fold `//`, clients `.` and `..`."""
    if {"", ".", ".."} & set(key.split("/")) or len(key.encode()) > MAX_KEY_BYTES:
        raise ValueError("A key must have no empty, . or .. segment, and 1024 bytes at most.")


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Turn boto's errors into StorageError. `from None`: their texts hold addresses and keys."""
    try:
        yield
    except _BOTO_ERRORS as error:
        raise _translated(error) from None


def _code(error: BaseException) -> str:
    return error.response["Error"].get("Code", "") if isinstance(error, ClientError) else ""


def _translated(error: BaseException) -> StorageError:
    if isinstance(error, ClientError):
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        return storage_errors.from_code(_code(error), operation=error.operation_name, status=status)
    return storage_errors.unavailable() if isinstance(error, _NO_ANSWER) else storage_errors.unusable()
