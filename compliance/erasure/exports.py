"""Earlier exports that hold data in a deletion's scope: when they expire, which are left, and which must run first.

An export records its conversations before its first byte is sent (`compliance.export.records`). A deletion that
closes or erases one of them sets the export's expiry, and only ever makes it earlier:

- an unfinished export expires now, and cannot be finished any more;
- a finished one is the copy that a chatter asked for. It expires after EXPORT_GRACE_DAYS, or now, and is
  no longer handed out, if its own chatter's deletion has `erase_exports`;
- a finished one in a client's bucket is the client's.

A retention run changes only the expiry of unfinished exports: a finished one was requested and keeps its time. A
finished one with erased conversations is recorded as a last copy, which cannot be made again (`last_copy_since`).

A redaction closes nothing. Exports with its conversation expire now, and are made again without the messages; only an
export that cannot be made again is kept for its grace.

Any deletion that meets it, or the sweep, then removes it (`objects`).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings

from common.db import array, execute, fetch
from compliance.models import ExportConversation
from compliance.work.scope import DELETIONS, EXPORTS_HOLDING, IS_AT_CLIENT, IS_OWN, OWN_EXPORTS, Scope
from compliance.work.sql import NAMING, REQUESTS, subjects
from conversations.assurance import is_enough_sql
from conversations.sql import SELECTED_CONVERSATIONS

# When an export `e` in the scope of a deletion expires; `goes_now` if that deletion erases its own exports at once.
EXPIRES_AT = """
least(e.expires_at, CASE WHEN e.finished_at IS NULL OR {goes_now} THEN clock_timestamp()
                         ELSE e.finished_at + make_interval(secs => %(grace)s) END)
"""

# Whether a deletion with the export in its scope erases its own at once, and whether one is for a person.
_MET = f"""
{{head}}
SELECT each.export_id, bool_or(r.erase_exports AND {IS_OWN}), bool_or(r.kind <> 'retention')
  FROM (SELECT DISTINCT export_id, request_id FROM ({{met}}) AS every(export_id, request_id)) AS each
 CROSS JOIN LATERAL (SELECT request_id FROM compliance_export WHERE id = each.export_id) AS e
 CROSS JOIN LATERAL (
       SELECT variable_id, uci_digest FROM compliance_compliancerequest WHERE id = e.request_id) AS filed
 CROSS JOIN LATERAL (
       SELECT kind, variable_id, uci_digest, erase_exports
         FROM compliance_compliancerequest WHERE id = each.request_id) AS r
 GROUP BY 1
"""
# One statement for all exports of a transaction, in the order of the ids: a second one could wait for rows that
# another worker has locked first. The finish time is read once the row is locked: the export may have finished since.
# IS TRUE keeps PostgreSQL from the index of those with a key, all of which it would read (`test_stale_statistics`).
_EXPIRE = f"""
WITH locked AS (
    SELECT e.id, met.goes_now, met.for_a_person, coalesce(e.expires_at <= clock_timestamp(), FALSE) AS had_expired
      FROM unnest(%(met)s::bigint[], %(goes_now)s::boolean[], %(for_a_person)s::boolean[])
             AS met(id, goes_now, for_a_person)
      JOIN compliance_export e ON e.id = met.id
     WHERE (e.key IS NOT NULL) IS TRUE AND (e.finished_at IS NULL OR e.hosting = 'hosted')
     ORDER BY e.id
       FOR NO KEY UPDATE OF e
)
UPDATE compliance_export e
   SET expires_at = CASE WHEN e.finished_at IS NOT NULL AND NOT locked.for_a_person THEN e.expires_at
                         ELSE {EXPIRES_AT.format(goes_now="{goes_now}")} END,
       last_copy_since = CASE WHEN e.finished_at IS NOT NULL
                              THEN coalesce(e.last_copy_since, {{last_copy_since}}) END
  FROM locked
 WHERE e.id = locked.id AND (e.hosting = 'hosted' OR e.finished_at IS NULL)
RETURNING e.request_id, e.finished_at IS NOT NULL AND NOT locked.had_expired AND e.expires_at <= clock_timestamp()
"""
_EXPIRE_ERASED = _EXPIRE.format(goes_now="locked.goes_now", last_copy_since="statement_timestamp()")
_EXPIRE_REDACTED = _EXPIRE.format(goes_now="e.last_copy_since IS NULL", last_copy_since="NULL")
# The conversations that are erased or marked, with the deletions that do so.
_GIVEN = """
closed AS MATERIALIZED (
    SELECT * FROM unnest(%(conversations)s::bigint[], %(erased_by)s::uuid[]) AS given(id, request_id)
)
"""
_MARKED = """
closed AS MATERIALIZED (
    SELECT c.id, ours.request_id
      FROM unnest(%(ids)s::uuid[]) AS ours(request_id)
     CROSS JOIN LATERAL (
           SELECT id FROM conversations_conversation
            WHERE deletion_request_id = ours.request_id AND chatbot_id = ANY(%(chatbots)s)
              AND deleted_at IS NULL OFFSET 0) AS c
)
"""
_NAMED = f"""
{REQUESTS}, named AS MATERIALIZED (
    SELECT named.conversation_id AS id, r.id AS request_id
      FROM r CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named
)
"""
_HOLDING = f"SELECT held.export_id, s.request_id FROM closed AS s CROSS JOIN LATERAL ({EXPORTS_HOLDING}) AS held"
# The last are exports with conversations that a retention run has erased: it kept their time.
_HOLDING_OR_OWN = f"""
{_HOLDING}
 UNION ALL
