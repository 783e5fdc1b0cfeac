"""Daily extracts that hold what a deletion erases: flagged with the rows, waited for before completion.

Each bite that deletes messages raises the version of the days they were said on, in its own transaction, and notes
that version for its requests. A hosted file is clean of them once it was made from that version or a later one
(`conversations.extracts.making`). What was delivered into a client's bucket is the client's: it is only named.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from chatbots import public_ids
from chatbots.secrets import digest
from compliance import by_ids
from compliance.errors import StepFailed
from compliance.progress import Counts
from config.arrays import array
from conversations.extracts import making, work

_HAS_ANY = """
SELECT EXISTS (SELECT FROM unnest(%s::bigint[]) AS ours(chatbot_id)
                WHERE EXISTS (SELECT FROM conversations_dailyextract e WHERE e.chatbot_id = ours.chatbot_id))
"""

# A day lies within two days of its UTC days, whatever the time zone. The version that a client's file would be clean
# at is never reached: it is written once. Rows are locked in the order of the ids, as whoever else locks several.
_FLAG = """
WITH met AS (
    SELECT DISTINCT e.id, said.request_id
      FROM unnest(%(requests)s::uuid[], %(chatbots)s::bigint[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[])
             AS said(request_id, chatbot_id, first, last)
     CROSS JOIN LATERAL (
           SELECT id FROM conversations_dailyextract
            WHERE chatbot_id = said.chatbot_id
              AND day BETWEEN (said.first AT TIME ZONE 'UTC')::date - 2 AND (said.last AT TIME ZONE 'UTC')::date + 2
              AND starts_at <= said.last AND ends_at > said.first AND state <> 'expired' OFFSET 0) AS e
), locked AS (
    SELECT e.id, e.chatbot_id, e.version + 1 AS version, e.state = 'done' AND e.hosting = 'client' AS is_delivered
      FROM conversations_dailyextract e
     WHERE e.id IN (SELECT id FROM met)
     ORDER BY e.id
       FOR NO KEY UPDATE
), raised AS (
    UPDATE conversations_dailyextract e
       SET version = locked.version, state = CASE e.state WHEN 'done' THEN 'stale' ELSE e.state END,
           stale_at = coalesce(e.stale_at, clock_timestamp())
      FROM locked WHERE e.id = locked.id AND NOT locked.is_delivered
)
INSERT INTO conversations_extracterasure (chatbot_id, extract_id, request_id, version)
SELECT locked.chatbot_id, locked.id, met.request_id, locked.version FROM locked JOIN met ON met.id = locked.id
 ORDER BY locked.id, met.request_id
    ON CONFLICT (request_id, extract_id) DO UPDATE SET version = excluded.version
"""

# Who else is in these conversations, and which other deletions name one by its id. The identities go with the last of
# the messages, not before. Where a conversation is erased by its id, whoever is in it is somebody else.
_COMPANIONS = f"""
WITH ours AS MATERIALIZED (
    SELECT * FROM unnest(%(conversations)s::bigint[], %(requests)s::uuid[]) AS ours(id, request_id)
), by_ids AS MATERIALIZED (
    SELECT r.id
      FROM (SELECT DISTINCT request_id FROM ours) AS each
     CROSS JOIN LATERAL (
           SELECT id FROM compliance_compliancerequest
            WHERE id = each.request_id AND conversation_digests IS NOT NULL OFFSET 0) AS r
)
SELECT i.conversation_id, i.variable_id, i.value, NULL::uuid
  FROM ours
 CROSS JOIN LATERAL (
       SELECT conversation_id, variable_id, value, count(*) OVER () AS people
         FROM conversations_identity WHERE conversation_id = ours.id OFFSET 0) AS i
 WHERE i.people > 1
    OR ours.request_id IN (SELECT id FROM by_ids)
 UNION ALL
SELECT c.id, NULL, NULL, r.id
  FROM ours
  JOIN conversations_conversation c ON c.id = ours.id
 CROSS JOIN LATERAL {by_ids.NAMING} AS r
 WHERE r.kind = 'deletion' AND r.status IN ('accepted', 'on_hold', 'processing', 'failed') AND {by_ids.IS_ANY_OPEN}
"""  # noqa: S608  (a text of ours)
_THEIR_DELETIONS = """
SELECT DISTINCT whose.conversation_id, r.id
  FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[]) AS whose(conversation_id, variable_id, digest)
 CROSS JOIN LATERAL (
       SELECT id FROM compliance_compliancerequest
        WHERE variable_id = whose.variable_id AND uci_digest = whose.digest AND kind = 'deletion'
          AND status IN ('accepted', 'on_hold', 'processing', 'failed') AND uci_value IS NOT NULL OFFSET 0) AS r
