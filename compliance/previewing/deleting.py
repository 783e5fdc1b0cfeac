"""What a deletion would erase, keep and be held by."""

from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from heapq import nlargest
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from psycopg import sql

from chatbots import public_ids
from chatbots.models import Chatbot
from chatbots.secrets import digest
from compliance.by_ids import IS_ANY, IS_ANY_OPEN, NAMING
from compliance.erasure import extracts
from compliance.inventory import Way, stores
from compliance.models import ComplianceRequest
from compliance.previewing.finding import Ahead, Finds, Found, Subject, rows
from compliance.whereabouts import HOSTED, OUT_OF_REACH
from config.arrays import array
from conversations.models import UploadedFile

HoldReason = ComplianceRequest.HoldReason

# Of the ids that the answer names.
MOST_NAMED = 100
# The messages whose days are looked up one by one: as many as a deletion erases in one bite. Beyond, a conversation
# counts for each day from its beginning to its last message.
EXACT_MESSAGES = 25_000

_COUNT_ROWS = sql.SQL("""
SELECT count(*)
  FROM unnest(%s::bigint[]) AS ours(id)
 CROSS JOIN LATERAL (SELECT FROM {table} WHERE conversation_id = ours.id AND {condition} OFFSET 0) AS held
""")
_ALL, _STORED = sql.SQL("TRUE"), sql.SQL("state = 'stored'")

_PEOPLE = """
SELECT DISTINCT i.variable_id, i.value
  FROM unnest(%s::bigint[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT variable_id, value FROM conversations_identity WHERE conversation_id = ours.id OFFSET 0) AS i
"""

# As `erasure.dooming` meets them: the exports of everybody who was in these conversations, and those that named one
# of them by its id. One look-up for each conversation: the index takes the square of what it is asked for at once.
# What a deletion that failed had doomed goes in any case.
_EXPORTS = f"""
WITH asked AS (
    SELECT x.id
      FROM unnest(%(variables)s::bigint[], %(digests)s::bytea[]) AS whose(variable_id, digest)
     CROSS JOIN LATERAL (
           SELECT id FROM compliance_compliancerequest
            WHERE variable_id = whose.variable_id AND uci_digest = whose.digest AND kind = 'export' OFFSET 0) AS x
     UNION
    SELECT x.id
      FROM (SELECT external_id_digest
              FROM unnest(%(numbers)s::bigint[]) AS ours(id)
             CROSS JOIN LATERAL (
                   SELECT external_id_digest FROM conversations_conversation WHERE id = ours.id OFFSET 0) AS each
             UNION ALL
            SELECT unnest(%(conversations)s::bytea[])) AS c(external_id_digest)
     CROSS JOIN LATERAL {NAMING} AS x
     WHERE x.kind = 'export' AND {IS_ANY}
), met AS (
    SELECT e.* FROM asked
     CROSS JOIN LATERAL (
           SELECT * FROM compliance_export WHERE request_id = asked.id AND key IS NOT NULL OFFSET 0) AS e
     UNION
    SELECT e.* FROM unnest(%(failed)s::uuid[]) AS failed(id)
     CROSS JOIN LATERAL (
           SELECT * FROM compliance_export WHERE doomed_by = failed.id AND key IS NOT NULL OFFSET 0) AS e
)
SELECT e.request_id, e.finished_at, e.hosting, e.finished_at IS NULL AND {OUT_OF_REACH},
       coalesce(e.finished_at > now() - make_interval(secs => %(grace)s), FALSE),
       coalesce(e.doomed_by = ANY(%(failed)s::uuid[]), FALSE)
  FROM met AS e
 ORDER BY e.finished_at DESC NULLS FIRST, e.request_id
"""  # noqa: S608  (a text of ours)

# As `erasure.owed` asks for exports that name the same by the other selector; of those that wait for a person.
_PEOPLE_AND_HOW_MANY = """
SELECT DISTINCT i.variable_id, i.value, i.people > 1
  FROM unnest(%s::bigint[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT variable_id, value, count(*) OVER () AS people
         FROM conversations_identity WHERE conversation_id = ours.id OFFSET 0) AS i
"""
_OWED_TO_CHATTERS = """
SELECT EXISTS (
    SELECT FROM unnest(%(variables)s::bigint[], %(digests)s::bytea[], %(shared)s::boolean[])
                  AS whose(variable_id, digest, is_shared)
      JOIN compliance_compliancerequest e
        ON e.variable_id = whose.variable_id AND e.uci_digest = whose.digest AND e.status IN ('failed', 'on_hold')
     WHERE e.kind = 'export' AND e.uci_value IS NOT NULL AND (e.include_shared OR NOT whose.is_shared))
"""
_OWED_BY_IDS = f"""
SELECT DISTINCT ours.id
  FROM unnest(%s::bigint[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT external_id_digest FROM conversations_conversation WHERE id = ours.id OFFSET 0) AS c
 CROSS JOIN LATERAL {NAMING} AS e
 WHERE e.kind = 'export' AND e.status IN ('failed', 'on_hold') AND {IS_ANY_OPEN}
"""  # noqa: S608  (texts of ours)

