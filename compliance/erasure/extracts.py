"""Daily extracts with data of a deletion: flagged with the rows, rebuilt before the deletion completes.

Each chunk that deletes messages raises the version of their days in its own transaction, and records that version for
their conversations. A hosted file is clean once it is built from that version or a later one
(`conversations.extracts.builder`). An extract in a client's bucket is the client's: it is only listed.
"""

import time
from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from chatbots.models import Chatbot
from common.db import array, execute, fetch
from compliance.cluster import occurrences
from compliance.work.scope import DELETIONS, Scope
from compliance.work.sql import subjects
from conversations.extracts import builder, days, leases
from conversations.models import DailyExtract

State = DailyExtract.State

# How long to wait for another worker that is building the extract, and how often to check.
PATIENCE_SECONDS = 600.0
LOOK_SECONDS = 0.5

_HAS_ANY = """
SELECT EXISTS (SELECT FROM unnest(%s::bigint[]) AS ours(chatbot_id)
                WHERE EXISTS (SELECT FROM conversations_dailyextract e WHERE e.chatbot_id = ours.chatbot_id))
"""

# The extracts of the days within a span `said` of a chatbot's messages. A day is within two days of its UTC days, in
# any time zone.
OF_SPAN = """
SELECT id FROM conversations_dailyextract
 WHERE chatbot_id = said.chatbot_id
   AND day BETWEEN (said.first AT TIME ZONE 'UTC')::date - 2 AND (said.last AT TIME ZONE 'UTC')::date + 2
   AND starts_at <= said.last AND ends_at > said.first AND state <> 'expired' OFFSET 0
"""

# Client extracts are written once, so never become clean. A day without a file is read later, and will contain
# nothing of it. A failed one is retried: the cause may be over. Rows are locked in the order of the ids, as
# everywhere.
_FLAG = f"""
WITH met AS (
    SELECT DISTINCT e.id, said.conversation_id
      FROM unnest(%(conversations)s::bigint[], %(chatbots)s::bigint[], %(firsts)s::timestamptz[],
                  %(lasts)s::timestamptz[]) AS said(conversation_id, chatbot_id, first, last)
     CROSS JOIN LATERAL ({OF_SPAN}) AS e
), locked AS (
    SELECT e.id, e.chatbot_id, e.version + 1 AS version, e.state = 'done' AND e.hosting = 'client' AS is_delivered,
           e.state = 'failed' AS has_failed, e.key IS NOT NULL AS has_file
      FROM conversations_dailyextract e
     WHERE e.id = ANY(ARRAY(SELECT id FROM met))
     ORDER BY e.id
       FOR NO KEY UPDATE
), raised AS (
    UPDATE conversations_dailyextract e
       SET version = locked.version,
           state = CASE WHEN e.state = 'done' OR has_failed AND e.made_version IS NOT NULL THEN 'stale'
                        WHEN has_failed THEN 'pending' ELSE e.state END,
           stale_at = coalesce(e.stale_at, clock_timestamp()),
           attempts = CASE WHEN has_failed THEN 0 ELSE e.attempts END,
           next_attempt_at = CASE WHEN has_failed THEN clock_timestamp() ELSE e.next_attempt_at END,
           error_code = CASE WHEN has_failed THEN '' ELSE e.error_code END,
           error_detail = CASE WHEN has_failed THEN '' ELSE e.error_detail END
      FROM locked WHERE e.id = locked.id AND NOT locked.is_delivered
)
INSERT INTO conversations_extractconversation (chatbot_id, conversation_id, extract_id, version)
SELECT locked.chatbot_id, met.conversation_id, locked.id, locked.version
  FROM locked JOIN met ON met.id = locked.id
 WHERE locked.has_file
 ORDER BY met.conversation_id, locked.id
    ON CONFLICT (conversation_id, extract_id) DO UPDATE SET version = excluded.version
"""

# Requests that wait for the chatbot's extracts, once none is left to rebuild: most wait for several. Others are tried
# again in a minute. SKIP LOCKED, so that two transactions that release the same requests cannot block each other. Due
# extracts are searched for the chatbot's (OFFSET 0), not the chatbot's days for due ones, which can be very many.
_RELEASE = """
UPDATE compliance_compliancerequest SET not_before = NULL
 WHERE id = ANY(ARRAY(
       SELECT id FROM compliance_compliancerequest
        WHERE chatbot_id = %(chatbot)s AND chatbot_id > 0 AND waiting_for = 'extracts' AND status = 'accepted'
          AND not_before IS NOT NULL
          AND NOT EXISTS (
              SELECT
                FROM (SELECT * FROM conversations_dailyextract WHERE state IN ('pending', 'stale') OFFSET 0) AS due
               WHERE chatbot_id = %(chatbot)s AND hosting = 'hosted' AND key IS NOT NULL
                 AND coalesce(made_version, 0) < version)
        ORDER BY seq FOR NO KEY UPDATE SKIP LOCKED))
"""

