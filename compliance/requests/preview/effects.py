"""What a deletion would erase, keep and be held by, and what an export would hold."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from psycopg import sql

from chatbots.models import Chatbot
from common.db import array, fetch
from compliance.erasure import extracts
from compliance.erasure.exports import EXPIRES_AT, blocking
from compliance.inventory import ReachedBy, stores
from compliance.models import ComplianceRequest
from compliance.requests.inputs import ChatbotConfig
from compliance.requests.preview.subjects import MOST_NAMED, SUBJECTS, Finds, Found, Options, Subjects, Totals, total
from compliance.storage_locations import OUT_OF_REACH
from compliance.work.scope import EXPORTS_HOLDING, IS_OWN, OWN_EXPORTS
from conversations.models import Assurance, Identity, UploadedFile

HoldReason = ComplianceRequest.HoldReason
ByAssurance = Mapping[Assurance, int]

# Messages whose days are looked up one by one: as many as a deletion erases in one chunk. With more, a conversation
# counts for each day from its beginning to its last message.
EXACT_MESSAGES = 25_000

_COUNT_ROWS = sql.SQL("""
SELECT count(*)
  FROM unnest(%(numbers)s::bigint[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT FROM {table}
        WHERE conversation_id = ours.id AND chatbot_id = %(chatbot)s AND {condition} OFFSET 0) AS held
""")
_ALL, _HAS_VALUE = sql.SQL("TRUE"), sql.SQL("value IS NOT NULL")
_STORED, _WHOLE = sql.SQL("state = 'stored'"), sql.SQL("size IS NOT NULL")

# What `erasure.exports` would find and set for a deletion filed now: what holds one of these conversations, and the
# subjects' own exports. An earlier deletion may have emptied the key of what is in a client's bucket.
_GOES_NOW = f"(%(erase_exports)s AND EXISTS (SELECT FROM r WHERE {IS_OWN}))"
_SUBJECTS = f"WITH r AS MATERIALIZED (SELECT * FROM {SUBJECTS})"  # noqa: S608  (a text of ours)
_EXPORTS = f"""
{_SUBJECTS}, met AS (
    SELECT held.export_id
      FROM unnest(%(numbers)s::bigint[]) AS s(id) CROSS JOIN LATERAL ({EXPORTS_HOLDING}) AS held
     UNION
    SELECT own.id FROM r CROSS JOIN LATERAL ({OWN_EXPORTS}) AS own
)
SELECT e.request_id, e.hosting = 'hosted',
       CASE WHEN e.hosting = 'client' THEN e.finished_at IS NULL AND NOT ({OUT_OF_REACH})
            ELSE {EXPIRES_AT.format(goes_now=_GOES_NOW)} <= clock_timestamp() END
  FROM met
 CROSS JOIN LATERAL (
       SELECT * FROM compliance_export
        WHERE id = met.export_id AND (key IS NOT NULL OR (hosting = 'client' AND finished_at IS NOT NULL))
       OFFSET 0) AS e
 CROSS JOIN LATERAL (
       SELECT variable_id, uci_digest FROM compliance_compliancerequest WHERE id = e.request_id OFFSET 0) AS filed
 ORDER BY e.finished_at DESC NULLS FIRST, e.request_id
"""  # noqa: S608  (texts of ours)

# Of those that wait for a person.
_BLOCKED = blocking(head=_SUBJECTS, given="place", statuses="'failed', 'on_hold'")

_HOURS = """
SELECT min(m.sent_at), max(m.sent_at)
  FROM unnest(%(numbers)s::bigint[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT sent_at FROM conversations_message
        WHERE conversation_id = ours.id AND chatbot_id = %(chatbot)s OFFSET 0) AS m
 GROUP BY date_trunc('hour', m.sent_at)
"""

# The extracts that `erasure.extracts` would flag, and those that it has flagged for what is erased. A day without a
# file is made without what is erased, and is not counted. Overlapping spans are united first, so that a day is not
# looked up for each of them.
_DAYS = f"""
WITH met AS (
    SELECT e.id, NULL::bigint AS version
      FROM (SELECT range_agg(tstzrange(first, last, '[]')) AS spans
              FROM unnest(%(firsts)s::timestamptz[], %(lasts)s::timestamptz[]) AS given(first, last)) AS united
     CROSS JOIN LATERAL (
           SELECT %(chatbot)s AS chatbot_id, lower(span) AS first, upper(span) AS last
             FROM unnest(united.spans) AS span) AS said
     CROSS JOIN LATERAL ({extracts.OF_SPAN}) AS e
     UNION
    SELECT t.extract_id, t.version
      FROM unnest(%(erased)s::bigint[]) AS ours(id)
     CROSS JOIN LATERAL (
           SELECT extract_id, version FROM conversations_extractconversation
            WHERE conversation_id = ours.id OFFSET 0) AS t
)
SELECT count(DISTINCT e.id) FILTER (WHERE e.hosting = 'hosted' AND e.key IS NOT NULL
                                      AND (met.version IS NULL OR coalesce(e.made_version, 0) < met.version)),
       count(DISTINCT e.id) FILTER (WHERE e.hosting = 'client' AND e.made_version IS NOT NULL)
  FROM met
 CROSS JOIN LATERAL (
       SELECT id, hosting, key, made_version FROM conversations_dailyextract WHERE id = met.id OFFSET 0) AS e
"""  # noqa: S608  (a text of ours)


@dataclass(frozen=True)
class Deletion:
    """What a deletion would erase, by the request's counters, and keep. `found`: its conversations.

    `assurance`: of these, by how far the chatter's identity can be relied on; None if they are named by their ids.
    """

    erased: dict[str, int]
    kept_exports: int
    delivered_exports: int
    delivered_extracts: int
    exports_that_go: list[UUID]
    found: Totals
    assurance: ByAssurance | None


@dataclass(frozen=True)
class Export:
    """What an export would hold. `refused` is the code by which its filing would be refused now.

    `assurance` is as for a deletion, also of what is left out. `claimed`: of what it would hold, the conversations
    that were found by a value which came through the user channel.
    """

    found: Totals
    claimed: int
    files: int
    shared_left_out: int
    unverified_left_out: int
    assurance: ByAssurance | None
    refused: str | None


def count_deletion(subjects: Subjects, finds: Finds, options: Options) -> Deletion:
    """Return what a deletion of these subjects, or several together, would do to what was found of them."""
    numbers = [conversation.number for conversation in finds.live]
    found = total(finds.live)
    erased = {"conversations": found.conversations, "messages": found.messages}
    for store in stores(ReachedBy.CONVERSATION):
        if store.counter not in {"", "messages"}:
            condition = _HAS_VALUE if store.model is Identity else _ALL
            erased[store.counter] = _count_rows(store.table, subjects.chatbot, numbers, condition)
    # Also those of which only the object is left. One that is not whole counts for nothing.
    files = UploadedFile._meta.db_table
    erased["files"] = _count_rows(files, subjects.chatbot, [*numbers, *finds.erased], _WHOLE)
    values = {"numbers": array([*numbers, *finds.erased]), "erase_exports": options.erase_exports}
    values["grace"] = settings.EXPORT_GRACE_DAYS.total_seconds()
    exports = fetch(_EXPORTS, subjects.parameters | values)
    going = [request_id for request_id, _, goes in exports if goes]
    staying = [is_hosted for _, is_hosted, goes in exports if not goes]
    hosted, delivered = _count_days(subjects.chatbot, finds)
    return Deletion(
        erased=erased | {"exports": len(going), "extracts": hosted},
        kept_exports=staying.count(True),
        delivered_exports=staying.count(False),
        delivered_extracts=delivered,
        exports_that_go=going[:MOST_NAMED],
        found=found,
        assurance=by_assurance(subjects, finds.live),
    )


def count_export(subjects: Subjects, finds: Finds, options: Options) -> Export:
    """Return what exports of these subjects together would hold of what was found of them."""
    reliable, chosen = _reliable(finds), chosen_of(subjects, finds, options)
    return Export(
        found=total(chosen),
        claimed=claimed_of(chosen),
        files=count_files(subjects.chatbot, [one.number for one in chosen]) if options.include_files else 0,
        shared_left_out=len(reliable) - len(chosen),
        unverified_left_out=left_out(finds),
        assurance=by_assurance(subjects, finds.unmarked),
        refused=None if ChatbotConfig(subjects.chatbot).has_bucket else "export_destination_missing",
    )


def chosen_of(subjects: Subjects, finds: Finds, options: Options) -> list[Found]:
    """Return the conversations that an export would hold: shared ones where it says so, or names them by id."""
    is_all = options.include_shared or subjects.conversation_digests is not None
    return [one for one in _reliable(finds) if is_all or not one.is_shared]


def left_out(finds: Finds) -> int:
    """Return how many conversations an export would leave out as unverified, shared ones included."""
    return len(finds.unmarked) - len(_reliable(finds))


def _reliable(finds: Finds) -> list[Found]:
    return [one for one in finds.unmarked if one.is_enough]


def claimed_of(conversations: Sequence[Found]) -> int:
    """Return how many of the conversations were found by a value that came through the user channel."""
    return sum(one.assurance == Assurance.USER_CHANNEL for one in conversations)


def by_assurance(subjects: Subjects, conversations: Sequence[Found]) -> ByAssurance | None:
    """Return how many of a chatter's conversations there are by assurance; None if they are named by their ids."""
    if subjects.conversation_digests is not None:
        return None
    found = Counter(one.assurance for one in conversations)
    return {level: found[level] for level in Assurance}


def count_files(chatbot: Chatbot, numbers: Collection[int]) -> int:
    """Return how many uploaded files of these conversations can be read."""
    return _count_rows(UploadedFile._meta.db_table, chatbot, numbers, _STORED)


def holds(subjects: Subjects, each: Sequence[Finds]) -> list[list[HoldReason]]:
    """Return what would hold a deletion of each of these, in the order in which it is asked."""
    # By an export by the other selector.
    blocked = {place for place, _ in fetch(_BLOCKED, subjects.parameters)}
    most = subjects.chatbot.max_conversations_per_deletion
    reasons = [
        {
            HoldReason.EXPORT_PENDING: finds.is_blocked or place in blocked,
            HoldReason.TOO_MANY_CONVERSATIONS: len(finds.live) > most,
            HoldReason.AWAITING_APPROVAL: subjects.chatbot.four_eyes,
        }
        for place, finds in enumerate(each)
    ]
    return [[reason for reason, holds_it in of_it.items() if holds_it] for of_it in reasons]


def _count_rows(table: str, chatbot: Chatbot, numbers: Collection[int], condition: sql.SQL) -> int:
    statement = _COUNT_ROWS.format(table=sql.Identifier(table), condition=condition)
    [(number,)] = fetch(statement, {"chatbot": chatbot.pk, "numbers": array(numbers)})
    return int(number)


def _count_days(chatbot: Chatbot, finds: Finds) -> tuple[int, int]:
    """Return how many hosted days would be rebuilt, and how many delivered ones would be left."""
    if not extracts.has_any([chatbot.pk]):
        return 0, 0
    if sum(one.message_count for one in finds.live) <= EXACT_MESSAGES:
        spans = fetch(_HOURS, {"chatbot": chatbot.pk, "numbers": array(one.number for one in finds.live)})
    else:
        spans = [(one.first, one.last) for one in finds.live]
    values = {
        "chatbot": chatbot.pk,
        "firsts": [first for first, _ in spans],
        "lasts": [last for _, last in spans],
        "erased": array(finds.erased),
    }
    [(hosted, delivered)] = fetch(_DAYS, values)
    return hosted, delivered
