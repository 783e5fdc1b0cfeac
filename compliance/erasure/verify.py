"""Look again: what is left of what a deletion had to erase, read from the data and never from the plan.

Searched are the conversations, everything that hangs on one, the exports that had to go, the days' extracts that may
hold erased messages, the chatter's identities, and the notes on the chatter's requests. Objects are looked for again
by `purge`, when they are removed. `Leftovers` name stores and count rows; they hold no content.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import cast
from uuid import UUID

from django.db import connection
from psycopg import sql

from chatbots import public_ids
from chatbots.secrets import digest
from compliance import notes
from compliance.inventory import CONVERSATION, Fate, Way, stores
from compliance.models import ComplianceRequest, RequestNote
from config.arrays import array
from conversations.models import DailyExtract, Identity
from conversations.named import NAMED

_PER_LOOK = 500

# As leftovers are told, where they are not named by their table.
_OF_CHATTER = "the chatter's identities"
_BY_IDS = "conversations with the ids"


@dataclass
class Leftovers:
    """What was found of one deletion's data: rows by table, and whether another deletion is at work on them."""

    rows: dict[str, int] = field(default_factory=dict)
    under_way: bool = False

    @property
    def is_days_alone(self) -> bool:
        """Say that nothing is left but days' files, which others make again."""
        return self.rows.keys() == {DailyExtract._meta.db_table}

    def __str__(self) -> str:
        return ", ".join(f"{count} in {table}" for table, count in sorted(self.rows.items()))


# The marked conversations are read once, and each store is searched for rows of theirs.
_LEFT = sql.SQL(
    "WITH marked AS MATERIALIZED ("
    "SELECT id, deletion_request_id AS request_id, deleted_at IS NULL OR {holds} AS is_left"
    " FROM {conversations} WHERE deletion_request_id = ANY(%s)) {searches}"
    " UNION ALL SELECT {name}, request_id, count(*) FROM marked WHERE is_left GROUP BY 2"
)
# The inner count keeps PostgreSQL from joining in another order, which without statistics reads the tables whole.
_SEARCH = sql.SQL(
    "SELECT {name}, m.request_id, sum(found.n)::bigint FROM marked m"
    " CROSS JOIN LATERAL ("
    "SELECT count(*) AS n FROM {table} WHERE conversation_id = m.id HAVING count(*) > 0) AS found GROUP BY 2"
)

_EXPORTS = """
SELECT doomed_by, count(*) FROM compliance_export WHERE doomed_by = ANY(%s) AND key IS NOT NULL GROUP BY 1
"""

# Of completed deletions: what lies in clients' buckets is theirs, but its key, which bears the value, is gone here.
# Another's export, which holds a conversation they shared, bears the other's value and keeps it. The key of an export
# of certain conversations bears nothing.
_LEFT_KEYS = """
SELECT e.left_by, count(*)
  FROM compliance_export e
  JOIN compliance_compliancerequest made ON made.id = e.request_id
  JOIN compliance_compliancerequest d ON d.id = e.left_by
  LEFT JOIN compliance_exportfile f ON f.export_id = e.id
 WHERE e.left_by = ANY(%s) AND e.hosting = 'client'
   AND (f.id IS NOT NULL
        OR (e.key IS NOT NULL
            AND made.variable_id = d.variable_id AND made.uci_digest IS NOT DISTINCT FROM d.uci_digest))
 GROUP BY 1
"""

# The days' files that were read before the deletion erased, and may hold the chatter.
_EXTRACTS = """
SELECT ours.id, count(*)
  FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT extract_id, version FROM conversations_extracterasure WHERE request_id = ours.id OFFSET 0) AS t
 CROSS JOIN LATERAL (
       SELECT FROM conversations_dailyextract
        WHERE id = t.extract_id AND hosting = 'hosted' AND key IS NOT NULL
          AND coalesce(made_version, 0) < t.version OFFSET 0) AS e
 GROUP BY 1
"""

# While the request still knows whom it names: the chatter under any conversation that is marked, or that began
# before the cut (intake refuses such a one since). What began later and is unmarked is new, and so is what took an id
# that had no conversation at the cut.
_STILL_NAMED = f"""
SELECT r.id, CASE WHEN r.variable_id IS NULL THEN %s ELSE %s END, count(*),
       bool_and(c.deletion_request_id IS NOT NULL AND c.deletion_request_id <> r.id
                AND EXISTS (SELECT 1 FROM compliance_compliancerequest other
                             WHERE other.id = c.deletion_request_id
                               AND other.status IN ('accepted', 'processing', 'failed')))
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL ({NAMED}) AS named
  JOIN conversations_conversation c ON c.id = named.conversation_id
 WHERE r.id = ANY(%s)
   AND (c.deletion_request_id IS NOT NULL OR (named.identity_id IS NOT NULL AND c.started_at < r.cut_at))
 GROUP BY r.id
"""  # noqa: S608  (a text of ours)


