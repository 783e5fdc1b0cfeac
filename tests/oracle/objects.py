"""All that a bucket holds."""

from dataclasses import dataclass
from typing import Any, NamedTuple


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


def objects_in(bucket: str, client: Any) -> Objects:
    versions = []
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for each in page.get("Versions", []):
            found = client.get_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
            versions.append(ObjectVersion(each["Key"], each["VersionId"], found["Body"].read(), each["IsLatest"]))
        markers = page.get("DeleteMarkers", [])
        versions += [ObjectVersion(each["Key"], each["VersionId"], None, each["IsLatest"]) for each in markers]
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return Objects(versions, [each["Key"] for each in uploads if _has_parts(bucket, each, client)])


def _has_parts(bucket: str, upload: dict[str, Any], client: Any) -> bool:
    return bool(client.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]).get("Parts"))
