"""Try each call that the service makes to a bucket, with an object of a random name."""

import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from chatbots.buckets.locations import StorageLocation
from common import outbound
from common.storage.errors import StorageError
from common.storage.listing import Version
from common.storage.s3 import ObjectStorage

# The names of objects that a check writes, without data: a check that is killed leaves them there.
# The name for checks by workers. It is always the same, so that an object that could not be removed, or was left by a
# kill, is removed by the first check that may remove it.
WORKERS_KEY = "access_check"
# Objects of `trial`: in a chatbot's folder, in one whose name begins like it, or in none.
_CHECK_KEY = re.compile(rf"([^/]+[/_])?{WORKERS_KEY}_[0-9a-f]{{16}}(/object)?(_written)?")

_TEXT = b"A check whether the service may work here. It removes this object itself."


def new_name() -> str:
    return f"{WORKERS_KEY}_{secrets.token_hex(8)}"


def is_check(key: str) -> bool:
    """Return whether a key of the hosted bucket belongs to a check."""
    return key == WORKERS_KEY or _CHECK_KEY.fullmatch(key) is not None


@dataclass(frozen=True)
class Step:
    """One call that was tried, the permission it needs, and its error or None."""

    name: str
    permission: str
    error: StorageError | None = None

    @property
    def is_ok(self) -> bool:
        return self.error is None


@dataclass
class _Probe:
    storage: ObjectStorage
    key: str
    versions: set[str] = field(default_factory=set)  # the versions that the storage reported
    upload_id: str = ""

    @property
    def _client(self) -> Any:
        return self.storage.client

    @property
    def _object(self) -> dict[str, str]:
        return {"Bucket": self.storage.bucket_name, "Key": self.key}

    def write(self) -> None:
        with self.storage.calls():
            self._note_version(self._client.put_object(**self._object, Body=_TEXT, **self.storage.encryption))

    def read(self) -> None:
        if self.storage.read(self.key) != _TEXT:
            raise StorageError("storage_incomplete", "The storage returned something else than was written.")

    def list(self) -> None:
        if self.key not in self.storage.keys(self.key) and self.versions:
            raise StorageError("storage_incomplete", "The storage does not list what was written.")

    def open_upload(self) -> None:
        self.upload_id = self.storage.open_upload(self.key, content_type="text/plain")
        self._send_part()

    def list_uploads(self) -> None:
        with self.storage.calls():
            self._client.list_multipart_uploads(Bucket=self.storage.bucket_name, Prefix=self.key)

    def abort_upload(self) -> None:
        self.storage.abort(self.key, self.upload_id)
        self.upload_id = ""

    def complete_upload(self) -> None:
        # Completes an upload that could not be aborted: an object can be removed, an upload cannot.
        self.upload_id = self.upload_id or self.storage.open_upload(self.key, content_type="text/plain")
        part = self._send_part()
        with self.storage.calls():
            answer = self._client.complete_multipart_upload(
                **self._object, UploadId=self.upload_id, MultipartUpload={"Parts": [part]}
            )
        self.upload_id = ""
        self._note_version(answer)

    def list_versions(self) -> None:
        found = {version.version_id for version in self.storage.versions(self.key) if version.key == self.key}
        self.versions |= found

    def remove(self) -> None:
        """Remove all versions, as `ObjectStorage.purge` does, even if listing is refused."""
        refused = self.storage.remove_versions(Version(self.key, version_id) for version_id in sorted(self.versions))
        for error in refused.values():
            raise error

    def _send_part(self) -> dict[str, Any]:
        with self.storage.calls():
            answer = self._client.upload_part(**self._object, UploadId=self.upload_id, PartNumber=1, Body=_TEXT)
        return {"ETag": answer["ETag"], "PartNumber": 1}

    def _note_version(self, answer: Any) -> None:
        self.versions.add(answer.get("VersionId") or "null")


def probe(location: StorageLocation) -> Iterator[Step]:
    """Yield each step after it was tried; the last one removes the object.

    A missing permission does not stop the probe. Any other error, such as a wrong secret or no answer, would occur
    each time: then only the removal follows, if there is something to remove.
    """
    # The result is needed now, even if the breaker is open.
    location.storage.calls.breaker.reset()
    check = _Probe(location.storage, f"{location.prefix}{new_name()}")
    for name, permission, action in _steps(check):
        if (action == check.read and not check.versions) or (action == check.abort_upload and not check.upload_id):
            continue  # its object is missing
        step = Step(name, permission, _error_of(action))
        yield step
        if step.error and not step.error.permission:
            break
    if check.upload_id:
        _error_of(check.abort_upload)
    if check.versions:
        error = _error_of(check.remove)
        if error and error.permission:
            error = _not_removed(check)
        yield Step("remove the object in each version", "s3:DeleteObject and s3:DeleteObjectVersion", error)


def _steps(check: _Probe) -> list[tuple[str, str, Callable[[], None]]]:
    kms = check.storage.sse == "aws:kms"
    write = "s3:PutObject" + (", and kms:GenerateDataKey on the key" if kms else "")
    read = "s3:GetObject" + (", and kms:Decrypt on the key" if kms else "")
    complete = "s3:PutObject" + (", and kms:Decrypt on the key" if kms else "")
    return [
        ("write an object", write, check.write),
        ("read it", read, check.read),
        ("list it", "s3:ListBucket", check.list),
        ("open an upload and send a part", write, check.open_upload),
        ("list open uploads", "s3:ListBucketMultipartUploads", check.list_uploads),
        ("abort the upload", "s3:AbortMultipartUpload", check.abort_upload),
        ("complete another upload", complete, check.complete_upload),
        ("list versions", "s3:ListBucketVersions", check.list_versions),
    ]


def _error_of(action: Callable[[], None]) -> StorageError | None:
    try:
        # The limit of all its calls together: a listing may never end, and an object may be longer than it was
        # written.
        with outbound.within(outbound.STORAGE_SECONDS, answer_bytes=outbound.STORAGE_ANSWER_BYTES):
            action()
    except StorageError as error:
        return error
    return None


def _not_removed(check: _Probe) -> StorageError:
    left = f"The object {check.key.rpartition('/')[2]} remains: remove it by hand."
    if check.versions == {"null"}:
        permission, why = "s3:DeleteObject and s3:DeleteObjectVersion", "We may not delete objects here."
    else:
        permission, why = "s3:DeleteObjectVersion", "The bucket keeps versions, and we may not delete them."
    return StorageError("storage_access_denied", f"{why} Grant {permission}. {left}", permission=permission)
