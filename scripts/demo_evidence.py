"""The places that the demo searches without the API: the whole database, the whole bucket, the logs."""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from django.conf import settings
from django.db import connection

from chatbots.buckets import hosted_storage
from devservers.postgres import postgres_program

TABLES = ("message", "identity", "variablevalue", "nameword", "uploadedfile")


def dump() -> str:
    """Return the whole database, every table, as plain text by pg_dump."""
    where = settings.DATABASES["default"]
    words = ["--host", where["HOST"], "--port", where["PORT"], "--username", where["USER"], where["NAME"]]
    done = subprocess.run([postgres_program("pg_dump"), *words], check=True, capture_output=True)
    return done.stdout.decode()


def objects() -> dict[str, bytes]:
    """Return every version of every object in the bucket, by key and version."""
    storage = hosted_storage()
    client = storage.client
    found = {}
    for key, version in storage.versions():
        answer = client.get_object(Bucket=storage.bucket_name, Key=key, VersionId=version)
        found[f"{key} {version}"] = answer["Body"].read()
    return found


def keys_and_contents(stored: Mapping[str, bytes]) -> list[str | bytes]:
    """Return the keys and the contents of objects, to be searched."""
    return [*stored.keys(), *stored.values()]


def logs() -> list[bytes]:
    """Return the logs of all processes."""
    return [path.read_bytes() for path in log_files(settings.VAR_DIR) if path.exists()]


def log_files(var_dir: Path) -> list[Path]:
    return [var_dir / name for name in ("web.log", "worker.log", "postgres/log", "s3/log")]


def found(traces: Iterable[str], places: Iterable[str | bytes]) -> set[str]:
    """Return those traces that occur in the texts."""
    texts = [place if isinstance(place, bytes) else place.encode() for place in places]
    return {trace for trace in traces if any(trace.encode() in text for text in texts)}


def rows_of(conversation_ids: Iterable[str]) -> list[str]:
    """Return the rows of these conversations, as PostgreSQL writes them."""
    rows: list[str] = []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, c::text FROM conversations_conversation c WHERE external_id = ANY(%s) ORDER BY id",
            [list(conversation_ids)],
        )
        conversations = cursor.fetchall()
        for table in TABLES:
            cursor.execute(
                f"SELECT t::text FROM conversations_{table} t WHERE conversation_id = ANY(%s) ORDER BY 1",  # noqa: S608
                [[number for number, _ in conversations]],
            )
            rows += [f"{table} {text}" for (text,) in cursor.fetchall()]
    return [*(text for _, text in conversations), *rows]


def count(table: str, condition: str = "TRUE") -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table} WHERE {condition}")  # noqa: S608  texts of ours
        return int(cursor.fetchone()[0])


def tasks_ever_queued() -> int:
    """Return how many django-q2 tasks were ever inserted, including finished ones, which have no row."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM django_q_ormq_id_seq")
        return int(cursor.fetchone()[0])
