"""Erase objects in storage: uploaded files and earlier exports with the copies beside them, each in every version.

Objects have no locks. So an open upload is aborted first, then every version of its key is removed, and only
then does the row go that names the key: a kill in between leaves the row, and the next run begins again from it.
Storage is called outside any transaction. One request's failing object does not stop another's.

What an export left unfinished in a client's bucket is removed there. Whole exports there are the client's, and so is
whatever lies in a bucket that is no longer the chatbot's: our rows forget their keys, which bear the chatter's value.
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
from common.storage.removal import Removed
from compliance.erasure.scope import EXPORTS_MET, GOES, IN_FILES_OR_DAYS, IN_SCOPE
from compliance.errors import StepFailed
from compliance.models import LeftCopy
from compliance.storage_locations import HOSTED, OUT_OF_REACH, RecordedLocation, storage_of
from compliance.work import transitions
from compliance.work.upload_pool import UploadPool

logger = logging.getLogger(__name__)

# Begins a transaction: one that holds a worker's claim, or a plain one where no claim is needed.
Begin = Callable[[], AbstractContextManager[datetime | None]]

_OBJECTS_PER_CALL = 100
# Looked for at once: to find them, all that is in scope is gone through.
_OBJECTS_LOCATED = 2_000

Failures = dict[UUID, StepFailed]


class Located(NamedTuple):
    """An object and its row. `counts` tells whether it counts as erased: an upload that broke off does not."""

    row_id: int
    key: str
    request_id: UUID
    counts: bool
    where: RecordedLocation


# Two deletions can have the same file in their scope: it is tried for one of them, and where that fails for the other
# as well.
_FILES = f"""
SELECT f.id, f.object_key, r.id, f.state = 'stored', f.chatbot_id, 'hosted', '', ''
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL ({IN_SCOPE}) AS s
 CROSS JOIN LATERAL (
       SELECT id, object_key, chatbot_id, state
         FROM conversations_uploadedfile WHERE conversation_id = s.id OFFSET 0) AS f
 WHERE r.id = ANY(%s)
 LIMIT %s
"""  # noqa: S608  (texts of ours)

_GOING = f"""
SELECT e.id, e.key, r.id AS request_id, e.chatbot_id, e.hosting, e.bucket, e.endpoint, e.finished_at
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL ({EXPORTS_MET}) AS met(export_id)
 CROSS JOIN LATERAL (
       SELECT * FROM compliance_export WHERE id = met.export_id AND key IS NOT NULL OFFSET 0) AS e
 WHERE r.id = ANY(%s) AND {GOES}
"""  # noqa: S608  (texts of ours)
# From now on they have to go for whoever meets them, and are handed out no more.
_EXPIRE_GOING = f"""
WITH going AS (
    SELECT id FROM compliance_export
     WHERE id = ANY(ARRAY(SELECT id FROM ({_GOING}) AS e)) ORDER BY id FOR NO KEY UPDATE
)
UPDATE compliance_export e SET expires_at = clock_timestamp()
  FROM going WHERE e.id = going.id AND e.expires_at > clock_timestamp()
"""  # noqa: S608  (a text of ours)
_EXPORTS = f"""
SELECT e.id, e.key, e.request_id, TRUE, e.chatbot_id, e.hosting, e.bucket, e.endpoint
  FROM ({_GOING}) AS e
 WHERE {{reach}}
 LIMIT %s
"""  # noqa: S608  (a text of ours)

_COPIES = """
SELECT f.id, f.key, e.request_id, FALSE, e.chatbot_id, e.hosting, e.bucket, e.endpoint
  FROM ({exports}) AS e
 CROSS JOIN LATERAL (
       SELECT id, key FROM compliance_exportfile WHERE export_id = e.id OFFSET 0) AS f
 WHERE {reach}
 LIMIT %s
"""
_ANYWHERE = "TRUE"
_IN_HOSTED = "e.hosting = 'hosted'"
_GOING_COPIES = {reach: _COPIES.format(exports=_GOING, reach=reach) for reach in (_ANYWHERE, _IN_HOSTED)}
_GOING_EXPORTS = {reach: _EXPORTS.format(reach=reach) for reach in (_ANYWHERE, _IN_HOSTED)}
_COPIES_OF_REQUESTS = _COPIES.format(
    exports="SELECT * FROM compliance_export WHERE request_id = ANY(%s)", reach=_ANYWHERE
)
# A retry that was asked for meanwhile may have copies of its own by now, and be whole even.
_EXPIRED_COPIES = _COPIES.format(
    exports="""
