"""Erase objects in storage: uploaded files and earlier exports with the copies beside them, each in every version.

Objects have no locks. So an open upload is aborted first, then every version of its key is removed, and only
then does the row go that names the key: a kill in between leaves the row, and the next run begins again from it.
Storage is called outside any transaction. One request's failing object does not stop another's.

What an export left unfinished in a client's bucket is removed there. Whole exports there are the client's, and so is
whatever lies in a bucket that is no longer the chatbot's: our rows forget their keys, which bear the chatter's value.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from typing import Literal, NamedTuple, TypeVar
from uuid import UUID

from django.db import connection, transaction

from chatbots.buckets import ObjectStorage
from compliance import progress
from compliance.errors import StepFailed
from compliance.whereabouts import HOSTED, OUT_OF_REACH, Whereabouts, storage_of
from config.arrays import array

logger = logging.getLogger(__name__)

# A worker's bite, or a plain transaction where no claim is needed.
Bite = Callable[[], AbstractContextManager[datetime | None]]

_OBJECTS_PER_BITE = 100
_SECONDS_BETWEEN_KEEPS = 15.0
# Rows that only name something, removed by one statement.
_ROWS_PER_BITE = 10_000

Failures = dict[UUID, StepFailed]

_T = TypeVar("_T")


class Located(NamedTuple):
    row_id: int
    key: str
    request_id: UUID
    where: Whereabouts


_FILES = """
SELECT f.id, f.object_key, ours.id, f.chatbot_id, 'hosted', '', ''
  FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT id FROM conversations_conversation WHERE deletion_request_id = ours.id OFFSET 0) AS marked
 CROSS JOIN LATERAL (
       SELECT id, object_key, chatbot_id
         FROM conversations_uploadedfile WHERE conversation_id = marked.id OFFSET 0) AS f
 LIMIT %s
"""

_EXPORTS = """
SELECT e.id, e.key, ours.id, e.chatbot_id, e.hosting, e.bucket, e.endpoint
  FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT * FROM compliance_export WHERE doomed_by = ours.id AND key IS NOT NULL OFFSET 0) AS e
 LIMIT %s
"""

_COPIES = """
SELECT f.id, f.key, ours.id, e.chatbot_id, e.hosting, e.bucket, e.endpoint
  FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT * FROM compliance_export WHERE {exports} OFFSET 0) AS e
 CROSS JOIN LATERAL (
       SELECT id, key FROM compliance_exportfile WHERE export_id = e.id OFFSET 0) AS f
 LIMIT %s
"""
_DOOMED_COPIES = _COPIES.format(exports="doomed_by = ours.id AND key IS NOT NULL")
_COPIES_OF_REQUESTS = _COPIES.format(exports="request_id = ours.id")
# A retry that was asked for meanwhile may have copies of its own by now, and be whole even.
_EXPIRED_COPIES = _COPIES.format(
    exports="""request_id = ours.id AND (expires_at < now() OR EXISTS (
       SELECT FROM compliance_compliancerequest
        WHERE id = ours.id AND status IN ('failed', 'cancelled', 'rejected')))"""
)

_IN_CLIENTS_BUCKETS = """
SELECT DISTINCT doomed_by FROM compliance_export
 WHERE doomed_by = ANY(%s) AND key IS NOT NULL AND hosting = 'client'
"""

_FORGET_COPIES = "DELETE FROM compliance_exportfile WHERE id = ANY(%s) RETURNING id"

_FORGET_OUT_OF_REACH = f"""
WITH lost AS (
    SELECT e.id FROM compliance_export e
     WHERE e.{{by}} = ANY(%s) AND e.key IS NOT NULL AND e.finished_at IS NULL AND {OUT_OF_REACH}
     ORDER BY e.id FOR UPDATE OF e
), copies AS (
    DELETE FROM compliance_exportfile f USING lost WHERE f.export_id = lost.id
)
UPDATE compliance_export e SET key = NULL, upload_id = NULL, left_by = coalesce(e.doomed_by, e.left_by)
  FROM lost WHERE e.id = lost.id
RETURNING e.id
"""  # noqa: S608  (constants of ours)

_LEFT_TO_CLIENTS = "left_by = ANY(%s) AND hosting = 'client' AND finished_at IS NOT NULL AND key IS NOT NULL"
_FORGET_LEFT_COPIES = f"""
DELETE FROM compliance_exportfile WHERE id IN (
    SELECT f.id FROM compliance_exportfile f
     WHERE f.export_id IN (SELECT id FROM compliance_export WHERE {_LEFT_TO_CLIENTS}) LIMIT %s)
