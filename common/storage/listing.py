"""What a bucket has, as it is listed and read."""

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
    """One version of an object: what is stored with it, as text, and its content, read as it is asked for."""

    headers: str
    pieces: Generator[bytes]


def versions_of(page: Any) -> list[Listed]:
    """Return what a page of a listing of versions has."""
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
