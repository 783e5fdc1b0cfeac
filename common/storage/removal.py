"""Remove objects for good: open uploads, every version, every delete marker, by exact key.

Many keys share the calls that can be shared: a deletion is one call for up to a thousand versions, of whatever keys,
and the listings go on side by side. A storage that refuses one version refuses that key alone.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from django.utils import timezone

from common.storage import errors
from common.storage.calls import Calls
from common.storage.errors import StorageError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ErrorTypeDef

_T = TypeVar("_T")

# S3's limit for one call.
MAX_KEYS_PER_DELETE = 1000
# Listings at once: a far storage is mostly waited for.
THREADS = 4


class Version(NamedTuple):
    """One version of an object, or one of its delete markers. In an unversioned bucket the id is `null`."""

    key: str
    version_id: str


@dataclass
class Removed:
    """What became of each key: how many versions and markers are gone, or why something of it is left."""

    gone: dict[str, int] = field(default_factory=dict)
    failed: dict[str, StorageError] = field(default_factory=dict)


@dataclass(frozen=True)
class _Found:
    had_uploads: bool
    versions: list[str]

    def __bool__(self) -> bool:
        return self.had_uploads or bool(self.versions)


class Removal:
    def __init__(self, client: "S3Client", bucket: str, calls: Calls) -> None:
        self._client = client
        self._bucket = bucket
        self._calls = calls

    def remove(self, keys: Iterable[str]) -> Removed:
        """Remove whatever there is of exactly these keys.

        Open uploads are aborted before the versions are listed, so that none can complete unseen. Where anything
        was there, it is looked for once more at the end.
        """
        removed = Removed()
        found = self._each(keys, self._abort_and_list, removed)
        versions = [Version(key, version_id) for key, what in found.items() for version_id in what.versions]
        removed.failed |= self.remove_versions(versions)
        again = [key for key, what in found.items() if what and key not in removed.failed]
        for key, left in self._each(again, self._look, removed).items():
            if left:
                removed.failed[key] = errors.left_over()
        removed.gone = {key: len(what.versions) for key, what in found.items() if key not in removed.failed}
        return removed

    def remove_versions(self, versions: Iterable[Version]) -> dict[str, StorageError]:
        """Remove just these versions and markers; return what was refused, the worst of each key."""
        every = list(versions)
        refusals: dict[str, list[StorageError]] = defaultdict(list)
        for start in range(0, len(every), MAX_KEYS_PER_DELETE):
            some = every[start : start + MAX_KEYS_PER_DELETE]
            try:
                refused = self._delete_versions(some)
            except StorageError as error:
                refused = [(version.key, error) for version in some]
            for key, refusal in refused:
                refusals[key].append(refusal)
        # What needs a person goes before what needs time.
        return {key: min(of_key, key=lambda refusal: refusal.retryable) for key, of_key in refusals.items()}

    def remove_older(self, key: str, *, keep: str) -> int:
        """Remove all versions of exactly this key but one, which must be the visible one. Raises StorageError."""
        older = [version_id for version_id in self._version_ids(key) if version_id != keep]
        # Asked after the list was read: if ours is the latest now, all that was listed is older.
        with self._calls():
            head = self._client.head_object(Bucket=self._bucket, Key=key)
        if (head.get("VersionId") or "null") != keep:
            raise errors.overtaken()
        for refusal in self.remove_versions(Version(key, version_id) for version_id in older).values():
            raise refusal
        if older and self._version_ids(key) != [keep]:
            raise errors.left_over()
        return len(older)

    def abort_all(self, key: str) -> None:
        """Abort all open uploads of exactly this key. Raises StorageError."""
        for upload_id in self._open_uploads(key):
            self.abort(key, upload_id)

    def abort(self, key: str, upload_id: str) -> None:
        """Abort an open upload: it can never complete afterwards. No error when it is gone already."""
        with self._calls(passing=["NoSuchUpload"]):
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)

    def _each(self, keys: Iterable[str], work: Callable[[str], _T], removed: Removed) -> dict[str, _T]:
        """Do the work for each key, side by side; keys for which it raises StorageError are noted as failed."""

        def attempt(key: str) -> _T | StorageError:
            try:
                return work(key)
            except StorageError as error:
                return error

        keys = list(dict.fromkeys(keys))
        if len(keys) == 1:
            outcomes = [attempt(keys[0])]
        else:
            with ThreadPoolExecutor(THREADS) as threads:
                outcomes = list(threads.map(attempt, keys))
        done: dict[str, _T] = {}
        for key, outcome in zip(keys, outcomes, strict=True):
            if isinstance(outcome, StorageError):
                removed.failed[key] = outcome
            else:
                done[key] = outcome
        return done

    def _abort_and_list(self, key: str) -> _Found:
        uploads = self._open_uploads(key)
        for upload_id in uploads:
            self.abort(key, upload_id)
        return _Found(bool(uploads), self._version_ids(key))

    def _look(self, key: str) -> _Found:
        return _Found(bool(self._open_uploads(key)), self._version_ids(key))

    def _open_uploads(self, key: str) -> list[str]:
        with self._calls():
            pages = self._client.get_paginator("list_multipart_uploads")
            return [
                upload["UploadId"]
                for page in pages.paginate(Bucket=self._bucket, Prefix=key)
                for upload in page.get("Uploads", ())
                if upload["Key"] == key
            ]

    def _version_ids(self, key: str) -> list[str]:
        with self._calls():
            pages = self._client.get_paginator("list_object_versions")
            return [
                entry["VersionId"]
                for page in pages.paginate(Bucket=self._bucket, Prefix=key)
                for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
                if entry["Key"] == key
            ]

    def _delete_versions(self, versions: Sequence[Version]) -> list[tuple[str, StorageError]]:
        objects: Any = [{"Key": key, "VersionId": version_id} for key, version_id in versions]
        with self._calls():
            answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
        # An answer that is a success may refuse single versions.
        return [
            (error.get("Key", ""), self._refusal(error))
            for error in answer.get("Errors", ())
            if error.get("Code") not in errors.GONE
        ]

    def _refusal(self, error: "ErrorTypeDef") -> StorageError:
        code = error.get("Code", "")
        if code not in errors.DENIED:
            return errors.from_code(code, operation="DeleteObjects")
        if self._is_locked(error.get("Key", ""), error.get("VersionId", "null")):
            return errors.locked()
        return errors.denied("s3:DeleteObjectVersion")

    def _is_locked(self, key: str, version_id: str) -> bool:
        """Say whether retention or a legal hold protects a version: a refusal only says AccessDenied."""
        try:
            with self._calls():
                head = dict(self._client.head_object(Bucket=self._bucket, Key=key, VersionId=version_id))
        except StorageError:
            return False
        retained_until: Any = head.get("ObjectLockRetainUntilDate")
        retained = bool(retained_until and retained_until > timezone.now())
        return retained or head.get("ObjectLockLegalHoldStatus") == "ON"