SELECT own.id, r.id FROM r CROSS JOIN LATERAL ({OWN_EXPORTS}) AS own
 UNION ALL
SELECT held.export_id, s.request_id
  FROM named AS s CROSS JOIN LATERAL ({EXPORTS_HOLDING}) AS held
 WHERE (SELECT EXISTS (SELECT 1 FROM compliance_retentionrun WHERE chatbot_id = ANY(%(chatbots)s::bigint[])))
"""
_MET_HOLDING = _MET.format(head=f"WITH {_GIVEN}", met=_HOLDING)
_MET_ERASED = _MET.format(head=f"{_NAMED}, {_GIVEN}", met=_HOLDING_OR_OWN)
_MET_MARKED = _MET.format(head=f"{_NAMED}, {_MARKED}", met=_HOLDING_OR_OWN)

# The exports that a completed request leaves, without those that expired with its late data, and what attempts left
# in a client's former bucket. An attempt that a deletion gives up itself is recorded at that moment (`objects`).
_LEAVE = """
{of.met}
INSERT INTO compliance_leftcopy (chatbot_id, deletion_id, export_id, is_unfinished)
SELECT e.chatbot_id, met.request_id, e.id, copy.is_unfinished
  FROM met
 CROSS JOIN LATERAL (SELECT * FROM compliance_export WHERE id = met.export_id OFFSET 0) AS e
 CROSS JOIN LATERAL (
       VALUES (FALSE, e.finished_at IS NOT NULL
                      AND (e.hosting = 'client' OR (e.key IS NOT NULL AND e.expires_at > statement_timestamp()))),
              (TRUE, e.was_left_in_former_bucket)) AS copy(is_unfinished, is_left)
 WHERE copy.is_left
 ORDER BY met.request_id, e.id, copy.is_unfinished
    ON CONFLICT DO NOTHING
"""
_LEAVE_DAYS = f"""
{{of.head}}
INSERT INTO compliance_leftcopy (chatbot_id, deletion_id, extract_id)
SELECT DISTINCT e.chatbot_id, s.request_id, e.id
  FROM scope AS s
 CROSS JOIN LATERAL (
       SELECT extract_id, version FROM conversations_extractconversation WHERE conversation_id = s.id OFFSET 0) AS t
 CROSS JOIN LATERAL (
       SELECT * FROM conversations_dailyextract AS e
        WHERE e.id = t.extract_id AND {IS_AT_CLIENT.format(version="t.version")} OFFSET 0) AS e
 WHERE {{of.day}}
    ON CONFLICT DO NOTHING
