"""Verify a deletion: search every store for remaining data in its scope. Reads the data, never the plan.

One statement searches all stores. The engine runs it to find its work, and again in the transaction that completes;
`verify_erasure` runs it for completed requests. It searches the conversations in scope (`scope`), every store that
belongs to one (`compliance/inventory.py`), the exports that have to go, and hosted daily extracts; of a redaction its
messages, their files and its CSAT comment in place of the conversation. Notes on the chatter's requests are searched
beside it. Objects are searched when they are removed (`purge`). Results contain stores and counts of rows, and no
content.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from uuid import UUID

from psycopg import sql

from common.db import fetch
from compliance.errors import StepFailed
from compliance.inventory import CONVERSATION, Disposition, ReachedBy, stores
from compliance.models import ComplianceRequest, Export, RequestNote
from compliance.work import free_text
from compliance.work.scope import DELETIONS, GOES, IN_SCOPE_WITH, IS_AT_CLIENT, OWN_EXPORTS, REDACTIONS, Scope
from compliance.work.sql import REQUESTS, chatbot_of_each, subjects
from conversations.models import DailyExtract, Identity, Message, UploadedFile
from conversations.placement import by_place

_AT_ONCE = 500
EXPORTS, EXTRACTS, FILES = Export._meta.db_table, DailyExtract._meta.db_table, UploadedFile._meta.db_table
_COUNTS = {"erased_before", "extracts_clean", "copies_kept", "at_clients", "digests_left"}

# The conversations in scope are read once, and each store is searched for their rows. The inner count keeps
# PostgreSQL from another join order, which without statistics reads whole tables. `thing` is the number of what is
# counted once, however many conversations lead to it. `erased_before` is the number of a conversation that another
# deletion had erased before the mark; it comes with each finding, since to look it up afterwards would go row by row.
_SEARCH_ALL = sql.SQL("""
{head}, met AS (
    SELECT s.request_id, s.erased_before, held.export_id
      FROM scope AS s CROSS JOIN LATERAL ({exports_holding}) AS held
     UNION ALL
    SELECT r.id, NULL, own.id FROM r CROSS JOIN LATERAL ({own_exports}) AS own
), judged AS (
    SELECT met.request_id, met.erased_before, e.id, e.hosting, e.goes,
           NOT e.goes AND (e.was_left_in_former_bucket
                           OR (e.finished_at IS NOT NULL AND (e.hosting = 'client' OR e.key IS NOT NULL))) AS stays
      FROM met
     CROSS JOIN LATERAL (
           SELECT variable_id, uci_digest, erase_exports
             FROM compliance_compliancerequest WHERE id = met.request_id OFFSET 0) AS r
     CROSS JOIN LATERAL (
           SELECT e.*, coalesce({goes}, FALSE) AS goes FROM compliance_export AS e
            WHERE e.id = met.export_id OFFSET 0) AS e
), days AS (
    SELECT s.request_id, s.erased_before, e.id, e.hosting, e.key, e.state, e.error_code, e.error_detail,
           coalesce(e.made_version, 0) >= t.version AS is_clean, e.finished_at > s.cutoff_at AS is_new,
           {at_client} AS is_at_client
      FROM scope AS s
     CROSS JOIN LATERAL (
           SELECT extract_id, version FROM conversations_extractconversation
            WHERE conversation_id = s.id OFFSET 0) AS t
     CROSS JOIN LATERAL (SELECT * FROM conversations_dailyextract WHERE id = t.extract_id OFFSET 0) AS e
     WHERE {day}
), found AS (
    SELECT {exports} AS what, request_id, erased_before, id AS thing, 1 AS n, NULL AS error FROM judged WHERE goes
    UNION ALL
    SELECT 'at_clients', request_id, NULL, id, 1, NULL FROM judged WHERE goes AND hosting = 'client'
    UNION ALL
    SELECT 'copies_kept', request_id, NULL, id, 1, NULL FROM judged WHERE stays
    UNION ALL
    SELECT 'copies_kept', request_id, NULL, -id, 1, NULL
      FROM days WHERE is_at_client
    UNION ALL
    SELECT 'extracts_clean', request_id, NULL, id, 1, NULL FROM days WHERE hosting = 'hosted' AND is_clean AND is_new
    UNION ALL
    SELECT {days}, request_id, erased_before, id, 1,
           CASE WHEN state = 'failed' THEN error_code || E'\\n' || error_detail END
      FROM days WHERE hosting = 'hosted' AND NOT is_clean AND key IS NOT NULL
    {searches}
)
SELECT what, request_id, CASE WHEN count(thing) > 0 THEN count(DISTINCT thing) ELSE sum(n) END::bigint, max(error)
  FROM found GROUP BY 1, 2
 UNION ALL
