"""Redactions in the data: messages emptied, and whatever else holds their text found, by conversation and number.

As for deletions (`scope`), what a redaction has to see gone is a question to the data, whoever began to remove it:

- its messages, where they still have a text;
- files that came with them, also unfinished uploads;
- exports that hold the conversation, and began before the redaction emptied the messages (`cutoff_at`). Of those in a
  client's bucket only the unfinished ones: the others are the client's, and are named. So is a copy that holds what
  was closed since: it cannot be made again, and stays until its grace ends;
- hosted daily extracts that were read before.

For a row `x` of the redactions, and `r` of their requests.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

from django.conf import settings

from chatbots.models import Chatbot
from common.db import array, execute, fetch
from compliance.erasure import extracts
from compliance.erasure.extracts import DeletedSpan
from compliance.erasure.findings import VerificationResult
from compliance.models import LedgerLine, Redaction
from compliance.work.sql import subjects
from conversations import tombstones
from conversations.models import Conversation, Message
from conversations.tombstones import NewTombstone, message_digest

# Begins the statements about the redactions `ids`. No part of one reads the conversation tables and others, as for
# deletions.
_OURS = """
WITH ours AS MATERIALIZED (
    SELECT x.request_id, x.chatbot_id, x.conversation_id, x.message_numbers, r.cutoff_at
      FROM compliance_redaction AS x JOIN compliance_compliancerequest AS r ON r.id = x.request_id
     WHERE x.request_id = ANY(%(ids)s::uuid[]) AND r.cutoff_at IS NOT NULL
)
"""
_THEIRS = "conversation_id = x.conversation_id AND chatbot_id = ANY(%(chatbots)s::bigint[])"

# One that starts over has a new time of its beginning before its former object is removed; but it has expired. A
# finished one that expires keeps its time, and is clean if it began later.
_HOLDING = """
SELECT e.*
  FROM (SELECT DISTINCT export_id FROM compliance_exportconversation
         WHERE conversation_id = x.conversation_id OFFSET 0) AS held
 CROSS JOIN LATERAL (SELECT * FROM compliance_export WHERE id = held.export_id OFFSET 0) AS e
 CROSS JOIN LATERAL (SELECT cutoff_at FROM compliance_compliancerequest WHERE id = e.request_id OFFSET 0) AS filed
 WHERE filed.cutoff_at <= x.cutoff_at OR (e.finished_at IS NULL AND e.expires_at <= statement_timestamp())
"""
# Whether a redaction has kept one that cannot be made again.
_IS_LAST_COPY = "(e.last_copy_since IS NOT NULL AND e.expires_at > statement_timestamp())"
_GOES = f"""
e.key IS NOT NULL AND (e.finished_at IS NULL OR (e.hosting = 'hosted' AND NOT {_IS_LAST_COPY}))
"""

# With when their messages were sent, of those that are still stored, and how many have a text.
_SENT = f"""
{_OURS}, sent AS MATERIALIZED (
    SELECT x.*, m.times, m.with_text
      FROM ours AS x
     CROSS JOIN LATERAL (
           SELECT array_agg(sent_at) AS times, count(*) FILTER (WHERE kind <> 'redacted') AS with_text
             FROM conversations_message WHERE id = ANY(x.message_numbers) AND {_THEIRS}) AS m
)
"""
# Whether a day may hold one of the messages. Where a deletion has erased them, their days are not known any more.
_IN_DAY = """
(x.times IS NULL OR EXISTS (
    SELECT 1 FROM unnest(x.times) AS said(at) WHERE said.at >= e.starts_at AND said.at < e.ends_at))
"""

# As for deletions in `objects`.
GOING = f"""
{_OURS}, going AS (
    SELECT e.id, e.key, x.request_id, e.chatbot_id, e.hosting, e.bucket, e.endpoint, e.finished_at
      FROM ours AS x CROSS JOIN LATERAL ({_HOLDING}) AS e
     WHERE {_GOES}
)
"""
FILES = f"""
{_OURS}, files AS MATERIALIZED (
    SELECT f.*, x.request_id
      FROM ours AS x
     CROSS JOIN LATERAL (
           SELECT id, object_key, chatbot_id, size, message_id
             FROM conversations_uploadedfile WHERE {_THEIRS} OFFSET 0) AS f
     WHERE f.message_id = ANY(x.message_numbers)
     LIMIT %(most)s
)
"""

_LOCK = """
SELECT id FROM conversations_conversation
 WHERE id = %(conversation)s AND chatbot_id = ANY(%(chatbots)s::bigint[]) FOR UPDATE SKIP LOCKED