"""

_TAKE_OVER = """
INSERT INTO conversations_extracterasure (chatbot_id, extract_id, request_id, version)
SELECT theirs.chatbot_id, theirs.extract_id, heir.request_id, max(theirs.version)
  FROM unnest(%(failed)s::uuid[], %(heirs)s::uuid[]) AS heir(failed_id, request_id)
 CROSS JOIN LATERAL (
       SELECT chatbot_id, extract_id, version
         FROM conversations_extracterasure WHERE request_id = heir.failed_id OFFSET 0) AS theirs
 GROUP BY 1, 2, 3
 ORDER BY 2, 3
    ON CONFLICT (request_id, extract_id)
    DO UPDATE SET version = greatest(conversations_extracterasure.version, excluded.version)
"""

# OFFSET 0 keeps PostgreSQL at look-ups, one a request and one a day: it cannot know how few there are.
_LOOK = """
SELECT ours.id,
       count(*) FILTER (WHERE is_clean),
       count(*) FILTER (WHERE NOT is_clean),
       max(e.error_code || E'\n' || e.error_detail) FILTER (WHERE NOT is_clean AND e.state = 'failed')
  FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT extract_id, version FROM conversations_extracterasure WHERE request_id = ours.id OFFSET 0) AS t
 CROSS JOIN LATERAL (
       SELECT state, key, error_code, error_detail, coalesce(made_version, 0) >= t.version AS is_clean
         FROM conversations_dailyextract WHERE id = t.extract_id AND hosting = 'hosted' OFFSET 0) AS e
 WHERE is_clean OR e.key IS NOT NULL
 GROUP BY ours.id
"""

_DELIVERED = """
SELECT ours.id, e.day, e.finished_at, e.sha256
  FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT extract_id, version FROM conversations_extracterasure WHERE request_id = ours.id OFFSET 0) AS t
 CROSS JOIN LATERAL (
       SELECT day, finished_at, sha256 FROM conversations_dailyextract
        WHERE id = t.extract_id AND hosting = 'client' AND made_version < t.version OFFSET 0) AS e
 ORDER BY ours.id, e.day
"""

# What waits for this day alone, or for no day any more. What waits after an error of its own goes on waiting. A row
# that another has locked is left to it: then two that let the same ones go cannot block each other.
_RELEASE = """
UPDATE compliance_compliancerequest SET not_before = NULL
 WHERE id = ANY(ARRAY(
       SELECT r.id FROM compliance_compliancerequest r
        WHERE r.id = ANY(ARRAY(SELECT request_id FROM conversations_extracterasure WHERE extract_id = %s))
          AND r.status = 'accepted' AND r.cut_at IS NOT NULL AND r.not_before IS NOT NULL AND r.error_code = ''
          AND NOT EXISTS (
              SELECT FROM (
                     SELECT extract_id, version FROM conversations_extracterasure WHERE request_id = r.id OFFSET 0) t
               CROSS JOIN LATERAL (
                     SELECT FROM conversations_dailyextract
                      WHERE id = t.extract_id AND hosting = 'hosted' AND key IS NOT NULL
                        AND coalesce(made_version, 0) < t.version AND state <> 'failed' OFFSET 0) e)
         FOR NO KEY UPDATE OF r SKIP LOCKED))
"""

_TRY_AGAIN = """
UPDATE conversations_dailyextract e
   SET state = CASE WHEN e.made_version IS NULL THEN 'pending' ELSE 'stale' END,
       stale_at = coalesce(e.stale_at, clock_timestamp()), attempts = 0, not_before = NULL, error_code = '',
       error_detail = ''
  FROM (SELECT id FROM conversations_dailyextract
         WHERE id = ANY(ARRAY(SELECT extract_id FROM conversations_extracterasure WHERE request_id = %s))
           AND state = 'failed'
         ORDER BY id FOR NO KEY UPDATE) failed
 WHERE e.id = failed.id
"""


class Said(NamedTuple):
    """That messages of a conversation from `first` to `last`, less than an hour apart, were deleted for a request."""

    request_id: UUID
    chatbot_id: int
    conversation_id: int
    first: datetime
    last: datetime


class Days(NamedTuple):
    """A deletion's days: hosted extracts that are clean of what it erased, and that are not."""

    clean: int
    waits: int
    failure: StepFailed | None

    @property
    def total(self) -> int:
        return self.clean + self.waits