SELECT 'erased_before', request_id, count(DISTINCT erased_before), NULL
  FROM found WHERE erased_before IS NOT NULL
 GROUP BY 2
""")
_SEARCH_STORE = sql.SQL("""
UNION ALL
SELECT {name}, s.request_id, s.erased_before, NULL, found.n, NULL
  FROM scope AS s
 CROSS JOIN LATERAL (
       SELECT count(*) AS n FROM {table} AS f
        WHERE conversation_id = s.id AND chatbot_id = ANY(%(chatbots)s) AND {which} HAVING count(*) > 0) AS found
 WHERE {has_any}
""")
# Whether a store has a row of any conversation in scope: one scan of an index for all. Mostly none is left. Then the
# store is not searched for each conversation.
_HAS_ANY = sql.SQL("""
EXISTS (SELECT 1 FROM {table}
         WHERE conversation_id = ANY(ARRAY(SELECT id FROM scope)) AND chatbot_id = ANY(%(chatbots)s))
""")
# Of the `people` of an erased conversation, `named` still have their value, and `known` their digest.
_HEAD_OF_DELETIONS = sql.SQL("""
{requests}, scope AS MATERIALIZED (
    SELECT r.id AS request_id, r.cutoff_at, s.* FROM r CROSS JOIN LATERAL ({in_scope}) AS s
), people AS (
    SELECT s.request_id, s.erased_before, i.named, i.known
      FROM scope AS s
     CROSS JOIN LATERAL (
           SELECT count(value) AS named, count(*) - count(value) AS known
             FROM {identities}
            WHERE conversation_id = s.id AND chatbot_id = ANY(%(chatbots)s) HAVING count(*) > 0) AS i
     WHERE {has_any}
)
""")
_SEARCH_CONVERSATIONS = sql.SQL("""
UNION ALL
SELECT {conversations}, request_id, erased_before, NULL, 1, NULL FROM scope WHERE is_left
UNION ALL
SELECT {identities}, request_id, erased_before, NULL, named, NULL FROM people WHERE named > 0
UNION ALL
SELECT 'digests_left', request_id, NULL, NULL, known, NULL FROM people WHERE known > 0
""")
# The comment of a conversation that a redaction covers, or that a document could still bring.
_SEARCH_COMMENTS = sql.SQL("""
UNION ALL
SELECT {conversations}, s.request_id, NULL, s.id, 1, NULL
  FROM scope AS s
 CROSS JOIN LATERAL (
       SELECT 1 FROM conversations_conversation
        WHERE id = s.id AND chatbot_id = ANY(%(chatbots)s)
          AND (csat_comment IS NOT NULL OR (deleted_at IS NULL AND NOT csat_comment_redacted))) AS c
 WHERE s.csat_comment
""")

# Keys that a completed deletion should have cleared: those of its chatter's own exports in a client's bucket. The
# keys of another chatter's export, or of an export by conversation ids, do not contain this chatter's value.
_LEFT_KEYS = f"""
SELECT r.id, count(*)
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL ({OWN_EXPORTS}) AS own
 CROSS JOIN LATERAL (
       SELECT id, key FROM compliance_export
        WHERE id = own.id AND hosting = 'client' AND finished_at <= r.completed_at) AS e
  LEFT JOIN compliance_exportfile f ON f.export_id = e.id
 WHERE r.id = ANY(%(ids)s) AND (f.id IS NOT NULL OR e.key IS NOT NULL)
 GROUP BY 1