# Of completed deletions: a conversation with such an id that began before the cut, whatever it is marked with.
_STORED_BY_ID = """
SELECT r.id, count(*)
  FROM compliance_compliancerequest r
  JOIN conversations_conversation c
    ON c.chatbot_id = r.chatbot_id AND c.external_id_digest = ANY(r.conversation_digests)
 WHERE r.id = ANY(%s) AND c.deleted_at IS NULL AND c.started_at < r.cut_at
 GROUP BY r.id
"""


def look_again(request_ids: Sequence[UUID]) -> dict[UUID, Leftovers]:
    """Search every store for what these deletions had to erase; return an entry for each that left something."""
    found: dict[UUID, Leftovers] = defaultdict(Leftovers)
    ids = [array(request_ids)]
    with connection.cursor() as cursor:
        cursor.execute(_rows_left(), ids)
        for table, request_id, count in cursor.fetchall():
            found[request_id].rows[table] = count
        for table, statement in (("compliance_export", _EXPORTS), (DailyExtract._meta.db_table, _EXTRACTS)):
            cursor.execute(statement, ids)
            for request_id, count in cursor.fetchall():
                found[request_id].rows[table] = count
        cursor.execute(_STILL_NAMED, [_BY_IDS, _OF_CHATTER, *ids])
        for request_id, named, count, under_way in cursor.fetchall():
            # Only what others are erasing right now is worth waiting for; anything else of ours is a failure.
            found[request_id].under_way = under_way and not found[request_id].rows
            found[request_id].rows[named] = count
    for request_id, count in notes.left(request_ids).items():
        found[request_id].rows[RequestNote._meta.db_table] = count
    return dict(found)


@dataclass(frozen=True)
class Audit:
    verified: int
    left: dict[UUID, Leftovers]


def audit(request_ids: Sequence[UUID]) -> Audit:
    """Look again at completed deletions, whose chatters' values are forgotten.

    Besides `look_again`, the keyed digest of every stored identity of the variables in question is compared
    with those of the erased chatters, and the ids of stored conversations with those that were erased by id: what
    a restored backup brought back is found. Digests are kept for ERASURE_LEDGER_DAYS; an older deletion is looked at
    by its marks alone.
    """
    left: dict[UUID, Leftovers] = {}
    for start in range(0, len(request_ids), _PER_LOOK):
        some = request_ids[start : start + _PER_LOOK]
        left |= look_again(some)
        for request_id, count in _left_keys(some):
            left.setdefault(request_id, Leftovers()).rows["keys in compliance_export"] = count
        for request_id, count in _stored_by_id(some):
            left.setdefault(request_id, Leftovers()).rows[_BY_IDS] = count
    erased = {
        (request.variable_id, bytes(request.uci_digest)): request
        for request in ComplianceRequest.objects.filter(pk__in=request_ids, uci_digest__isnull=False).order_by("seq")
        if request.uci_digest is not None
    }
    scopes = public_ids.of_variables(variable for variable, _ in erased if variable is not None)
    named = Identity.objects.filter(variable__in=scopes).values_list(
        "variable_id", "value", "conversation__started_at"
    )
    for variable, value, started_at in named.iterator(chunk_size=10_000):
        request = erased.get((variable, digest("chatter", scopes[variable], value)))
        if request and request.cut_at and started_at < request.cut_at:
            rows = left.setdefault(request.pk, Leftovers()).rows
            rows[_OF_CHATTER] = rows.get(_OF_CHATTER, 0) + 1
    return Audit(verified=len(request_ids), left=left)


def _stored_by_id(request_ids: Sequence[UUID]) -> list[tuple[UUID, int]]:
    with connection.cursor() as cursor:
        cursor.execute(_STORED_BY_ID, [array(request_ids)])
        return cast("list[tuple[UUID, int]]", cursor.fetchall())


def _left_keys(request_ids: Sequence[UUID]) -> list[tuple[UUID, int]]:
    with connection.cursor() as cursor:
        cursor.execute(_LEFT_KEYS, [array(request_ids)])
        return cast("list[tuple[UUID, int]]", cursor.fetchall())


@cache
def _rows_left() -> sql.Composable:
    searches = [
        _SEARCH.format(name=sql.Literal(store.table), table=sql.Identifier(store.table))
        for store in (*stores(Way.CONVERSATION), *stores(Way.FILE))
    ]
    return _LEFT.format(
        holds=_holds_something(),
        conversations=sql.Identifier(CONVERSATION.table),
        name=sql.Literal(CONVERSATION.table),
        searches=sql.SQL(" UNION ALL ").join(searches),
    )


def _holds_something() -> sql.Composable:
    return sql.SQL(" OR ").join(
        sql.SQL("{} IS NOT NULL").format(sql.Identifier(column)) for column in CONVERSATION.with_fate(Fate.EMPTIED)
    )