"""
_EMPTY = """
UPDATE conversations_message SET kind = 'redacted', text = ''
 WHERE id = ANY(%(messages)s::bigint[]) AND conversation_id = %(conversation)s
   AND chatbot_id = ANY(%(chatbots)s::bigint[]) AND kind <> 'redacted'
RETURNING sent_at
"""
# Nothing reads them any more, and no export that begins now names them.
_HIDE_FILES = """
UPDATE conversations_uploadedfile SET state = 'removing', name = ''
 WHERE conversation_id = %(conversation)s AND chatbot_id = ANY(%(chatbots)s::bigint[])
   AND message_id = ANY(%(messages)s::bigint[])
"""
# When the last of these messages was redacted, if all of them were. They may be erased by now.
_REDACTED_AT = """
WITH said AS MATERIALIZED (
    SELECT count(*) AS messages FROM conversations_message
     WHERE id = ANY(%(messages)s::bigint[]) AND conversation_id = %(conversation)s
       AND chatbot_id = ANY(%(chatbots)s::bigint[]) AND kind <> 'redacted'
), began AS MATERIALIZED (
    SELECT r.cutoff_at, x.message_numbers
      FROM (SELECT * FROM compliance_redaction WHERE conversation_id = %(conversation)s) AS x
     CROSS JOIN LATERAL (SELECT cutoff_at FROM compliance_compliancerequest WHERE id = x.request_id) AS r
     WHERE x.message_numbers && %(messages)s::bigint[] AND r.cutoff_at IS NOT NULL
)
SELECT max(cutoff_at) FROM began
 WHERE (SELECT messages FROM said) = 0
   AND %(messages)s::bigint[] <@ (SELECT array_agg(number) FROM began CROSS JOIN unnest(message_numbers) AS number)
"""

# Those that cannot be made again keep their grace. In the order of the ids, as everywhere. Whether one has finished
# or expired is read once its row is locked: another redaction can have expired it while this one waited, after this
# statement began.
_EXPIRE = """
WITH locked AS (
    SELECT e.id, e.finished_at, e.finished_at + make_interval(secs => %(grace)s) AS grace_ends_at
      FROM compliance_export AS e
     WHERE e.id = ANY(ARRAY(
           SELECT held.export_id FROM compliance_exportconversation AS held WHERE conversation_id = %(conversation)s))
       AND e.key IS NOT NULL AND (e.finished_at IS NULL OR e.hosting = 'hosted')
       AND (e.expires_at IS NULL OR e.expires_at > clock_timestamp())
     ORDER BY e.id
       FOR NO KEY UPDATE
), expired AS (
    UPDATE compliance_export AS e
       SET expires_at = CASE WHEN e.last_copy_since IS NOT NULL THEN least(e.expires_at, locked.grace_ends_at)
                             ELSE statement_timestamp() END
      FROM locked WHERE e.id = locked.id
    RETURNING e.request_id, locked.finished_at IS NOT NULL AS was_finished, e.expires_at
)
SELECT request_id, was_finished FROM expired WHERE expires_at <= statement_timestamp()
"""

_SEARCH = f"""
{_SENT}, files AS MATERIALIZED (
    SELECT x.request_id, count(*) AS number
      FROM ours AS x
     CROSS JOIN LATERAL (
           SELECT message_id FROM conversations_uploadedfile WHERE {_THEIRS}) AS f
     WHERE f.message_id = ANY(x.message_numbers)
     GROUP BY 1
), held AS MATERIALIZED (
    SELECT x.request_id AS redaction_id, e.*, coalesce({_GOES}, FALSE) AS goes
      FROM ours AS x CROSS JOIN LATERAL ({_HOLDING}) AS e
), days AS MATERIALIZED (
    SELECT x.request_id AS redaction_id, x.cutoff_at, e.*, coalesce(e.made_version, 0) >= t.version AS is_clean
      FROM sent AS x
     CROSS JOIN LATERAL (
           SELECT extract_id, version FROM conversations_extractconversation
            WHERE conversation_id = x.conversation_id) AS t
     CROSS JOIN LATERAL (SELECT * FROM conversations_dailyextract WHERE id = t.extract_id OFFSET 0) AS e
     WHERE {_IN_DAY}
)
SELECT 'conversations_message', request_id, with_text, NULL FROM sent WHERE with_text > 0
 UNION ALL
