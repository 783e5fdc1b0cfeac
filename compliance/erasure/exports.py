"""Earlier exports that hold what a deletion erases: when they have to go, and which of them it leaves.

An export records which conversations it holds before its first byte is sent (`compliance.export.recording`). Whoever
closes or erases one of them sets the time at which the export has to go, and only ever makes it earlier:

- one that is not finished goes now, and can then not be finished;
- one that is finished is the copy that somebody asked for: it lives until EXPORT_GRACE_DAYS after that are over,
  unless the deletion of its own chatter says otherwise (`erase_exports`, see `scope.GOES`);
- one that lies whole in a client's bucket is the client's.

Any deletion that meets it, or the sweep, then removes it (`objects`).
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.conf import settings
from django.db import connection

from compliance.erasure.scope import EXPORTS_HOLDING, IN_SCOPE, OWN_EXPORTS
from config.arrays import array

# The finish time is that of the row once it is locked: an export can have been finished since it was found.
_EXPIRE = """
WITH locked AS (
    SELECT id FROM compliance_export
     WHERE id IN ({exports}) AND key IS NOT NULL AND (hosting = 'hosted' OR finished_at IS NULL)
     ORDER BY id
       FOR NO KEY UPDATE
)
UPDATE compliance_export e
   SET expires_at = least(e.expires_at,
           CASE WHEN e.finished_at IS NULL THEN clock_timestamp()
                ELSE e.finished_at + make_interval(secs => %(grace)s) END)
  FROM locked
 WHERE e.id = locked.id AND (e.hosting = 'hosted' OR e.finished_at IS NULL)
"""
_HOLDING = """
SELECT export_id FROM compliance_exportconversation WHERE conversation_id = ANY(%(conversations)s::bigint[])
"""
_MARKED = f"""
SELECT held.export_id
  FROM unnest(%(requests)s::uuid[]) AS ours(request_id)
 CROSS JOIN LATERAL (
       SELECT id FROM conversations_conversation
        WHERE deletion_request_id = ours.request_id AND deleted_at IS NULL OFFSET 0) AS s
 CROSS JOIN LATERAL ({EXPORTS_HOLDING}) AS held
"""  # noqa: S608  (a text of ours)
_OWN = f"""
SELECT own.id
  FROM compliance_compliancerequest r CROSS JOIN LATERAL ({OWN_EXPORTS}) AS own
 WHERE r.id = ANY(%(requests)s::uuid[])
"""  # noqa: S608  (a text of ours)

# What a completed deletion has met and left. Of what could not be reached in a former bucket of a client's a copy is
# noted when it is given up (`objects`).
_MET = f"""
SELECT r.id AS deletion_id, r.chatbot_id, r.variable_id, r.uci_digest, met.export_id
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL (
       SELECT held.export_id FROM ({IN_SCOPE}) AS s CROSS JOIN LATERAL ({EXPORTS_HOLDING}) AS held
        UNION
       ({OWN_EXPORTS})) AS met(export_id)
 WHERE r.id = ANY(%(requests)s::uuid[])
"""  # noqa: S608  (texts of ours)
_LEAVE = f"""
INSERT INTO compliance_leftcopy (chatbot_id, deletion_id, export_id)
SELECT met.chatbot_id, met.deletion_id, e.id
  FROM ({_MET}) AS met
 CROSS JOIN LATERAL (
       SELECT id, hosting, key FROM compliance_export
        WHERE id = met.export_id AND finished_at IS NOT NULL OFFSET 0) AS e
 WHERE e.hosting = 'client' OR e.key IS NOT NULL
 ORDER BY met.deletion_id, e.id
    ON CONFLICT DO NOTHING
"""  # noqa: S608  (a text of ours)
_LEAVE_DAYS = f"""
INSERT INTO compliance_leftcopy (chatbot_id, deletion_id, extract_id)
SELECT DISTINCT r.chatbot_id, r.id, e.id
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL ({IN_SCOPE}) AS s
 CROSS JOIN LATERAL (
       SELECT extract_id, version FROM conversations_extractconversation WHERE conversation_id = s.id OFFSET 0) AS t
 CROSS JOIN LATERAL (
       SELECT id FROM conversations_dailyextract
        WHERE id = t.extract_id AND hosting = 'client' AND made_version < t.version OFFSET 0) AS e
 WHERE r.id = ANY(%(requests)s::uuid[])
    ON CONFLICT DO NOTHING
"""  # noqa: S608  (a text of ours)

# The key of the chatter's own export bears the value; another's bears the other's, whose own deletion, if there ever
# is one, still has to meet it.
_OWN_OF_CLIENTS = f"""
SELECT e.id FROM ({_OWN}) AS own
 CROSS JOIN LATERAL (
       SELECT id FROM compliance_export
        WHERE id = own.id AND hosting = 'client' AND finished_at IS NOT NULL AND key IS NOT NULL OFFSET 0) AS e
"""  # noqa: S608  (a text of ours)
_FORGET_COPIES = f"""
DELETE FROM compliance_exportfile WHERE id IN (
    SELECT f.id FROM compliance_exportfile f WHERE f.export_id IN ({_OWN_OF_CLIENTS}) LIMIT %(batch)s)
"""  # noqa: S608  (a text of ours)
_FORGET_KEYS = f"""
UPDATE compliance_export SET key = NULL
 WHERE id IN (SELECT id FROM compliance_export WHERE id IN ({_OWN_OF_CLIENTS}) ORDER BY id FOR NO KEY UPDATE)
"""  # noqa: S608  (a text of ours)


def expire_holding(conversation_ids: Iterable[int]) -> None:
    """Set when the exports that hold these conversations have to go, in the transaction that erases those."""
    _execute(_EXPIRE.format(exports=_HOLDING), conversations=array(conversation_ids))


def expire_marked(request_ids: Sequence[UUID]) -> None:
    """Set when the exports that hold what these deletions have just marked have to go, in the bite that marks."""
    _execute(_EXPIRE.format(exports=_MARKED), requests=array(request_ids))


def expire_own(request_ids: Sequence[UUID]) -> None:
    """Set when the chatters' own earlier exports have to go, in the bite that marks."""
    _execute(_EXPIRE.format(exports=_OWN), requests=array(request_ids))


def leave(request_ids: Sequence[UUID]) -> None:
    """Note which exports and extracts these deletions leave where they are, in the bite that completes them.

    The keys of the chatters' own exports that lie in clients' buckets are forgotten.
    """
    _execute(_LEAVE, requests=array(request_ids))
    _execute(_LEAVE_DAYS, requests=array(request_ids))
    _execute(_FORGET_KEYS, requests=array(request_ids))


def forget_copies(request_ids: Sequence[UUID], *, batch: int) -> int:
    """Remove rows, not objects, of copies beside the chatters' own exports in clients' buckets; return how many."""
    return _execute(_FORGET_COPIES, requests=array(request_ids), batch=batch)


def _execute(statement: str, **values: str | int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"grace": settings.EXPORT_GRACE_DAYS.total_seconds(), **values})
        return int(cursor.rowcount)