"""

# The keys of the chatter's own exports and of the files beside them contain the value. The keys of another chatter's
# export contain that chatter's, and only its own deletion clears them.
_FORGET_KEYS = f"""
WITH theirs AS (
    SELECT id FROM compliance_export
     WHERE id = ANY(ARRAY(
           SELECT own.id FROM compliance_compliancerequest r CROSS JOIN LATERAL ({OWN_EXPORTS}) AS own
            WHERE r.id = ANY(%(ids)s::uuid[])))
       AND hosting = 'client' AND finished_at IS NOT NULL AND key IS NOT NULL
     ORDER BY id
       FOR NO KEY UPDATE
), copies AS (
    DELETE FROM compliance_exportfile f USING theirs WHERE f.export_id = theirs.id
)
UPDATE compliance_export e SET key = NULL FROM theirs WHERE e.id = theirs.id
"""


def expire(erased: Mapping[int, UUID], *, marked_by: Sequence[UUID] = ()) -> None:
    """Set the expiry of exports that hold these conversations, in the transaction that erases them.

    Each conversation is given with the deletion that erases it. The own earlier exports of the chatters of
    `marked_by`, the deletions that mark in this transaction, expire too.
    """
    if not erased and not marked_by:
        return
    values = {"conversations": array(erased), "erased_by": array(erased.values())}
    if marked_by:
        _expire(_EXPIRE_ERASED, fetch(_MET_ERASED, {**values, **subjects(marked_by)}))
    else:
        _expire(_EXPIRE_ERASED, fetch(_MET_HOLDING, values))


def expire_marked(request_ids: Sequence[UUID]) -> None:
    """Set the expiry of exports with conversations that these deletions mark, and of the chatters' own earlier ones.

    In the transaction that marks.
    """
    _expire(_EXPIRE_ERASED, fetch(_MET_MARKED, subjects(request_ids)))


def expire_redacted(conversation: int) -> list[UUID]:
    """Expire the exports that hold a conversation, in the transaction that redacts messages of it.

    Returns the requests of finished ones that have to go now; an unfinished one starts over by itself.
    """
    held = ExportConversation.objects.filter(conversation_id=conversation)
    met = [(export_id, True, True) for export_id in set(held.values_list("export_id", flat=True))]
    return [request_id for request_id, was_finished in _expire(_EXPIRE_REDACTED, met) if was_finished]


def record_remaining(request_ids: Sequence[UUID], *, of: Scope = DELETIONS) -> None:
    """Record which exports and extracts these requests leave, in the transaction that completes them or erases
    their late data.

    The keys of the chatters' own exports in clients' buckets are cleared.
    """
    for statement in (_LEAVE.format(of=of), _LEAVE_DAYS.format(of=of), _FORGET_KEYS):
        execute(statement, subjects(request_ids))


def _expire(statement: str, met: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Expire these exports, each with whether it goes now and for a person; return the requests of changed ones."""
    if not met:
        return []
    ids, goes_now, for_a_person = (list(column) for column in zip(*met, strict=True))
    grace = settings.EXPORT_GRACE_DAYS.total_seconds()
    return fetch(statement, {"met": array(ids), "goes_now": goes_now, "for_a_person": for_a_person, "grace": grace})


# A waiting export may contain conversations whose identity is being looked up.
_IS_ENOUGH = is_enough_sql(
    "i.established_by", "b.export_assurance", conversation="c.id", chatbots="%(chatbots)s", for_good=True
)


def blocking(*, head: str, statuses: str) -> str:
    """Return SQL with a row for each of some requests that an export with one of `statuses` must precede.

    Only of the other selector: the queue orders requests by the same one (`compliance.work.scheduling`). Whether a
    chatter's request and one by conversation ids meet, only the data can say, so it is checked right before the mark.

    `head` is a WITH of the requests, as `r`. The row has their id, and the export's.
    """
    # Marked conversations are in no export any more. A chatter's export leaves out shared conversations, unless it
    # includes them, and those whose identity is too weak for the chatbot. Of several exports the last is returned:
    # most likely it ends last.
    #
    # People are looked up for requests by ids alone. A condition of the join would be tried after the look-up.
    return f"""
{head}, found AS MATERIALIZED (
    SELECT r.id AS given, r.seq, r.conversation_digests IS NOT NULL AS is_by_ids, c.external_id_digest,
           i.variable_id, i.digest, i.people, {_IS_ENOUGH} AS is_enough
      FROM r
     CROSS JOIN LATERAL (SELECT export_assurance FROM chatbots_chatbot WHERE id = r.chatbot_id) AS b
     CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named
     CROSS JOIN LATERAL (
           SELECT id, external_id_digest FROM conversations_conversation
            WHERE id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s)
              AND deletion_request_id IS NULL) AS c
      LEFT JOIN LATERAL (
           SELECT variable_id, digest, established_by, count(*) OVER () AS people
             FROM conversations_identity
            WHERE conversation_id = c.id AND chatbot_id = ANY(%(chatbots)s)
              AND r.conversation_digests IS NOT NULL) AS i ON TRUE
), earlier AS (
    SELECT c.given, e.id, e.seq
      FROM found AS c CROSS JOIN LATERAL {NAMING} AS e
     WHERE NOT c.is_by_ids AND e.kind = 'export' AND e.status IN ({statuses}) AND e.seq < c.seq
     UNION ALL
    SELECT i.given, e.id, e.seq
      FROM found AS i
     CROSS JOIN LATERAL (
           SELECT id, seq FROM compliance_compliancerequest
            WHERE variable_id = i.variable_id AND uci_digest = i.digest AND kind = 'export'
              AND status IN ({statuses}) AND uci_value IS NOT NULL
              AND (include_shared OR i.people = 1)) AS e
     WHERE i.is_by_ids AND i.is_enough AND e.seq < i.seq
)
SELECT DISTINCT ON (given) given, id FROM earlier ORDER BY given, seq DESC
"""


_BLOCKING = blocking(head=REQUESTS, statuses="'accepted', 'on_hold', 'processing', 'failed'")


def find_blocking(deletion_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Return the deletions that an earlier export by the other selector must precede, with that export."""
    if not deletion_ids:
        return {}
    return dict(fetch(_BLOCKING, subjects(deletion_ids)))