class Delivered(NamedTuple):
    """A file in a client's bucket that holds what was erased."""

    day: str
    finished_at: datetime
    sha256: str


def has_any(chatbot_ids: Collection[int]) -> bool:
    """Say whether one of these chatbots has a day with an extract, or one that is to be made."""
    with connection.cursor() as cursor:
        cursor.execute(_HAS_ANY, [array(chatbot_ids)])
        [(found,)] = cursor.fetchall()
    return bool(found)


def flag(said: Sequence[Said]) -> None:
    """Mark the days that these deleted messages were said on, in the transaction that deletes them.

    Before the conversations' identities go: a deletion of another who was in one waits for the same days.
    """
    if not said:
        return
    said = [*said, *_said_for_companions(said)]
    values: dict[str, str | list[datetime]] = {
        "requests": array(one.request_id for one in said),
        "chatbots": array(one.chatbot_id for one in said),
        "firsts": [one.first for one in said],
        "lasts": [one.last for one in said],
    }
    with connection.cursor() as cursor:
        cursor.execute(_FLAG, values)


def _said_for_companions(said: Sequence[Said]) -> list[Said]:
    with connection.cursor() as cursor:
        ours = {one.conversation_id: one.request_id for one in said}
        cursor.execute(_COMPANIONS, {"conversations": array(ours), "requests": array(ours.values())})
        met = cursor.fetchall()
        if not met:
            return []
        deletions: dict[int, set[UUID]] = defaultdict(set)
        for conversation, _, _, request_id in met:
            if request_id is not None:
                deletions[conversation].add(request_id)
        people = [row for row in met if row[3] is None]
        conversations, variables = array(row[0] for row in people), array(row[1] for row in people)
        scopes = public_ids.of_variables(row[1] for row in people)
        digests = [digest("chatter", scopes[variable], value) for _, variable, value, _ in people]
        cursor.execute(_THEIR_DELETIONS, [conversations, variables, digests])
        for conversation, request_id in cursor.fetchall():
            deletions[conversation].add(request_id)
    return [
        one._replace(request_id=other)
        for one in said
        for other in deletions[one.conversation_id]
        if other != one.request_id
    ]


def take_over(*, failed: Sequence[UUID], heirs: Sequence[UUID]) -> None:
    """Let deletions wait for the days, too, that earlier ones which failed had still to see made again, in pairs."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_OVER, {"failed": array(failed), "heirs": array(heirs)})


def look(request_ids: Sequence[UUID]) -> dict[UUID, Days]:
    """Return the days of those of these deletions that have any."""
    with connection.cursor() as cursor:
        cursor.execute(_LOOK, [array(request_ids)])
        return {
            request_id: Days(clean, waits, _failure(error)) for request_id, clean, waits, error in cursor.fetchall()
        }


def _failure(error: str | None) -> StepFailed | None:
    if error is None:
        return None
    code, _, detail = error.partition("\n")
    # The extract has used up its attempts: those of the deletion would meet the same.
    return StepFailed(code, f"A daily extract could not be made again. {detail}", retryable=False)


def counts(days: Mapping[UUID, Days]) -> dict[UUID, Counts]:
    """Return what completed deletions have to count of their days."""
    return {request_id: Counts(extracts=one.clean) for request_id, one in days.items()}


def delivered(request_ids: Collection[UUID]) -> dict[UUID, list[Delivered]]:
    """Return the files in clients' buckets that hold what each of these deletions erased, by day."""
    found: dict[UUID, list[Delivered]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_DELIVERED, [array(request_ids)])
        for request_id, day, finished_at, sha256 in cursor.fetchall():
            found[request_id].append(Delivered(day.isoformat(), finished_at, sha256))
    return dict(found)


def make_next(*, settled: bool) -> bool:
    """Make the next extract that is due, if this worker may, and let go on what waited for it. See `work.take_next`.

    Return whether there was one.
    """
    held = work.take_next(settled=settled)
    if held is None:
        return False
    make(held)
    return True


def make(held: work.Held, *, on_read: making.OnRead = lambda _bytes: None) -> bool:
    """Make the file of a day that was taken; then let the deletions go on that waited for it. See `making.make`."""
    is_done = making.make(held, on_read=on_read)
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE, [held.id])
    return is_done


def try_again(request_id: UUID) -> None:
    """Give the extracts that this deletion waits for, and that have failed, fresh attempts."""
    with connection.cursor() as cursor:
        cursor.execute(_TRY_AGAIN, [request_id])