"""


@dataclass
class VerificationResult:
    """The remaining data of one deletion. `rows` are counted by table, daily extracts included.

    `erased_before`: conversations that another deletion had erased before this one's mark. `extracts_clean`: rebuilt
    extracts. `copies_kept`: copies left where they are. `at_clients`: exports to remove from a client's bucket.
    `digests_left`: digests of people in erased conversations. `failure`: why an extract could not be rebuilt.
    """

    rows: Counter[str] = field(default_factory=Counter)
    erased_before: int = 0
    extracts_clean: int = 0
    copies_kept: int = 0
    at_clients: int = 0
    digests_left: int = 0
    failure: StepFailed | None = None

    @property
    def is_nothing(self) -> bool:
        return not self.rows

    @property
    def has_our_objects(self) -> bool:
        """Return whether files or exports are left in the hosted bucket."""
        return self.rows[FILES] + self.rows[EXPORTS] > self.at_clients

    @property
    def is_stuck(self) -> bool:
        """Return whether rows of erased conversations are left, which no step removes."""
        return bool(self.rows.keys() - {FILES, EXPORTS, EXTRACTS}) and not self.rows[CONVERSATION.table]

    @property
    def only_extracts_left(self) -> bool:
        """Return whether only daily extracts are left, which other workers rebuild."""
        return self.rows.keys() == {EXTRACTS}

    def add(self, what: str, count: int, error: str | None) -> None:
        """Add a row of a search: one of our counts, or the number of rows in a table."""
        if what in _COUNTS:
            setattr(self, what, count)
            return
        self.rows[what] = count
        if error is not None:
            code, _, detail = error.partition("\n")
            # The extract has used up its attempts; further attempts of the deletion would not help.
            detail = f"A daily extract could not be rebuilt. {detail}"
            self.failure = StepFailed(code, detail, retryable=False)

    def __str__(self) -> str:
        return ", ".join(f"{count} in {table}" for table, count in sorted(self.rows.items()))


def find_leftovers(request_ids: Collection[UUID], *, of: Scope = DELETIONS) -> dict[UUID, VerificationResult]:
    """Search every store for data that these requests must erase; return an entry for each with findings.

    A request that has not marked has nothing in its scope, nor has a request of another kind.
    """
    found: dict[UUID, VerificationResult] = defaultdict(VerificationResult)
    for what, request_id, count, error in fetch(_question(of), subjects(request_ids)):
        found[request_id].add(what, count, error)
    return dict(found)


def verify(
    request_ids: Collection[UUID], *, of: Scope = DELETIONS, clears_notes: bool = False
) -> dict[UUID, VerificationResult]:
    """Search as `find_leftovers`, and the notes on the chatters' requests, which must be empty at completion too.

    With `clears_notes`, first clear the notes of deletions that left nothing else, in the caller's transaction, and
    search those alone.
    """
    found = defaultdict(VerificationResult, find_leftovers(request_ids, of=of))
    searched = list(request_ids)
    if clears_notes:
        searched = [each for each in request_ids if each not in found or found[each].is_nothing]
        free_text.empty_notes(searched)
    for request_id, count in free_text.count_remaining_notes(searched).items():
        found[request_id].rows[RequestNote._meta.db_table] = count
    return dict(found)


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    `by_marks`: how many of the `verified` are so old that only their marks find their data.
    """

    verified: int
    by_marks: int
    left: dict[UUID, VerificationResult]