"""  # noqa: S608  (constants of ours)
# Of the chatter's own. Another's, which holds a conversation they shared, bears the other's value: the other's own
# deletion, if there ever is one, still has to meet it.
_FORGET_LEFT = f"""
UPDATE compliance_export e SET key = NULL
  FROM compliance_compliancerequest made, compliance_compliancerequest d
 WHERE {_LEFT_TO_CLIENTS} AND made.id = e.request_id AND d.id = e.left_by
   AND made.variable_id = d.variable_id AND made.uci_digest = d.uci_digest
"""  # noqa: S608  (constants of ours)

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
    """Remove the exports that these requests' marks have doomed, copies first; their rows stay, without the key."""
    with bite():
        forget_out_of_reach(request_ids, by="doomed_by")
    failures = _erase(bite, request_ids, find=_DOOMED_COPIES, counter="", forget=_FORGET_COPIES)
    left = [request_id for request_id in request_ids if request_id not in failures]
    return failures | _erase(bite, left, find=_EXPORTS, counter="exports", forget=_FORGET_EXPORTS)


def erase_copies(bite: Bite, request_ids: Sequence[UUID], *, find: str = _COPIES_OF_REQUESTS) -> Failures:
    """Remove the copies of files beside these export requests' files, with their rows. For whoever claims them."""
    if not request_ids:
        return {}
    return _erase(bite, request_ids, find=find, counter="", forget=_FORGET_COPIES)


def erase_expired_copies(request_ids: Sequence[UUID]) -> Failures:
    """As `erase_copies`, for whoever claims nothing: only while the exports' days are over, or they are given up."""
    return erase_copies(transaction.atomic, request_ids, find=_EXPIRED_COPIES)


def in_clients_buckets(request_ids: Sequence[UUID]) -> list[UUID]:
    """Return those of these deletions that have to remove something from a client's bucket."""
    with connection.cursor() as cursor:
        cursor.execute(_IN_CLIENTS_BUCKETS, [array(request_ids)])
        return [row[0] for row in cursor.fetchall()]


def forget_out_of_reach(request_ids: Sequence[UUID], *, by: Literal["doomed_by", "request_id"]) -> None:
    """Forget unfinished exports that lie in a bucket which is no longer the chatbot's, in the caller's bite."""
    with connection.cursor() as cursor:
        cursor.execute(_FORGET_OUT_OF_REACH.format(by=by), [array(request_ids)])
        lost = [row[0] for row in cursor.fetchall()]
    if lost:
        logger.warning("export.left_in_former_bucket exports=%s", ",".join(map(str, lost)))


def forget_copies_left(bite: Bite, request_ids: Sequence[UUID]) -> None:
    """Remove the rows, not the objects, of copies beside the exports that these deletions leave to clients."""
    while True:
        with bite(), connection.cursor() as cursor:
            cursor.execute(_FORGET_LEFT_COPIES, [array(request_ids), _ROWS_PER_BITE])
            if cursor.rowcount < _ROWS_PER_BITE:
                return


def forget_left(request_ids: Sequence[UUID]) -> None:
    """Forget the keys of the chatters' exports that these deletions leave to clients, in the bite that completes.

    Before the chatters' digests are forgotten.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FORGET_LEFT, [array(request_ids)])


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
            forgotten = _forget(forget, gone)
            if counter:
                progress.add_counts(_per_request(forgotten, counter))


def _locate(find: str, request_ids: Sequence[UUID]) -> list[Located]:
    with connection.cursor() as cursor:
        cursor.execute(find, [array(request_ids), _OBJECTS_PER_BITE])
        return [
            Located(row_id, key, request_id, Whereabouts(*where))
            for row_id, key, request_id, *where in cursor.fetchall()
        ]


def _purge(bite: Bite, located: Sequence[Located], failures: Failures) -> list[Located]:
    """Purge the objects; note the failures, and return those that are gone."""
    by_place: dict[Whereabouts, list[Located]] = defaultdict(list)
    for row in located:
        by_place[_bucket_of(row.where)].append(row)
    gone: list[Located] = []
    for where, rows in by_place.items():
        try:
            gone += _purge_from(storage_of(where), bite, rows, failures)
        except StepFailed as failure:
            failures |= {row.request_id: failure for row in rows if row.request_id not in failures}
    return gone


def _bucket_of(where: Whereabouts) -> Whereabouts:
    """Let all that lies in the hosted bucket share calls, whosever it is."""
    return Whereabouts(0) if where.hosting == HOSTED else where


def _purge_from(storage: ObjectStorage, bite: Bite, located: Sequence[Located], failures: Failures) -> list[Located]:
    removed = _keeping(bite, partial(storage.purge_many, [row.key for row in located]))
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
