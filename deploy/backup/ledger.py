"""Copy the erasure ledger between the hosted bucket and a folder that is backed up with the database.

    ledger.py save FOLDER    copy the objects that the folder lacks
    ledger.py load FOLDER    put the objects of the folder that the bucket lacks back, under their keys

The bucket is that of `S3_*`. Both can be repeated. Objects that are removed from the bucket before their time stay in
the folder; those that are older than `ERASURE_LEDGER_DAYS` end in it as in the bucket.
"""

import os
import sys
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

import boto3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PREFIX = "erasure_ledger/"
DAY = 86_400


def save(client: "S3Client", bucket: str, folder: Path, days: int) -> int:
    """Copy what the folder lacks, remove from it what is too old, and return the number of copies."""
    copied, known = 0, set()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PREFIX):
        for found in page.get("Contents", ()):
            path = _path(folder, found["Key"])
            known.add(path)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(f"{path.name}.part")
                part.write_bytes(client.get_object(Bucket=bucket, Key=found["Key"])["Body"].read())
                written = found["LastModified"].timestamp()
                os.utime(part, (written, written))
                part.rename(path)
                copied += 1
    for path in folder.rglob("*"):
        if path.is_file() and path not in known and path.stat().st_mtime < time() - days * DAY:
            path.unlink()
    return copied


def load(client: "S3Client", bucket: str, folder: Path) -> int:
    """Put what the bucket lacks back, and return the number of objects. Raises ClientError."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PREFIX)
    there = {found["Key"] for page in pages for found in page.get("Contents", ())}
    keys = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    missing = [key for key in sorted(keys) if key.startswith(PREFIX) and key not in there]
    for key in missing:
        client.put_object(Bucket=bucket, Key=key, Body=keys[key].read_bytes())
    return len(missing)


def _path(folder: Path, key: str) -> Path:
    """Return the file of an object; no key leads out of the folder. Raises ValueError."""
    path = (folder / key).resolve()
    if not path.is_relative_to(folder):
        raise ValueError("A key leads out of the folder.")
    return path


def main(words: list[str]) -> str | None:
    """Return what went wrong, for `sys.exit`."""
    if len(words) != 2 or words[0] not in {"save", "load"}:
        return __doc__
    folder = Path(words[1]).resolve()
    bucket = os.environ["S3_BUCKET"]
    client = boto3.client(
        "s3",
        endpoint_url=os.environ.get("S3_ENDPOINT_URL") or None,
        aws_access_key_id=os.environ["S3_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["S3_SECRET_ACCESS_KEY"],
        region_name=os.environ.get("S3_REGION") or "us-east-1",
    )
    if words[0] == "save":
        copied = save(client, bucket, folder, int(os.environ.get("ERASURE_LEDGER_DAYS") or 90))
    else:
        copied = load(client, bucket, folder)
    sys.stdout.write(f"{copied} objects were copied.\n")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
