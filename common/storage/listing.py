"""Lists a whole bucket with every version, for reconciliation. Raises StorageError.

Memory holds one page of the listing and the versions of one key.
"""

from collections.abc import Iterator
from datetime import datetime
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, NamedTuple

from common.storage.errors import GONE
from common.storage.s3 import ObjectStorage


class Listed(NamedTuple):
    """One version of an object, or one of its delete markers (which have no bytes)."""

    key: str
    version_id: str
    bytes: int
    modified_at: datetime
    is_latest: bool
    is_marker: bool


def versions_by_key(storage: ObjectStorage) -> Iterator[tuple[str, list[Listed]]]:
    """Yield each key with all its versions and markers, in the order of the listing."""
    for key, versions in groupby(_listed(storage), key=attrgetter("key")):
        yield key, list(versions)


def size_of(storage: ObjectStorage, key: str) -> int | None:
    """Return the size of the visible object, or None."""
    with storage.calls(passing=GONE) as call:
        head = storage.client.head_object(Bucket=storage.bucket_name, Key=key)
    return None if call.code else head["ContentLength"]


def _listed(storage: ObjectStorage) -> Iterator[Listed]:
    pages = storage.client.get_paginator("list_object_versions").paginate(Bucket=storage.bucket_name)
    return chain.from_iterable(storage.calls.each(_read(page) for page in pages))


def _read(page: Any) -> list[Listed]:
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
