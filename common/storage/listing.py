"""The entries of a bucket's listings, and the versions of objects."""

from collections.abc import Generator
from datetime import datetime
from typing import Any, NamedTuple


class Listed(NamedTuple):
    """A version of an object, or one of its delete markers (which have no bytes), in a listing."""

    key: str
    version_id: str
    bytes: int
    modified_at: datetime
    is_latest: bool
    is_marker: bool


class StoredVersion(NamedTuple):
    """One version of an object: its metadata as text, and its content, which is read on demand."""

    headers: str
    pieces: Generator[bytes]


def versions_of(page: Any) -> list[Listed]:
    """Return the entries of a page of a listing of versions."""
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
