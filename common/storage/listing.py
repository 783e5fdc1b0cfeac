"""The listings of a bucket: visible objects, versions, and open uploads."""

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from common.storage.calls import Calls

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_T = TypeVar("_T")


class Version(NamedTuple):
    """One version of an object, or one of its delete markers. In an unversioned bucket the id is `null`."""

    key: str
    version_id: str


class OpenUpload(NamedTuple):
    """A multipart upload that is neither completed nor aborted."""

    key: str
    upload_id: str
    begun_at: datetime


class Listed(NamedTuple):
    """A version of an object, or one of its delete markers (which have no bytes), in a listing."""

    key: str
    version_id: str
    bytes: int
    modified_at: datetime
    is_latest: bool
    is_marker: bool


class Listing:
    """Mixed into `ObjectStorage`."""

    client: "S3Client"
    bucket_name: str
    calls: Calls

    def keys(self, prefix: str = "", *, after: str = "") -> Iterator[str]:
        """Yield the keys of the visible objects that begin with `prefix`, in order; only those after `after`."""
        return self._listed(
            "list_objects_v2",
            prefix,
            lambda page: [entry["Key"] for entry in page.get("Contents", ())],
            **({"StartAfter": after} if after else {}),
        )

    def versions(self, prefix: str = "") -> Iterator[Version]:
        """Yield all versions and delete markers of the keys that begin with `prefix`, visible or not."""
        return self._listed(
            "list_object_versions",
            prefix,
            lambda page: [
                Version(entry["Key"], entry["VersionId"])
                for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
            ],
        )

    def versions_by_key(self, prefix: str = "") -> Iterator[tuple[str, list[Listed]]]:
        """Yield each key that begins with `prefix` with all its versions and markers, in the order of the listing."""
        listed = self._listed("list_object_versions", prefix, _versions_of)
        for key, versions in groupby(listed, key=attrgetter("key")):
            yield key, list(versions)

    def uploads(self, prefix: str = "") -> Iterator[OpenUpload]:
        """Yield the open multipart uploads of the keys that begin with `prefix`."""
        return self._listed(
            "list_multipart_uploads",
            prefix,
            lambda page: [
                OpenUpload(entry["Key"], entry["UploadId"], entry["Initiated"]) for entry in page.get("Uploads", ())
            ],
        )

    def _listed(
        self, listing: Any, prefix: str, read: Callable[[dict[str, Any]], list[_T]], **options: str
    ) -> Iterator[_T]:
        pages: Any = self.client.get_paginator(listing)
        found = (read(page) for page in pages.paginate(Bucket=self.bucket_name, Prefix=prefix, **options))
        return chain.from_iterable(self.calls.each(found))


def _versions_of(page: Any) -> list[Listed]:
    found = [
        Listed(v["Key"], v["VersionId"], v["Size"], v["LastModified"], v["IsLatest"], is_marker=False)
        for v in page.get("Versions", ())
    ]
    found += [
        Listed(m["Key"], m["VersionId"], 0, m["LastModified"], m["IsLatest"], is_marker=True)
        for m in page.get("DeleteMarkers", ())
    ]
    # A page lists markers separately. Keys are ordered across pages.
    return sorted(found, key=lambda each: each.key.encode())