SELECT * FROM compliance_export AS given
 WHERE request_id = ANY(%s) AND (expires_at < now() OR EXISTS (
       SELECT FROM compliance_compliancerequest
        WHERE id = given.request_id AND status IN ('failed', 'cancelled', 'rejected')))""",
    reach=_ANYWHERE,
)

_GONE = "SELECT * FROM unnest(%s::bigint[], %s::text[])"
_FORGET_COPIES = f"DELETE FROM compliance_exportfile WHERE (id, key) IN ({_GONE}) RETURNING id"  # noqa: S608

_FORGET_OUT_OF_REACH = f"""
WITH lost AS (
    SELECT e.id FROM compliance_export e
     WHERE e.id = ANY(%s::bigint[]) AND e.key IS NOT NULL AND e.finished_at IS NULL AND {OUT_OF_REACH}
     ORDER BY e.id FOR UPDATE OF e
), copies AS (
    DELETE FROM compliance_exportfile f USING lost WHERE f.export_id = lost.id
)
UPDATE compliance_export e SET key = NULL, upload_id = NULL
  FROM lost WHERE e.id = lost.id
RETURNING e.id
"""  # noqa: S608  (constants of ours)
_GOING_OUT_OF_REACH = f"""
SELECT e.chatbot_id, e.request_id, e.id FROM ({_GOING}) AS e WHERE e.finished_at IS NULL AND {OUT_OF_REACH}
"""  # noqa: S608  (constants of ours)

_FORGET_FILES = f"DELETE FROM conversations_uploadedfile WHERE (id, object_key) IN ({_GONE}) RETURNING id"  # noqa: S608

# Not one that has another key by now: a retry removed what was under the former one, and began anew. Of an erased
# conversation that nothing else holds nobody needs to know any more whom it was about.
_FORGET_EXPORTS = f"""
WITH gone AS (
    SELECT id FROM compliance_export WHERE (id, key) IN ({_GONE}) ORDER BY id FOR UPDATE
), holding AS (
    DELETE FROM compliance_exportconversation held USING gone WHERE held.export_id = gone.id
    RETURNING held.conversation_id
), names AS (
    DELETE FROM conversations_identity WHERE id IN (
        SELECT i.id
          FROM (SELECT DISTINCT conversation_id AS id FROM holding) AS each
         CROSS JOIN LATERAL (
               SELECT id FROM conversations_conversation
                WHERE id = each.id AND deleted_at IS NOT NULL OFFSET 0) AS s
          JOIN conversations_identity i ON i.conversation_id = s.id AND i.value IS NULL
         WHERE NOT {IN_FILES_OR_DAYS}
           AND NOT EXISTS (SELECT FROM compliance_exportconversation
                            WHERE conversation_id = s.id AND export_id NOT IN (SELECT id FROM gone))
           FOR UPDATE OF i SKIP LOCKED)
)
UPDATE compliance_export e SET key = NULL, upload_id = NULL, removed_at = now()
  FROM gone WHERE e.id = gone.id
