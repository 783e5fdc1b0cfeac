"""Erase objects in storage: uploaded files and earlier exports, each in every version.

Objects have no locks. So an open upload is aborted first, then every version of its key is removed, and only
then does the row go that names the key: a kill in between leaves the row, and the next run begins again from it.
Storage is called outside any transaction. One request's failing object does not stop another's.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from typing import NamedTuple, TypeVar
from uuid import UUID

from django.db import connection

from chatbots.buckets import hosted_storage
from compliance import progress
from compliance.errors import StepFailed
from config.arrays import array

# A worker's bite, or a plain transaction where no claim is needed.
Bite = Callable[[], AbstractContextManager[datetime | None]]

_OBJECTS_PER_BITE = 100
_SECONDS_BETWEEN_KEEPS = 15.0

Failures = dict[UUID, StepFailed]

_T = TypeVar("_T")


class Located(NamedTuple):
    row_id: int
    key: str
    request_id: UUID


_FILES = """
SELECT f.id, f.object_key, ours.id
  FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT id FROM conversations_conversation WHERE deletion_request_id = ours.id OFFSET 0) AS marked
 CROSS JOIN LATERAL (
       SELECT id, object_key FROM conversations_uploadedfile WHERE conversation_id = marked.id OFFSET 0) AS f
 LIMIT %s
"""

_EXPORTS = """
SELECT e.id, e.key, ours.id
  FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT id, key FROM compliance_export WHERE doomed_by = ours.id AND key IS NOT NULL OFFSET 0) AS e
 LIMIT %s
"""

_FORGET_FILES = "DELETE FROM conversations_uploadedfile WHERE id = ANY(%s) RETURNING id"

_FORGET_EXPORTS = """
UPDATE compliance_export SET key = NULL, upload_id = NULL, removed_at = now()
 WHERE id = ANY(%s) AND key IS NOT NULL RETURNING id
"""


def has_any(request_ids: Sequence[UUID]) -> bool:
    """Say whether these requests have any object to remove."""
    with connection.cursor() as cursor:
        for find in (_FILES, _EXPORTS):
            cursor.execute(find, [array(request_ids), 1])
            if cursor.fetchone():
                return True
    return False


def erase_files(bite: Bite, request_ids: Sequence[UUID]) -> Failures:
    """Remove the uploaded files of what these requests marked, open uploads included, then their rows."""
    return _erase(bite, request_ids, find=_FILES, counter="files", forget=_FORGET_FILES)


def erase_exports(bite: Bite, request_ids: Sequence[UUID]) -> Failures:
    """Remove the exports that these requests' marks have doomed; their rows stay, without the key."""
    return _erase(bite, request_ids, find=_EXPORTS, counter="exports", forget=_FORGET_EXPORTS)


def _erase(
    bite: Bite,
    request_ids: Sequence[UUID],
    *,
    find: str,
    counter: str,
    forget: str,
) -> Failures:
    failures: Failures = {}
    while True:
        trying = [request_id for request_id in request_ids if request_id not in failures]
        with bite():
            located = _locate(find, trying)
        if not located:
            return failures
        gone = _purge(bite, located, failures)
        with bite():
            progress.add_counts(_per_request(_forget(forget, gone), counter))


def _locate(find: str, request_ids: Sequence[UUID]) -> list[Located]:
    with connection.cursor() as cursor:
        cursor.execute(find, [array(request_ids), _OBJECTS_PER_BITE])
        return [Located(*row) for row in cursor.fetchall()]


def _purge(bite: Bite, located: Sequence[Located], failures: Failures) -> list[Located]:
    """Purge the objects; note the failures, and return those that are gone."""
    removed = _keeping(bite, partial(hosted_storage().purge_many, [row.key for row in located]))
    for row in located:
        error = removed.failed.get(row.key)
        known = failures.get(row.request_id)
        # What needs a person goes before what needs time.
        if error and (known is None or known.retryable):
            failures[row.request_id] = StepFailed(error.code, error.detail, retryable=error.retryable)
    return [row for row in located if row.key not in removed.failed]


def _keeping(bite: Bite, work: Callable[[], _T]) -> _T:
    """Let a thread do the work, and renew the claim meanwhile: a slow storage can take longer than a lease."""
    with ThreadPoolExecutor(max_workers=1) as threads:
        working = threads.submit(work)
        while not wait([working], timeout=_SECONDS_BETWEEN_KEEPS).done:
            with bite():
                pass
        return working.result()


def _per_request(gone: Sequence[Located], counter: str) -> dict[UUID, progress.Counts]:
    counts: dict[UUID, progress.Counts] = {}
    for row in gone:
        counts.setdefault(row.request_id, Counter())[counter] += 1
    return counts


def _forget(statement: str, gone: Sequence[Located]) -> list[Located]:
    """Let the rows go, or their keys; return those that nobody else had let go before."""
    with connection.cursor() as cursor:
        cursor.execute(statement, [array(row.row_id for row in gone)])
        forgotten = {row_id for (row_id,) in cursor.fetchall()}
    return [row for row in gone if row.row_id in forgotten]
