"""Object storage: one bucket of S3, by botocore.

A multipart writer publishes a whole object or none, an object is removed with all its versions and open uploads, and
errors are our own. A key is used exactly as recorded. Neither keys nor values appear in errors or log lines: keys can
contain what identifies a chatter.
"""

import hashlib
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from botocore.config import Config
from django.utils.http import content_disposition_header

from common import outbound
from common.storage import errors, transport
from common.storage.calls import Calls
from common.storage.errors import StorageError
from common.storage.removal import Removal
from common.storage.sessions import Role, core_session, session_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

logger = logging.getLogger(__name__)

LINK_LIFE = timedelta(minutes=5)
MAX_KEY_BYTES = 1024
STREAM_BYTES = 1024 * 1024
# S3 allows 10,000 parts, so an object can have 78 GiB.
PART_BYTES = 8 * 1024 * 1024

_ABORTING_SECONDS = 10.0


@dataclass(frozen=True)
class Written:
    """A published object: size in bytes, SHA-256 in lower-case hex, the version's id."""

    bytes: int
    sha256: str
    version_id: str = "null"


class StoredVersion(NamedTuple):
    """One version of an object: its metadata as text, and its content, which is read on demand."""

    headers: str
    pieces: Generator[bytes]


class _Sent:
    """The parts of an upload that the storage has accepted."""

    def __init__(self, client: "S3Client", calls: Calls, upload: dict[str, Any]) -> None:
        self._client = client
        self._calls = calls
        self._upload = upload
        self.parts: list[CompletedPartTypeDef] = []
        self.bytes = 0
        self.digest = hashlib.sha256()

    def add(self, part: bytes) -> None:
        number = len(self.parts) + 1
        with self._calls(sending=len(part)):
            answer = self._client.upload_part(**self._upload, PartNumber=number, Body=part)
        self.parts.append({"ETag": answer["ETag"], "PartNumber": number})
        self.bytes += len(part)
        self.digest.update(part)