_HOURS = """
SELECT min(m.sent_at), max(m.sent_at)
  FROM unnest(%s::bigint[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT sent_at FROM conversations_message WHERE conversation_id = ours.id OFFSET 0) AS m
 GROUP BY date_trunc('hour', m.sent_at)
"""

# As `erasure.extracts` flags them. A day that has no file yet is made without what is erased, and counts for nothing.
_DAYS = """
WITH met AS (
    SELECT e.id
      FROM unnest(%(firsts)s::timestamptz[], %(lasts)s::timestamptz[]) AS said(first, last)
     CROSS JOIN LATERAL (
           SELECT id FROM conversations_dailyextract
            WHERE chatbot_id = %(chatbot)s
              AND day BETWEEN (said.first AT TIME ZONE 'UTC')::date - 2 AND (said.last AT TIME ZONE 'UTC')::date + 2
              AND starts_at <= said.last AND ends_at > said.first AND state <> 'expired' OFFSET 0) AS e
     UNION
    SELECT theirs.extract_id
      FROM unnest(%(failed)s::uuid[]) AS failed(id)
     CROSS JOIN LATERAL (
           SELECT extract_id FROM conversations_extracterasure WHERE request_id = failed.id OFFSET 0) AS theirs
)
SELECT count(*) FILTER (WHERE e.hosting = 'hosted' AND e.key IS NOT NULL),
       count(*) FILTER (WHERE e.hosting = 'client' AND e.made_version IS NOT NULL)
  FROM met
 CROSS JOIN LATERAL (
       SELECT hosting, key, made_version FROM conversations_dailyextract WHERE id = met.id OFFSET 0) AS e
"""


class Named(NamedTuple):
    """The conversations of a preview: the newest of them, and the highest number of all."""

    newest: list[Found]
    highest: int


def named(conversations: Sequence[Found]) -> Named:
    newest = nlargest(MOST_NAMED, conversations, key=lambda one: (one.first, one.number))
    return Named(newest, max((one.number for one in conversations), default=0))


@dataclass(frozen=True)
class Deletion:
    """What a deletion would erase and keep. `erased` by the request's counters."""

    erased: dict[str, int]
    shared_conversations: int
    kept_exports: int
    delivered_exports: int
    delivered_extracts: int
    exports_that_go: list[UUID]
    held_by: list[HoldReason]
    found: Named


@dataclass(frozen=True)
class Asked:
    """Whom a deletion, or several together, would name, and which deletions of them failed before."""

    chatbot: Chatbot
    people: Set[tuple[int | None, str | None]]
    conversation_digests: Sequence[bytes] | None
    failed_deletions: Sequence[UUID]


def deletion(subject: Subject, finds: Finds, ahead: Ahead, *, erase_exports: bool) -> Deletion:
    asked = Asked(
        chatbot=subject.chatbot,
        people=set() if subject.is_by_id else {(subject.variable_id, subject.uci_value)},
        conversation_digests=subject.conversation_digests,
        failed_deletions=ahead.failed_deletions,
    )
    return count(asked, finds, erase_exports=erase_exports, held_by=_held_by(subject, finds, ahead))


def count(asked: Asked, finds: Finds, *, erase_exports: bool, held_by: list[HoldReason]) -> Deletion:
    numbers = [conversation.number for conversation in finds.free]
    erased = {"conversations": len(numbers), "messages": sum(one.message_count for one in finds.free)}
    for store in stores(Way.CONVERSATION):
        if store.counter != "messages":
            erased[store.counter] = count_rows(store.table, numbers)
    erased["files"] = count_files([*numbers, *finds.erased_with_files])
    met = _exports_met(asked, numbers)
    goes = [one for one in met if one.goes(erase_exports=erase_exports)]
    stays = [one for one in met if not one.goes(erase_exports=erase_exports)]
    hosted, delivered = _days(asked, finds.free)
    return Deletion(
        erased=erased | {"exports": len(goes), "extracts": hosted},
        shared_conversations=sum(one.people > 1 for one in finds.free),
        kept_exports=sum(one.is_hosted for one in stays),
        delivered_exports=sum(not one.is_hosted for one in stays),
        delivered_extracts=delivered,
        exports_that_go=[one.request_id for one in goes[:MOST_NAMED]],
        held_by=held_by,
        found=named(finds.free),
    )