SELECT 'conversations_uploadedfile', request_id, number, NULL FROM files
 UNION ALL
SELECT 'compliance_export', redaction_id, count(*), NULL FROM held WHERE goes GROUP BY 2
 UNION ALL
SELECT 'at_clients', redaction_id, count(*), NULL FROM held WHERE goes AND hosting = 'client' GROUP BY 2
 UNION ALL
SELECT 'copies_kept', redaction_id, count(*), NULL
  FROM (SELECT redaction_id FROM held WHERE finished_at IS NOT NULL AND hosting = 'client'
         UNION ALL
        SELECT redaction_id FROM days
         WHERE hosting = 'client' AND NOT is_clean AND made_version IS NOT NULL) AS kept
 GROUP BY 2
 UNION ALL
SELECT 'extracts_clean', redaction_id, count(*), NULL
  FROM days WHERE hosting = 'hosted' AND is_clean AND finished_at > cutoff_at GROUP BY 2
 UNION ALL
SELECT 'conversations_dailyextract', redaction_id, count(*),
       max(CASE WHEN state = 'failed' THEN error_code || E'\\n' || error_detail END)
  FROM days WHERE hosting = 'hosted' AND NOT is_clean AND key IS NOT NULL GROUP BY 2
"""

_LEAVE = f"""
{_OURS}
INSERT INTO compliance_leftcopy (chatbot_id, deletion_id, export_id)
SELECT x.chatbot_id, x.request_id, e.id
  FROM ours AS x CROSS JOIN LATERAL ({_HOLDING}) AS e
 WHERE e.finished_at IS NOT NULL AND (e.hosting = 'client' OR {_IS_LAST_COPY})
 ORDER BY x.request_id, e.id
    ON CONFLICT DO NOTHING
"""
_LEAVE_DAYS = f"""
{_SENT}
INSERT INTO compliance_leftcopy (chatbot_id, deletion_id, extract_id)
SELECT x.chatbot_id, x.request_id, e.id
  FROM sent AS x
 CROSS JOIN LATERAL (
       SELECT extract_id, version FROM conversations_extractconversation
        WHERE conversation_id = x.conversation_id) AS t
 CROSS JOIN LATERAL (
       SELECT * FROM conversations_dailyextract
        WHERE id = t.extract_id AND hosting = 'client' AND made_version < t.version OFFSET 0) AS e
 WHERE {_IN_DAY}
    ON CONFLICT DO NOTHING