RETURNING e.id
"""  # noqa: S608  (constants of ours)


def erase_files(begin: Begin, request_ids: Sequence[UUID]) -> Failures:
    """Remove the uploaded files in the scope of these deletions, open uploads included, then their rows."""
    return _erase(begin, request_ids, find=_FILES, counter="files", forget=_FORGET_FILES)


def erase_exports(begin: Begin, request_ids: Sequence[UUID], *, at_clients: bool) -> Failures:
    """Remove the exports that these deletions meet and that have to go, copies first; their rows stay, keyless.

    Those in clients' buckets only with `at_clients`: whoever holds up others must not call one.
    """
    reach = _ANYWHERE if at_clients else _IN_HOSTED
    with begin():
        # Locks all that go, in the order of the ids.
        execute(_EXPIRE_GOING, [array(request_ids)])
        if out_of_reach := fetch(_GOING_OUT_OF_REACH, [array(request_ids)]):
            # The deletions name them from now on: nobody can tell what still lies there.
            LeftCopy.objects.bulk_create(
                [
                    LeftCopy(chatbot_id=chatbot_id, deletion_id=deletion_id, export_id=export_id)
                    for chatbot_id, deletion_id, export_id in out_of_reach
                ],
                ignore_conflicts=True,
            )
            forget_out_of_reach(export_id for _, _, export_id in out_of_reach)
    failures = _erase(begin, request_ids, find=_GOING_COPIES[reach], forget=_FORGET_COPIES)
    left = [request_id for request_id in request_ids if request_id not in failures]
    return failures | _erase(begin, left, find=_GOING_EXPORTS[reach], counter="exports", forget=_FORGET_EXPORTS)


def erase_copies(begin: Begin, request_ids: Sequence[UUID]) -> Failures:
    """Remove the copies of files beside these export requests' files, with their rows. For whoever claims them."""
    return _erase(begin, request_ids, find=_COPIES_OF_REQUESTS, forget=_FORGET_COPIES)


def erase_expired_copies(request_ids: Sequence[UUID]) -> Failures:
    """As `erase_copies`, for whoever claims nothing: only while the exports' days are over, or they are given up."""
    return _erase(transaction.atomic, request_ids, find=_EXPIRED_COPIES, forget=_FORGET_COPIES)


def forget_exports(gone: Collection[tuple[int, str]]) -> set[int]:
    """Let rows of exports forget the keys of objects that are gone, each given with its key, and what they held.

    In the caller's transaction. Return those that had this key still.
    """
    return _forget(_FORGET_EXPORTS, gone)


def forget_out_of_reach(export_ids: Iterable[int]) -> None:
    """Forget unfinished files of these exports that lie in a bucket which is no longer the chatbot's, in the caller's
    transaction."""
    lost = [row[0] for row in fetch(_FORGET_OUT_OF_REACH, [array(export_ids)])]
    if lost:
        logger.warning("export.left_in_former_bucket exports=%s", ",".join(map(str, lost)))


def _erase(begin: Begin, request_ids: Sequence[UUID], *, find: str, forget: str, counter: str = "") -> Failures:
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
                forgotten = _forget(forget, [(row.row_id, row.key) for row in gone])
                if counter:
                    transitions.add_counts(_per_request([row for row in gone if row.row_id in forgotten], counter))
    return failures


def _locate(find: str, request_ids: Sequence[UUID]) -> list[Located]:
    """Return the next objects, each once, for the first of the requests that meet it."""
    found = [
        Located(row_id, key, request_id, counts, RecordedLocation(*where))
        for row_id, key, request_id, counts, *where in fetch(find, [array(request_ids), _OBJECTS_LOCATED])
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
        # All that lies in the hosted bucket shares calls, whosever it is.
        by_location[RecordedLocation(0) if row.where.hosting == HOSTED else row.where].append(row)
    # A slow storage can take longer than a lease.
    with UploadPool[RecordedLocation, Removed](LeaseRenewer(renew)) as purging:
        for where, rows in by_location.items():
            try:
                purging.hand(where, partial(storage_of(where).purge_many, [row.key for row in rows]))
            except StepFailed as failure:
                purging.failed[where] = failure
    gone: list[Located] = []
    for where, rows in by_location.items():
        of_all = purging.failed.get(where)
        refused = {} if of_all else purging.done[where].failed
        for row in rows:
            error, known = refused.get(row.key), failures.get(row.request_id)
            reason = StepFailed.of(error) if error else of_all
            if reason is None:
                gone.append(row)
            elif known is None or known.retryable:
                # What needs a person goes before what needs time.
                failures[row.request_id] = reason
    return gone


def _per_request(gone: Sequence[Located], counter: str) -> dict[UUID, transitions.Counts]:
    counts: dict[UUID, transitions.Counts] = {}
    for row in gone:
        counts.setdefault(row.request_id, Counter())[counter] += row.counts
    return counts


def _forget(statement: str, gone: Collection[tuple[int, str]]) -> set[int]:
    """Delete rows, or empty their keys; return those that nobody else had before."""
    return {row_id for (row_id,) in fetch(statement, [array(row_id for row_id, _ in gone), [key for _, key in gone]])}
