"""Helpers for functional tests: dumps, scans of the bucket, worker processes, waits."""

import base64
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from django.conf import settings
from django.db import connection

from common.storage import ObjectStorage
from scripts.processes import Processes
from tests.oracle.words import unzipped
from tests.under_roles import ROLES

ROOT = Path(__file__).resolve().parents[2]

Rows = dict[str, set[tuple[str | None, ...]]]


# Including tables without a model.
_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
 ORDER BY 1
"""


def dump() -> str:
    """The rows of all tables as text, in the form of pg_dump, which takes ten times as long."""
    parts = []
    with connection.cursor() as cursor:
        cursor.execute(_TABLES)
        for (table,) in cursor.fetchall():
            with cursor.copy(f"COPY {table} TO STDOUT") as copied:
                parts += [f"COPY {table}\n", b"".join(copied).decode(), "\\.\n"]
    return "".join(parts)


def rows_of(text: str) -> Rows:
    """The rows of a dump, by table."""
    rows: Rows = defaultdict(set)
    table = None
    for line in text.splitlines():
        if line.startswith("COPY "):
            table = line.split()[1].removeprefix("public.")
            rows[table] = set()
        elif line == "\\.":
            table = None
        elif table:
            rows[table].add(tuple(None if cell == "\\N" else cell for cell in line.split("\t")))
    return rows


def everything_in(storage: ObjectStorage) -> str:
    """Keys and contents of all objects in the bucket, in every version, as one text."""
    client = storage.client
    parts = []
    for version in storage.versions():
        parts.append(version.key)
        answer = client.get_object(Bucket=storage.bucket_name, Key=version.key, VersionId=version.version_id)
        parts.append(unzipped(answer["Body"].read()).decode("utf-8", "replace"))
    return "\n".join(parts)


def worker_environment(*, role: str = "worker", database: str = "") -> dict[str, str]:
    """The environment for another process on this test's database and bucket, with a `role` of ROLES."""
    server = connection.settings_dict
    ring = ",".join(
        f"{name}:{base64.urlsafe_b64encode(key).decode()}" for name, key in settings.ENCRYPTION_KEYS.items()
    )
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": f"postgresql://{ROLES.get(role, role)}@{quote(server['HOST'], safe='')}:{server['PORT']}"
        f"/{database or server['NAME']}",
        "SECRET_KEY": settings.SECRET_KEY,
        "ENCRYPTION_KEYS": ring,
        "DIGEST_KEY": f"test:{base64.urlsafe_b64encode(settings.DIGEST_KEY).decode()}",
        "ALLOWED_HOSTS": "localhost",
        "BACKUP_HORIZON_DAYS": "30",
        "S3_ENDPOINT_URL": settings.S3_ENDPOINT_URL or "",
        "S3_ACCESS_KEY_ID": settings.S3_ACCESS_KEY_ID,
        "S3_SECRET_ACCESS_KEY": settings.S3_SECRET_ACCESS_KEY,
        "S3_BUCKET": settings.S3_BUCKET,
        # Clients' buckets of tests are on this machine too.
        "BUCKET_PRIVATE_NETWORKS": "127.0.0.0/8",
    }


def manage(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / "manage.py"), *words]


def start_cluster(processes: Processes) -> subprocess.Popen[bytes]:
    return processes.start("worker", manage("qcluster"), env=worker_environment())


def wait_until(true: Callable[[], bool], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