@dataclass(kw_only=True, eq=False, repr=False)
class ObjectStorage(Removal):
    """One bucket. Its methods raise only StorageError, whatever the storage or the network does."""

    bucket_name: str
    endpoint_url: str | None
    region_name: str
    access_key: str | None
    secret_key: str | None
    client_config: Config
    public_endpoint_url: str | None = None
    role: Role | None = None
    guarded: bool = False
    call_seconds: float = outbound.STORAGE_SECONDS
    sse: str = ""
    kms_key_id: str = ""

    # --- Writing ---------------------------------------------------------------------------------------

    def open_upload(self, key: str, *, content_type: str, filename: str = "") -> str:
        """Open a multipart upload and return its id. Nothing is visible under the key until it completes.

        `filename` is stored with the object, as its name for downloads.
        """
        _check_key(key)
        upload: Any = {"Bucket": self.bucket_name, "Key": key, "ContentType": content_type, **self.encryption}
        if filename:
            upload["ContentDisposition"] = content_disposition_header(True, filename)
        with self.calls():
            return str(self.client.create_multipart_upload(**upload)["UploadId"])

    def write_parts(
        self,
        key: str,
        upload_id: str,
        chunks: Iterable[bytes],
        *,
        meanwhile: Callable[[], None] | None = None,
        before_complete: Callable[[], None] | None = None,
    ) -> Written:
        """Send the chunks as the parts of an open upload, then publish the whole object.

        `meanwhile` is called after each wait for a part, to renew a lease; `before_complete` last, before publishing.
        Memory holds a few parts at most. Any error, also one of `chunks` or `before_complete`, aborts the upload:
        then no object appears. One exception: if the connection breaks while the storage publishes, the result is
        unknown; `purge` leaves nothing either way.
        """
        upload: dict[str, Any] = {"Bucket": self.bucket_name, "Key": key, "UploadId": upload_id}
        try:
            sent = self._send_parts(upload, chunks, meanwhile or (lambda: None))
            if before_complete:
                before_complete()
            with self.calls(completing=True):
                answer = self.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": sent.parts})
        except BaseException:
            # KeyboardInterrupt and SystemExit too: a stopping worker leaves nothing behind.
            self.abort_after_error(key, upload_id)
            raise
        return Written(sent.bytes, sent.digest.hexdigest(), answer.get("VersionId") or "null")

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write a small object in one call. Only where a late repetition by a stale worker does no harm.

        Without an answer it is not tried again, since a versioned bucket would hold two; then it is unknown whether
        the object exists.
        """
        _check_key(key)
        with self.calls(sending=len(data)):
            self.client.put_object(
                Bucket=self.bucket_name, Key=key, Body=data, ContentType=content_type, **self.encryption
            )

    def abort_after_error(self, key: str, upload_id: str) -> None:
        """Abort an upload while another error propagates. A failure is logged: `purge` can still do it.

        Its time is short: the call before may have used up its own, while a lease is held.
        """
        try:
            with outbound.within(_ABORTING_SECONDS):
                self.abort(key, upload_id)
        except StorageError as error:
            logger.warning("storage.upload_not_aborted code=%s", error.code)

    # --- Reading ---------------------------------------------------------------------------------------

    def exists(self, key: str) -> bool:
        return self.size_of(key) is not None

    def read(self, key: str) -> bytes:
        return b"".join(self.stream(key))

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield an object in pieces, one at a time in memory. Each piece has the time of a call."""
        with self.calls():
            body = self.client.get_object(Bucket=self.bucket_name, Key=key)["Body"]
        yield from self._pieces(body)

    def read_version(self, key: str, version_id: str = "") -> StoredVersion | None:
        """Return an object's metadata, and its content in pieces, each with the time of a call.

        By default of the visible version: another one needs the permission s3:GetObjectVersion. None if it is gone.
        """
        which: Any = {"VersionId": version_id} if version_id else {}
        answer: Any = None
        with self.calls(passing=errors.GONE):
            answer = self.client.get_object(Bucket=self.bucket_name, Key=key, **which)
        if answer is None:
            return None
        said = [answer.get(name, "") for name in ("ContentType", "ContentDisposition")]
        return StoredVersion(
            "\n".join([*said, *(f"{name}: {value}" for name, value in answer.get("Metadata", {}).items())]),
            self._pieces(answer["Body"]),
        )

    def _pieces(self, body: Any) -> Generator[bytes]:
        with closing(body):
            yield from self.calls.each(body.iter_chunks(STREAM_BYTES))

    def size_of(self, key: str) -> int | None:
        with self.calls(passing=errors.GONE) as call:
            head = self.client.head_object(Bucket=self.bucket_name, Key=key)
        return None if call.code else head["ContentLength"]

    def link(self, key: str, *, filename: str = "", content_type: str = "", expires: timedelta = LINK_LIFE) -> str:
        """Return a URL where a browser without credentials can download the object until `expires`.

        `filename` is part of the URL, so it must not be personal; by default it is the object's own. The storage is
        not called, so this works while it does not answer.
        """
        params = {"Bucket": self.bucket_name, "Key": key}
        if filename:
            params["ResponseContentDisposition"] = content_disposition_header(True, filename) or "attachment"
        if content_type:
            params["ResponseContentType"] = content_type
        with self.calls.signing():
            return self._public_client.generate_presigned_url(
                "get_object", Params=params, ExpiresIn=int(expires.total_seconds())
            )

    # --- The bucket itself -----------------------------------------------------------------------------

    def create_bucket_if_missing(self) -> None:
        """Create the bucket unless it exists. Safe to call concurrently."""
        with self.calls(passing={*errors.GONE, "NoSuchBucket"}) as call:
            self.client.head_bucket(Bucket=self.bucket_name)
        if not call.code:
            return
        # S3 requires that its first region is omitted and any other is given.
        where: Any = {"CreateBucketConfiguration": {"LocationConstraint": self.region_name}}
        with self.calls(passing=["BucketAlreadyOwnedByYou"]):
            self.client.create_bucket(Bucket=self.bucket_name, **({} if self.region_name == "us-east-1" else where))

    # --- Clients ---------------------------------------------------------------------------------------

    @cached_property
    def calls(self) -> Calls:  # type: ignore[override]  # declared in the mixin
        return Calls(self.call_seconds)

    @cached_property
    def client(self) -> "S3Client":  # type: ignore[override]  # as above
        """One for all threads, as botocore allows."""
        return self._client_at(self.endpoint_url)

    @cached_property
    def _public_client(self) -> "S3Client":
        """Signs links for the endpoint that browsers use. It sends nothing."""
        return self._client_at(self.public_endpoint_url or self.endpoint_url)

    @cached_property
    def encryption(self) -> dict[str, Any]:
        """The server-side encryption options of each call that creates an object."""
        key = {"SSEKMSKeyId": self.kms_key_id} if self.kms_key_id else {}
        return {"ServerSideEncryption": self.sse, **key} if self.sse else {}

    def _client_at(self, endpoint: str | None) -> "S3Client":
        client = transport.limited_client(
            session_of(self.role) if self.role else core_session(),
            "s3",
            guarded=self.guarded,
            region_name=self.region_name,
            endpoint_url=endpoint,
            config=self.client_config,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )
        client.meta.events.register("needs-retry.s3.PutObject", _refuse_silent_retry)
        return cast("S3Client", client)

    def _send_parts(self, upload: dict[str, Any], chunks: Iterable[bytes], meanwhile: Callable[[], None]) -> "_Sent":
        """Send one part while the next is read. None is in flight once this returns or raises."""
        sent = _Sent(self.client, self.calls, upload)
        with ThreadPoolExecutor(max_workers=1) as sender:
            sending = None
            for part in in_parts(chunks):
                if sending:
                    sending.result()
                    meanwhile()
                if len(part) == PART_BYTES:
                    # In a copy of our context, so that the thread's log lines carry this call's id.
                    sending = sender.submit(copy_context().run, sent.add, part)
                else:
                    # The last part: nothing is left to read meanwhile, so a small file needs no thread.
                    sent.add(part)
            if sending:
                sending.result()
        return sent


def in_parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Regroup chunks into parts of PART_BYTES, the last one shorter. Yields at least one: an upload needs a part."""
    buffer = bytearray()
    yielded = False
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= PART_BYTES:
            yield bytes(memoryview(buffer)[:PART_BYTES])
            del buffer[:PART_BYTES]
            yielded = True
    if buffer or not yielded:
        yield bytes(buffer)


def _check_key(key: str) -> None:
    """Raise ValueError unless every storage keeps the key as it is: some fold `//`, clients `.` and `..`."""
    if {"", ".", ".."} & set(key.split("/")) or len(key.encode()) > MAX_KEY_BYTES:
        raise ValueError("A key must have no empty, . or .. segment, and 1024 bytes at most.")


def _refuse_silent_retry(caught_exception: Exception | None, **_options: Any) -> bool | None:
    """Do not retry a call without an answer; leave everything else to botocore."""
    return None if caught_exception is None else False