"""

_SCOPE = f"{_OURS}, scope AS (SELECT conversation_id AS id FROM ours)"


class RowsInUse(Exception):
    """Another worker, or intake, has locked the conversation. The transaction writes nothing."""


class ExpiredExport(NamedTuple):
    """An export that can no longer be fetched; an unfinished one starts over by itself."""

    request_id: UUID
    was_finished: bool


class FoundMessages(NamedTuple):
    """The number of an open conversation, None if there is none, and those of messages that it has, by digest.

    `with_text` are the numbers of those that are not redacted. `is_closed`: the conversation is marked or erased.
    """

    conversation: int | None
    numbers: dict[bytes, int]
    with_text: set[int]
    is_closed: bool


def find_messages(chatbot: Chatbot, conversation: bytes, digests: Collection[bytes]) -> FoundMessages:
    """Find messages of a conversation by the digests of their ids, as lines of the ledger name them."""
    conversations = Conversation.objects.filter(chatbot=chatbot, external_id_digest=conversation)
    number, mark = conversations.values_list("pk", "deletion_request_id").first() or (None, None)
    if mark is not None:
        return FoundMessages(None, {}, set(), is_closed=True)
    messages = Message.objects.filter(chatbot=chatbot, conversation=number) if number else Message.objects.none()
    found = {
        message_digest(chatbot.public_id, conversation, external_id): (pk, kind)
        for pk, external_id, kind in messages.values_list("pk", "external_id", "kind")
    }
    wanted = {digest: found[digest] for digest in digests if digest in found}
    return FoundMessages(
        number,
        {digest: pk for digest, (pk, _) in wanted.items()},
        {pk for pk, kind in wanted.values() if kind != Message.Kind.REDACTED},
        is_closed=False,
    )


def find_lost_messages(redaction: Redaction, now: datetime) -> None:
    """Add to a replayed redaction the messages that were sent again since it was filed, and remember the others.

    In the transaction that empties, under intake's lock. Messages whose rows a restore has lost are stored as
    redacted from then on.
    """
    line = LedgerLine.objects.filter(request_id=redaction.request_id).values_list("line", flat=True).first()
    if line is None:
        return
    wanted = [bytes.fromhex(one) for one in line["messages"]]
    conversation = bytes.fromhex(line["conversation"])
    found = find_messages(redaction.chatbot, conversation, wanted)
    redaction.message_numbers = sorted({*redaction.message_numbers, *found.numbers.values()})
    redaction.save(update_fields=["message_numbers"])
    remember(redaction.chatbot, redaction.request_id, conversation, set(wanted).difference(found.numbers), now)


def remember(
    chatbot: Chatbot, request_id: UUID, conversation: bytes, messages: Collection[bytes], now: datetime
) -> None:
    """Have intake store messages of a conversation as redacted: their digests, and that of the conversation."""
    rows = [NewTombstone(message, conversation, request_id, now) for message in messages]
    tombstones.write(rows, chatbot_id=chatbot.pk)


def lock(redaction: Redaction) -> None:
    """Lock the redaction's conversation for the caller's transaction. Raises RowsInUse."""
    if not fetch(_LOCK, _values(redaction)):
        raise RowsInUse


def redacted_at(redaction: Redaction) -> datetime | None:
    """Return when the messages of a locked conversation were redacted, if all of them are."""
    [(at,)] = fetch(_REDACTED_AT, _values(redaction))
    return cast("datetime | None", at)


def empty(redaction: Redaction) -> int:
    """Empty the messages of a locked conversation, hide their files, and flag the extracts of their days.

    Returns how many messages had not been redacted. In the caller's transaction. Messages that are gone, or redacted
    already, are passed over.
    """
    execute(_HIDE_FILES, _values(redaction))
    sent = [at for (at,) in fetch(_EMPTY, _values(redaction))]
    extracts.flag([DeletedSpan(redaction.conversation_id, redaction.chatbot_id, at, at) for at in sent])
    return len(sent)


def expire_exports(redaction: Redaction) -> list[ExpiredExport]:
    """Expire the exports that hold the conversation, and return those that have to go.

    Not finished ones in a client's bucket, nor those that cannot be made again, before their grace is over. In the
    transaction that empties the messages, after that.
    """
    values = {**_values(redaction), "grace": settings.EXPORT_GRACE_DAYS.total_seconds()}
    return [ExpiredExport(*row) for row in fetch(_EXPIRE, values)]


def find(request_ids: Collection[UUID]) -> dict[UUID, VerificationResult]:
    """Search every store for what these redactions must remove; return an entry for each that has findings.

    Other requests, and redactions that have not begun, have none.
    """
    found: dict[UUID, VerificationResult] = defaultdict(VerificationResult)
    for what, request_id, count, error in fetch(_SEARCH, subjects(request_ids)):
        found[request_id].add(what, count, error)
    return dict(found)


def leave(request_ids: Collection[UUID]) -> None:
    """Record which copies these redactions leave, in the transaction that completes them."""
    execute(_LEAVE, subjects(request_ids))
    execute(_LEAVE_DAYS, subjects(request_ids))


def try_extracts_again(request_ids: Sequence[UUID]) -> None:
    """Try failed extracts again that these redactions wait for, in the caller's transaction."""
    extracts.try_again(request_ids, scope=_SCOPE)


def _values(redaction: Redaction) -> dict[str, str | int]:
    return {
        "conversation": redaction.conversation_id,
        "messages": array(redaction.message_numbers),
        "chatbots": array([redaction.chatbot_id]),
    }