def audit(request_ids: Sequence[UUID]) -> Audit:
    """Verify completed deletions, retention runs and redactions.

    Their values are forgotten: chatters and conversations are found by keyed digests, so data that a restored backup
    brought back is found too. Digests are kept for ERASURE_LEDGER_DAYS; for older deletions only their marks are
    left.
    """
    left: dict[UUID, VerificationResult] = {}
    for some in _at_once(request_ids):
        found = verify(some) | find_leftovers(some, of=REDACTIONS)
        for request_id, count in fetch(_LEFT_KEYS, subjects(some)):
            found.setdefault(request_id, VerificationResult()).rows["keys in compliance_export"] = count
        left |= {request_id: result for request_id, result in found.items() if not result.is_nothing}
    # A retention run or redaction is about no chatter: there is nothing to forget.
    old = ComplianceRequest.objects.filter(
        pk__in=request_ids, uci_digest__isnull=True, named_conversations__isnull=True
    ).exclude(kind__in=[ComplianceRequest.Kind.RETENTION, ComplianceRequest.Kind.REDACTION])
    return Audit(verified=len(request_ids), by_marks=old.count(), left=left)


def _at_once(request_ids: Sequence[UUID]) -> Iterator[list[UUID]]:
    for start in range(0, len(request_ids), _AT_ONCE):
        yield from by_place(chatbot_of_each(request_ids[start : start + _AT_ONCE]))


@cache
def _question(of: Scope = DELETIONS) -> sql.Composable:
    head, searches = _of_deletions() if of is DELETIONS else _of_redactions()
    return _SEARCH_ALL.format(
        head=head,
        exports_holding=sql.SQL(of.exports),
        own_exports=sql.SQL(OWN_EXPORTS),
        goes=sql.SQL(GOES),
        day=sql.SQL(of.day),
        at_client=sql.SQL(IS_AT_CLIENT.format(version="t.version")),
        searches=searches,
        exports=sql.Literal(EXPORTS),
        days=sql.Literal(EXTRACTS),
    )


def _of_deletions() -> tuple[sql.Composable, sql.Composable]:
    """Return the WITHs of a search, and its statements besides those for copies."""
    identities = Identity._meta.db_table
    in_scope = sql.SQL(IN_SCOPE_WITH).format(columns=_columns())
    head = _HEAD_OF_DELETIONS.format(
        requests=sql.SQL(REQUESTS),
        in_scope=in_scope,
        identities=sql.Identifier(identities),
        has_any=_has_any(identities),
    )
    conversations = _SEARCH_CONVERSATIONS.format(
        conversations=sql.Literal(CONVERSATION.table), identities=sql.Literal(identities)
    )
    tables = [store.table for store in (*stores(ReachedBy.CONVERSATION), *stores(ReachedBy.FILE))]
    return head, sql.Composed([conversations, *(_search(table) for table in tables if table != identities)])


def _of_redactions() -> tuple[sql.Composable, sql.Composable]:
    with_text = "f.id = ANY(s.message_numbers) AND f.kind <> 'redacted'"
    messages, files = _search(Message._meta.db_table, with_text), _search(FILES, REDACTIONS.file)
    comments = _SEARCH_COMMENTS.format(conversations=sql.Literal(CONVERSATION.table))
    return sql.SQL(REDACTIONS.head), sql.Composed([messages, files, comments])


def _search(table: str, which: str = "TRUE") -> sql.Composable:
    return _SEARCH_STORE.format(
        name=sql.Literal(table), table=sql.Identifier(table), which=sql.SQL(which), has_any=_has_any(table)
    )


def _has_any(table: str) -> sql.Composable:
    return _HAS_ANY.format(table=sql.Identifier(table))


def _columns() -> sql.Composable:
    holds_something = sql.SQL(" OR ").join(
        sql.SQL("c.{} IS NOT NULL").format(sql.Identifier(column))
        for column in CONVERSATION.with_disposition(Disposition.EMPTIED)
    )
    return sql.SQL(
        "c.id, (c.deleted_at IS NULL OR {holds}) AS is_left,"
        " CASE WHEN c.deleted_at < r.cutoff_at THEN c.id END AS erased_before"
    ).format(holds=holds_something)
