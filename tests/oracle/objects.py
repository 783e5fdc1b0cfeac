"""All that a bucket holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from botocore.exceptions import ClientError


class ObjectVersion(NamedTuple):
    """One version of an object. A delete marker has no body."""

    key: str
    version: str
    body: bytes | None
    is_latest: bool = True


@dataclass(frozen=True)
class Objects:
    """Every version of every object of a bucket, and the keys of open multipart uploads of which parts were sent.

    Without a part one may be left where the call that opens it reaches the storage after it was given up (ADR 0005).
    """

    versions: list[ObjectVersion]
    uploads: list[str]


# By key, version and tag.
Bodies = dict[tuple[str, str, str], bytes]


def objects_in(bucket: str, client: Any) -> Objects:
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return Objects(
        list(versions_in(bucket, client)), [each["Key"] for each in uploads if _has_parts(bucket, each, client)]
    )


def versions_in(
    bucket: str, client: Any, *, known: Bodies | None = None, but: str | None = None
) -> Iterator[ObjectVersion]:
    """Yield all versions, but those whose keys begin with `but`. `known` remembers their bodies for the next time."""
    known = {} if known is None else known
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for each in page.get("Versions", []):
            if but is not None and each["Key"].startswith(but):
                continue
            key, version = each["Key"], each["VersionId"]
            body = known.get((key, version, each["ETag"])) or _body(bucket, key, version, client)
            if body is not None:  # else it was removed since it was listed
                known[key, version, each["ETag"]] = body
                yield ObjectVersion(key, version, body, each["IsLatest"])
        for each in page.get("DeleteMarkers", []):
            yield ObjectVersion(each["Key"], each["VersionId"], None, each["IsLatest"])


def _body(bucket: str, key: str, version: str, client: Any) -> bytes | None:
    try:
        raw: bytes = client.get_object(Bucket=bucket, Key=key, VersionId=version)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"NoSuchKey", "NoSuchVersion"}:
            raise
        return None
    return raw


def _has_parts(bucket: str, upload: dict[str, Any], client: Any) -> bool:
    return bool(client.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]).get("Parts"))
