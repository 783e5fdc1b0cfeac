"""Erase objects in storage: uploaded files, and earlier exports with the files beside them, each in every version.

Objects have no locks. So an open upload is aborted first, then every version of its key is removed, and the row with
the key is deleted last: after a kill in between, the next run starts again from the row. Storage is called outside
transactions. One request's failing object does not stop another's.

Unfinished exports in a client's bucket are removed there. Finished ones are the client's, and so is everything in a
bucket that is no longer the chatbot's: the keys in our rows, which contain the chatter's value, are cleared.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.db import transaction

from common.db import array, execute, fetch
from common.leases import LeaseRenewer
from common.storage import ObjectStorage, StorageError
from common.storage.removal import Removed
from compliance.erasure import rows
from compliance.errors import StepFailed
from compliance.models import LeftCopy
from compliance.storage_locations import HOSTED, OUT_OF_REACH, RecordedLocation, folder_of, storage_of
from compliance.work.scope import DELETIONS, GOES, Scope
from compliance.work.sql import subjects
from compliance.work.transitions import completion
from compliance.work.upload_pool import UploadPool

logger = logging.getLogger(__name__)

# Begins a transaction: one that holds a worker's claim, or a plain one where no claim is needed.
Begin = Callable[[], AbstractContextManager[datetime | None]]

_OBJECTS_PER_CALL = 100
# Found by one statement, which reads everything in scope.
_OBJECTS_LOCATED = 2_000

Failures = dict[UUID, StepFailed]
# Deletes these rows of these chatbots, or clears their keys; returns those that still had the key.
Forget = Callable[[Collection[tuple[int, str]], Collection[int]], set[int]]


class Located(NamedTuple):
    """An object and its row. `counts`: whether it counts as erased; an unfinished upload does not.

    `is_unfinished`: whether it is an unfinished export, so that files beside it may have no row.
    """

    row_id: int
    key: str
    request_id: UUID
    counts: bool
    is_unfinished: bool
    where: RecordedLocation


# Two deletions can have the same file in scope: it is tried for one, and if that fails for the other as well.
# Without OFFSET 0 and statistics, PostgreSQL may read all files of the chatbot (`test_plans`).
_FILES = """
{of.head}, files AS MATERIALIZED (
    SELECT f.*, s.request_id
      FROM scope AS s
     CROSS JOIN LATERAL (
           SELECT id, object_key, chatbot_id, size, message_id
             FROM conversations_uploadedfile
            WHERE conversation_id = s.id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS f
     WHERE {of.file} AND {of.closed}
     LIMIT %(most)s
)
SELECT id, object_key, request_id, size IS NOT NULL, FALSE, chatbot_id, 'hosted', '', '' FROM files
"""

# GOES has a condition on the key. In the look-up, this condition would make PostgreSQL read all exports with a key,
# for each row (`test_stale_statistics`).
_GOING = f"""
{{of.met}}, going AS (
    SELECT e.id, e.key, met.request_id, e.chatbot_id, e.hosting, e.bucket, e.endpoint, e.finished_at
      FROM met
     CROSS JOIN LATERAL (
           SELECT * FROM compliance_export WHERE id = met.export_id OFFSET 0) AS e
     CROSS JOIN LATERAL (
           SELECT variable_id, uci_digest, erase_exports
             FROM compliance_compliancerequest WHERE id = met.request_id OFFSET 0) AS r
     WHERE {GOES}
)
"""
# Only rows that still have these keys: a retry may have given them others since.
_GIVEN = "SELECT * FROM unnest(%(rows)s::bigint[], %(keys)s::text[])"
# From now on every deletion with them in its scope removes them, and they are no longer handed out.
_EXPIRE = f"""
WITH going AS (
    SELECT id FROM compliance_export WHERE (id, key) IN ({_GIVEN}) ORDER BY id FOR NO KEY UPDATE
)
UPDATE compliance_export e SET expires_at = clock_timestamp()
  FROM going WHERE e.id = going.id AND e.expires_at > clock_timestamp()
"""
_EXPORTS = """
{going}
SELECT e.id, e.key, e.request_id, TRUE, e.finished_at IS NULL, e.chatbot_id, e.hosting, e.bucket, e.endpoint
  FROM going AS e
 WHERE {reach}
 LIMIT %(most)s
"""

_COPIES = """
{going}
SELECT f.id, f.key, e.request_id, FALSE, FALSE, e.chatbot_id, e.hosting, e.bucket, e.endpoint
  FROM going AS e
 CROSS JOIN LATERAL (
       SELECT id, key FROM compliance_exportfile WHERE export_id = e.id OFFSET 0) AS f
 WHERE {reach}
 LIMIT %(most)s
"""
_GOING_OUT_OF_REACH = f"""
{{going}}
SELECT e.chatbot_id, e.request_id, e.id FROM going AS e WHERE e.finished_at IS NULL AND {OUT_OF_REACH}
"""
_COPIES_OF_REQUESTS = _COPIES.format(
    going="WITH going AS (SELECT * FROM compliance_export WHERE request_id = ANY(%(ids)s))", reach="TRUE"
)
# Exports that have expired or were given up. One that was retried meanwhile has copies of its own, and may be
# finished.
_OVER = """
WITH going AS (
    SELECT * FROM compliance_export AS given
     WHERE request_id = ANY(%(ids)s) AND key IS NOT NULL AND (expires_at < now() OR (finished_at IS NULL AND EXISTS (
           SELECT FROM compliance_compliancerequest
            WHERE id = given.request_id AND status IN ('failed', 'cancelled', 'rejected')))))
"""

_FORGET_COPIES = f"DELETE FROM compliance_exportfile WHERE (id, key) IN ({_GIVEN}) RETURNING id"

_FORGET_OUT_OF_REACH = f"""
WITH lost AS (
    SELECT e.id FROM compliance_export e
     WHERE e.id = ANY(%s::bigint[]) AND e.key IS NOT NULL AND e.finished_at IS NULL AND {OUT_OF_REACH}
     ORDER BY e.id FOR UPDATE OF e
), copies AS (
    DELETE FROM compliance_exportfile f USING lost WHERE f.export_id = lost.id
)
UPDATE compliance_export e SET key = NULL, upload_id = NULL, was_left_in_former_bucket = TRUE
  FROM lost WHERE e.id = lost.id
RETURNING e.id
"""
_FORGET_FILES = f"""
DELETE FROM conversations_uploadedfile
 WHERE chatbot_id = ANY(%(chatbots)s) AND (id, object_key) IN ({_GIVEN}) RETURNING id, conversation_id
"""

# Not an export with another key by now: a retry has removed the former object and started again. The numbers of their
# conversations stay a text, since there can be very many.
_FORGET_EXPORTS = f"""
WITH gone AS (
    SELECT id FROM compliance_export WHERE (id, key) IN ({_GIVEN}) ORDER BY id FOR UPDATE
), holding AS (
    DELETE FROM compliance_exportconversation held USING gone WHERE held.export_id = gone.id
    RETURNING held.conversation_id
), cleared AS (
    UPDATE compliance_export e SET key = NULL, upload_id = NULL, removed_at = now()
      FROM gone WHERE e.id = gone.id
    RETURNING e.id
)
SELECT ARRAY(SELECT id FROM cleared), (SELECT array_agg(DISTINCT conversation_id)::text FROM holding)
"""


def erase_files(
    begin: Begin, request_ids: Sequence[UUID], *, of: Scope = DELETIONS, forgets_names: bool = False
) -> Failures:
    """Remove the uploaded files in the scope of these requests, with open uploads, then their rows.

    With `forgets_names`, for completed deletions, the digests of people in the conversations go with the last file.
    """

    def forget(gone: Collection[tuple[int, str]], chatbot_ids: Collection[int]) -> set[int]:
        deleted = fetch(_FORGET_FILES, {**_given(gone), "chatbots": array(chatbot_ids)})
        if forgets_names:
            rows.forget_names_in(array({number for _, number in deleted}), chatbot_ids)
        return {row_id for row_id, _ in deleted}

    return _erase(begin, request_ids, find=_FILES.format(of=of), counter="files", forget=forget)


def erase_exports(begin: Begin, request_ids: Sequence[UUID], *, at_clients: bool, of: Scope = DELETIONS) -> Failures:
    """Remove the exports in these requests' scope that have to go, copies first. Their rows stay, without keys.

    Exports in clients' buckets are removed only with `at_clients`: a call to one can delay the rest of a claim.
    """
    going = _GOING.format(of=of)
    within = {"going": going, "reach": "TRUE" if at_clients else "e.hosting = 'hosted'"}
    with begin():
        # Locks all that go, in the order of the ids.
        if found := fetch(f"{going} SELECT DISTINCT id, key FROM going", subjects(request_ids)):
            execute(_EXPIRE, _given(found))
        if out_of_reach := fetch(_GOING_OUT_OF_REACH.format(going=going), subjects(request_ids)):
            # The deletions' status lists them, since their state in the bucket is unknown.
            LeftCopy.objects.bulk_create(
                [
                    LeftCopy(chatbot_id=chatbot_id, deletion_id=deletion_id, export_id=export_id, is_unfinished=True)
                    for chatbot_id, deletion_id, export_id in out_of_reach
                ],
                ignore_conflicts=True,
            )
            forget_unreachable(export_id for _, _, export_id in out_of_reach)
    return _erase_after_copies(begin, request_ids, counter="exports", **within)


def erase_copies(begin: Begin, request_ids: Sequence[UUID]) -> Failures:
    """Remove the files beside these exports, with their rows. For the worker that has claimed them."""
    return _erase(begin, request_ids, find=_COPIES_OF_REQUESTS, forget=_forget_copies)


def erase_expired(request_ids: Sequence[UUID]) -> Failures:
    """Remove those of these exports that have expired or were given up, copies first, without a claim."""
    return _erase_after_copies(transaction.atomic, request_ids, going=_OVER, reach="TRUE")


def purge_unfinished(storage: ObjectStorage, key: str) -> int:
    """Remove an unfinished export: its own object, and all that is in its folder. Raises StorageError.

    A backup that was made during the attempt has no row of the files beside it that were recorded later.
    """
    storage.purge_folder(folder_of(key))
    return storage.purge(key)


def forget_exports(gone: Collection[tuple[int, str]], chatbot_ids: Collection[int]) -> set[int]:
    """Clear the keys and recorded contents of exports whose objects are gone, in the caller's transaction.

    Each is given with its key. Returns those that still had this key. The digests of people in erased conversations
    that nothing else holds are deleted.
    """
    [(cleared, held)] = fetch(_FORGET_EXPORTS, _given(gone))
    if held:
        rows.forget_names_in(held, chatbot_ids)
    return set(cleared)


def forget_unreachable(export_ids: Iterable[int]) -> None:
    """Clear the keys of unfinished exports in a client's former bucket, in the caller's transaction."""
    lost = [row[0] for row in fetch(_FORGET_OUT_OF_REACH, [array(export_ids)])]
    if lost:
        logger.warning("export.left_in_former_bucket exports=%s", ",".join(map(str, lost)))


def _erase_after_copies(begin: Begin, request_ids: Sequence[UUID], *, counter: str = "", **within: str) -> Failures:
    failures = _erase(begin, request_ids, find=_COPIES.format(**within), forget=_forget_copies)
    left = [request_id for request_id in request_ids if request_id not in failures]
    find = _EXPORTS.format(**within)
    return failures | _erase(begin, left, find=find, counter=counter, forget=forget_exports)


def _erase(begin: Begin, request_ids: Sequence[UUID], *, find: str, forget: Forget, counter: str = "") -> Failures:
    failures: Failures = {}
    while trying := [request_id for request_id in request_ids if request_id not in failures]:
        with begin():
            located = _locate(find, trying)
        if not located:
            break
        for start in range(0, len(located), _OBJECTS_PER_CALL):
            some = [row for row in located[start : start + _OBJECTS_PER_CALL] if row.request_id not in failures]
            gone = _purge(begin, some, failures)
            with begin():
                chatbots = {row.where.chatbot_id for row in gone}
                forgotten = forget([(row.row_id, row.key) for row in gone], chatbots)
                if counter:
                    completion.add_counts(_per_request([row for row in gone if row.row_id in forgotten], counter))
    return failures


def _locate(find: str, request_ids: Sequence[UUID]) -> list[Located]:
    """Return the next objects, each once, for the first request with it in its scope."""
    values = {**subjects(request_ids), "most": _OBJECTS_LOCATED}
    found = [
        Located(row_id, key, request_id, counts, is_unfinished, RecordedLocation(*where))
        for row_id, key, request_id, counts, is_unfinished, *where in fetch(find, values)
    ]
    place = {request_id: number for number, request_id in enumerate(request_ids)}
    found.sort(key=lambda row: place[row.request_id], reverse=True)
    return list({row.row_id: row for row in found}.values())


def _purge(begin: Begin, located: Sequence[Located], failures: Failures) -> list[Located]:
    """Purge the objects, those of each bucket together; note the failures, and return those that are gone."""

    def renew() -> None:
        with begin():
            pass

    by_location: dict[RecordedLocation, list[Located]] = defaultdict(list)
    for row in located:
        # All objects in the hosted bucket share calls, whatever chatbot they belong to.
        by_location[RecordedLocation(0) if row.where.hosting == HOSTED else row.where].append(row)
    # A slow storage can take longer than a lease.
    with UploadPool[RecordedLocation, Removed](LeaseRenewer(renew)) as purging:
        for where, located_there in by_location.items():
            try:
                purging.submit(where, partial(_purge_there, storage_of(where), located_there))
            except StepFailed as failure:
                purging.failed[where] = failure
    gone: list[Located] = []
    for where, located_there in by_location.items():
        of_all = purging.failed.get(where)
        refused = {} if of_all else purging.done[where].failed
        for row in located_there:
            error, known = refused.get(row.key), failures.get(row.request_id)
            reason = StepFailed.of(error) if error else of_all
            if reason is None:
                gone.append(row)
            elif known is None or known.retryable:
                # An error that needs a person takes precedence over one that needs time.
                failures[row.request_id] = reason
    return gone


def _purge_there(storage: ObjectStorage, located: Sequence[Located]) -> Removed:
    """Purge objects of one bucket; return those that were refused. Raises nothing."""
    failed: dict[str, StorageError] = {}
    for row in located:
        if row.is_unfinished:
            try:
                storage.purge_folder(folder_of(row.key))
            except StorageError as error:
                failed[row.key] = error
    removed = storage.purge_many([row.key for row in located if row.key not in failed])
    removed.failed |= failed
    return removed


def _per_request(gone: Sequence[Located], counter: str) -> dict[UUID, completion.Counts]:
    counts: dict[UUID, completion.Counts] = {}
    for row in gone:
        counts.setdefault(row.request_id, Counter())[counter] += row.counts
    return counts


def _forget_copies(gone: Collection[tuple[int, str]], _chatbot_ids: Collection[int]) -> set[int]:
    return {row_id for (row_id,) in fetch(_FORGET_COPIES, _given(gone))}


def _given(rows_with_keys: Collection[tuple[int, str]]) -> dict[str, str | list[str]]:
    return {"rows": array(row_id for row_id, _ in rows_with_keys), "keys": [key for _, key in rows_with_keys]}