_HOLDING = """
{of.head}
SELECT DISTINCT t.extract_id
  FROM scope AS s
 CROSS JOIN LATERAL (
       SELECT extract_id FROM conversations_extractconversation WHERE conversation_id = s.id OFFSET 0) AS t
"""
_TRY_AGAIN = """
UPDATE conversations_dailyextract e
   SET state = CASE WHEN e.made_version IS NULL THEN 'pending' ELSE 'stale' END,
       stale_at = coalesce(e.stale_at, clock_timestamp()), attempts = 0, next_attempt_at = clock_timestamp(),
       error_code = '', error_detail = ''
  FROM (SELECT id FROM conversations_dailyextract
         WHERE id = ANY(%s) AND state = 'failed' ORDER BY id FOR NO KEY UPDATE) failed
 WHERE e.id = failed.id
"""


class DeletedSpan(NamedTuple):
    """The deletion of messages of a conversation from `first` to `last`, less than an hour apart."""

    conversation_id: int
    chatbot_id: int
    first: datetime
    last: datetime


def has_any(chatbot_ids: Collection[int]) -> bool:
    [(found,)] = fetch(_HAS_ANY, [array(chatbot_ids)])
    return bool(found)


def flag(said: Sequence[DeletedSpan]) -> None:
    """Flag the extracts of the days of these deleted messages, in the transaction that deletes them."""
    if not said:
        return
    values: dict[str, str | list[datetime]] = {
        "conversations": array(one.conversation_id for one in said),
        "chatbots": array(one.chatbot_id for one in said),
        "firsts": [one.first for one in said],
        "lasts": [one.last for one in said],
    }
    execute(_FLAG, values)


def build_next(*, settled: bool) -> bool:
    """Build the next due extract in the hosted bucket, if this worker may; return whether there was one.

    See `leases.take_next`.
    """
    held = leases.take_next(settled=settled)
    if held is None:
        return False
    build(held, may_call_client=False)
    return True


def build(held: DailyExtract, *, may_call_client: bool = True, on_read: builder.OnRead = lambda _bytes: None) -> bool:
    """Build a claimed extract, then release the deletions that waited for it. See `builder.build`."""
    is_done = builder.build(
        held, may_call_client=may_call_client, on_read=on_read, on_refused=occurrences.pause_after_refusal
    )
    release([held.chatbot_id])
    return is_done


def release(chatbot_ids: Collection[int]) -> None:
    """Release deletions of these chatbots that wait for extracts, where none is left to rebuild.

    Call it after the extract, or the waiting request, is committed: the later of the two sees the other's row.
    """
    for chatbot_id in chatbot_ids:
        execute(_RELEASE, {"chatbot": chatbot_id})


def retry(request_ids: Collection[UUID], *, of: Scope = DELETIONS) -> None:
    """Try failed extracts again that these requests wait for."""
    if found := fetch(_HOLDING.format(of=of), subjects(request_ids)):
        execute(_TRY_AGAIN, [array(extract_id for (extract_id,) in found)])


def prepare(chatbot: Chatbot, first: date, last: date, *, again: bool = False) -> list[DailyExtract]:
    """Plan the days from `first` to `last`, and return their extracts.

    Failed and expired ones are to be built again; with `again`, finished ones in the hosted bucket too.
    """
    days.plan(chatbot.pk, first, last)
    rows = DailyExtract.objects.filter(chatbot=chatbot, day__range=(first, last)).order_by("day")
    states = [State.FAILED, State.EXPIRED, *([State.DONE] if again else [])]
    known = list(rows.values_list("day", flat=True))
    days.order(chatbot_id=chatbot.pk, days=known, states=states, actor="command")
    return list(rows)


def build_now(extract: DailyExtract) -> None:
    """Build an extract that is due, or wait for the worker that builds it. A day that changes meanwhile is rebuilt.

    Call it outside any transaction. The outcome is on the row.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while extract.state in {State.PENDING, State.STALE} and time.monotonic() < end:
        held = leases.take_one(extract.pk)
        if held:
            build(held)
        else:
            time.sleep(LOOK_SECONDS)
        extract.refresh_from_db()
        if held and extract.error_code:
            return