def count_files(numbers: Collection[int], *, only_stored: bool = False) -> int:
    """Return how many uploaded files these conversations have."""
    return count_rows(UploadedFile._meta.db_table, numbers, condition=_STORED if only_stored else _ALL)


def count_rows(table: str, numbers: Collection[int], *, condition: sql.SQL = _ALL) -> int:
    """Return how many rows of a table these conversations have."""
    statement = _COUNT_ROWS.format(table=sql.Identifier(table), condition=condition)
    [(number,)] = rows(statement, [array(numbers)])
    return int(number)


def _held_by(subject: Subject, finds: Finds, ahead: Ahead) -> list[HoldReason]:
    is_owed = ahead.holds_deletions or _is_owed_otherwise(subject, finds)
    return holds(subject.chatbot, named=finds.named, is_owed=is_owed)


def holds(chatbot: Chatbot, *, named: int, is_owed: bool) -> list[HoldReason]:
    """Return what would hold a deletion, in the order in which it is asked."""
    holds = {
        HoldReason.EXPORT_PENDING: is_owed,
        HoldReason.TOO_MANY_CONVERSATIONS: named > chatbot.max_conversations_per_deletion,
        HoldReason.AWAITING_APPROVAL: chatbot.four_eyes,
    }
    return [reason for reason, holds_it in holds.items() if holds_it]


def _is_owed_otherwise(subject: Subject, finds: Finds) -> bool:
    """Say whether an export by the other selector owes one of these conversations."""
    numbers = array(conversation.number for conversation in finds.unmarked)
    if subject.is_by_id:
        whose = rows(_PEOPLE_AND_HOW_MANY, [numbers])
        scopes = public_ids.of_variables(variable for variable, _, _ in whose)
        values = {
            "variables": array(variable for variable, _, _ in whose),
            "digests": [digest("chatter", scopes[variable], value) for variable, value, _ in whose],
            "shared": [is_shared for _, _, is_shared in whose],
        }
        [(is_owed,)] = rows(_OWED_TO_CHATTERS, values)
        return bool(is_owed)
    return bool(owed_by_ids(one.number for one in finds.unmarked))


def owed_by_ids(numbers: Iterable[int]) -> set[int]:
    """Return those of these conversations that an export by ids owes, which waits for a person."""
    return {number for (number,) in rows(_OWED_BY_IDS, [array(numbers)])}


class _Met(NamedTuple):
    """An export that holds what the deletion would erase."""

    request_id: UUID
    finished_at: datetime | None
    hosting: str
    is_out_of_reach: bool
    is_fresh: bool
    is_doomed: bool

    @property
    def is_hosted(self) -> bool:
        return self.hosting == HOSTED

    def goes(self, *, erase_exports: bool) -> bool:
        if self.is_hosted:
            return self.is_doomed or erase_exports or not self.is_fresh
        return self.finished_at is None and not self.is_out_of_reach


def _exports_met(asked: Asked, numbers: Sequence[int]) -> list[_Met]:
    whose = {*rows(_PEOPLE, [array(numbers)]), *asked.people}
    scopes = public_ids.of_variables(variable for variable, _ in whose)
    values = {
        "variables": array(variable for variable, _ in whose),
        "digests": [digest("chatter", scopes[variable], value) for variable, value in whose],
        "numbers": array(numbers),
        "conversations": asked.conversation_digests,
        "failed": array(asked.failed_deletions),
        "grace": settings.EXPORT_GRACE_DAYS.total_seconds(),
    }
    return [_Met(*row) for row in rows(_EXPORTS, values)]


def _days(asked: Asked, conversations: Sequence[Found]) -> tuple[int, int]:
    """Return how many hosted days would be made again, and how many delivered ones would be left."""
    if not extracts.has_any([asked.chatbot.pk]):
        return 0, 0
    if sum(one.message_count for one in conversations) <= EXACT_MESSAGES:
        spans = rows(_HOURS, [array(one.number for one in conversations)])
    else:
        spans = _united(sorted((one.first, one.last) for one in conversations))
    values = {
        "chatbot": asked.chatbot.pk,
        "firsts": [first for first, _ in spans],
        "lasts": [last for _, last in spans],
        "failed": array(asked.failed_deletions),
    }
    [(hosted, delivered)] = rows(_DAYS, values)
    return hosted, delivered


def _united(spans: Sequence[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Return spans of time, in order, with those that overlap made one."""
    united: list[tuple[datetime, datetime]] = []
    for first, last in spans:
        if united and first <= united[-1][1]:
            united[-1] = united[-1][0], max(united[-1][1], last)
        else:
            united.append((first, last))
    return united
