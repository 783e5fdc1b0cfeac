"""Removal of objects for good: open uploads, every version, every delete marker, by exact key or in a folder.

Many keys share calls: one deletion covers up to a thousand versions of any keys, and listings run in parallel. A
storage that refuses one version affects that key alone.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from django.utils import timezone

from common import outbound
from common.storage import errors
from common.storage.errors import StorageError
from common.storage.listing import Listing, Version

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ErrorTypeDef

_T = TypeVar("_T")

# S3's limit for one call.
MAX_KEYS_PER_DELETE = 1000
# Parallel listings: a distant storage is mostly waiting.
THREADS = 4


@dataclass
class Removed:
    """For each key the number of removed versions and markers, or the error that left something behind."""

    gone: dict[str, int] = field(default_factory=dict)
    failed: dict[str, StorageError] = field(default_factory=dict)


@dataclass(frozen=True)
class _RemainingVersions:
    had_uploads: bool
    versions: list[str]

    def __bool__(self) -> bool:
        return self.had_uploads or bool(self.versions)


class Removal(Listing):
    """Mixed into `ObjectStorage`. A listing of one key has the time of one call: it may have no end."""

    call_seconds: float

    def purge(self, key: str) -> int:
        """Remove everything under exactly this key; return how many versions and markers. Raises StorageError."""
        removed = self.purge_many([key])
        if key in removed.failed:
            raise removed.failed[key]
        return removed.gone[key]

    def purge_many(self, keys: Iterable[str]) -> Removed:
        """Remove everything under exactly these keys: open uploads, every version and delete marker.

        Raises nothing: a failure of one key is in `Removed.failed` and affects no other. Open uploads are aborted
        before the versions are listed, so that none can complete unseen. Where anything was found, it is looked for
        again at the end (`storage_incomplete` if it is still there).
        """
        removed = Removed()
        found = self._each(keys, self._abort_and_list, removed)
        versions = [Version(key, version_id) for key, left in found.items() for version_id in left.versions]
        removed.failed |= self.remove_versions(versions)
        again = [key for key, left in found.items() if left and key not in removed.failed]
        for key, left in self._each(again, self._list, removed).items():
            if left:
                removed.failed[key] = errors.incomplete_removal()
        removed.gone = {key: len(left.versions) for key, left in found.items() if key not in removed.failed}
        return removed

    def purge_folder(self, folder: str) -> None:
        """Remove everything whose key begins with `folder`, which ends in a slash. Raises StorageError.

        The listing has the time of a call that completes an upload.
        """
        if not folder.strip("/") or not folder.endswith("/"):
            raise ValueError("Not a folder.")
        with outbound.within(outbound.STORAGE_COMPLETING_SECONDS):
            keys = {upload.key for upload in self.uploads(folder)}
            keys |= {version.key for version in self.versions(folder)}
        failed = self.purge_many(sorted(keys)).failed if keys else {}
        # An error that needs a person takes precedence over one that needs time.
        for error in sorted(failed.values(), key=lambda error: error.retryable):
            raise error

    def remove_versions(self, versions: Iterable[Version]) -> dict[str, StorageError]:
        """Remove only these versions and delete markers. Return the worst refusal of each key.

        A version that no longer exists is no error.
        """
        every = list(versions)
        refusals: dict[str, list[StorageError]] = defaultdict(list)
        for start in range(0, len(every), MAX_KEYS_PER_DELETE):
            batch = every[start : start + MAX_KEYS_PER_DELETE]
            try:
                refused = self._delete_versions(batch)
            except StorageError as error:
                refused = [(version.key, error) for version in batch]
            for key, refusal in refused:
                refusals[key].append(refusal)
        # An error that needs a person takes precedence over one that needs time.
        return {key: min(of_key, key=lambda refusal: refusal.retryable) for key, of_key in refusals.items()}

    def purge_older(self, key: str, *, keep: str) -> int:
        """Remove all versions and markers of exactly this key except the version `keep`. Return their number.

        Raises `storage_incomplete`, and removes nothing, if another version is the visible one: another writer has
        written since. All calls together have the time of one that completes an upload.
        """
        with outbound.within(outbound.STORAGE_COMPLETING_SECONDS):
            older = [version_id for version_id in self._version_ids(key) if version_id != keep]
            # Asked after listing: if ours is the latest now, everything listed is older.
            with self.calls():
                head = self.client.head_object(Bucket=self.bucket_name, Key=key)
            if (head.get("VersionId") or "null") != keep:
                raise errors.incomplete("Another writer has replaced the object since.")
            for refusal in self.remove_versions(Version(key, version_id) for version_id in older).values():
                raise refusal
            if older and self._version_ids(key) != [keep]:
                raise errors.incomplete_removal()
            return len(older)

    def abort_all(self, key: str) -> None:
        """Abort all open uploads of exactly this key: their senders can no longer publish. Raises StorageError.

        All calls together have the time of one that completes an upload.
        """
        with outbound.within(outbound.STORAGE_COMPLETING_SECONDS):
            for upload_id in self._open_uploads(key):
                self.abort(key, upload_id)

    def abort(self, key: str, upload_id: str) -> None:
        """Abort an open upload: it can never complete afterwards. No error if it no longer exists."""
        with self.calls(passing=["NoSuchUpload"]):
            self.client.abort_multipart_upload(Bucket=self.bucket_name, Key=key, UploadId=upload_id)

    def _each(self, keys: Iterable[str], work: Callable[[str], _T], removed: Removed) -> dict[str, _T]:
        """Do the work for each key in parallel. Keys for which it raises StorageError are noted as failed."""

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

    def _abort_and_list(self, key: str) -> _RemainingVersions:
        uploads = self._open_uploads(key)
        for upload_id in uploads:
            self.abort(key, upload_id)
        return _RemainingVersions(bool(uploads), self._version_ids(key))

    def _list(self, key: str) -> _RemainingVersions:
        return _RemainingVersions(bool(self._open_uploads(key)), self._version_ids(key))

    def _open_uploads(self, key: str) -> list[str]:
        with outbound.within(self.call_seconds):
            return [upload.upload_id for upload in self.uploads(key) if upload.key == key]

    def _version_ids(self, key: str) -> list[str]:
        with outbound.within(self.call_seconds):
            return [version.version_id for version in self.versions(key) if version.key == key]

    def _delete_versions(self, versions: Sequence[Version]) -> list[tuple[str, StorageError]]:
        objects: Any = [{"Key": key, "VersionId": version_id} for key, version_id in versions]
        with self.calls():
            answer = self.client.delete_objects(Bucket=self.bucket_name, Delete={"Objects": objects, "Quiet": True})
        # A successful answer may refuse single versions.
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
        """Return whether retention or a legal hold protects a version: the refusal itself is just AccessDenied."""
        try:
            with self.calls():
                head = dict(self.client.head_object(Bucket=self.bucket_name, Key=key, VersionId=version_id))
        except StorageError:
            return False
        retained_until: Any = head.get("ObjectLockRetainUntilDate")
        retained = bool(retained_until and retained_until > timezone.now())
        return retained or head.get("ObjectLockLegalHoldStatus") == "ON"
