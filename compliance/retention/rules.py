"""Rows of which something is forgotten when its time is over: digests, values, notes, calls, callbacks, log-ins.

Each store has a condition that says which rows are due, for whoever counts, and a statement that sees to a batch.
"""

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import Model

from accounts.models import LoginFailures, StaffLogin
from compliance.models import Replay
from conversations.models import ErasedChatter, VariableValue

# Not while something of the conversation is left that a deletion still has to see gone: it is found by these. With
# them goes by what erased chatters were found, and which copies lie in clients' buckets. Each is looked up by itself
# (OFFSET 0, arrays): joined, PostgreSQL may read all files, exports and days for the few that are old.
_OLD_CONVERSATION_DIGESTS = """
 FROM conversations_conversation c
WHERE c.deleted_at < now() - make_interval(secs => %(kept)s) AND c.external_id_digest IS NOT NULL
  AND NOT EXISTS (SELECT FROM conversations_uploadedfile WHERE conversation_id = c.id OFFSET 0)
  AND NOT EXISTS (SELECT FROM compliance_exportconversation held
                   CROSS JOIN LATERAL (SELECT * FROM compliance_export WHERE id = held.export_id OFFSET 0) AS e
                   WHERE held.conversation_id = c.id AND e.key IS NOT NULL
                     AND (e.hosting = 'hosted' OR e.finished_at IS NULL) OFFSET 0)
  AND NOT EXISTS (SELECT FROM conversations_extractconversation t
                   CROSS JOIN LATERAL (SELECT * FROM conversations_dailyextract WHERE id = t.extract_id OFFSET 0) AS e
                   WHERE t.conversation_id = c.id AND e.hosting = 'hosted' AND e.key IS NOT NULL
                     AND coalesce(e.made_version, 0) < t.version OFFSET 0)
"""
_FORGET_CONVERSATION_DIGESTS = f"""
WITH old AS (
    SELECT c.id {_OLD_CONVERSATION_DIGESTS} ORDER BY c.deleted_at LIMIT %(batch)s FOR UPDATE OF c SKIP LOCKED
), identities AS (
    DELETE FROM conversations_identity WHERE conversation_id = ANY(ARRAY(SELECT id FROM old))
), exports AS (
    DELETE FROM compliance_exportconversation WHERE conversation_id = ANY(ARRAY(SELECT id FROM old))
), days AS (
    DELETE FROM conversations_extractconversation WHERE conversation_id = ANY(ARRAY(SELECT id FROM old))
)
UPDATE conversations_conversation SET external_id_digest = NULL WHERE id = ANY(ARRAY(SELECT id FROM old))
"""

# A later deletion finds the exports of the chatter by this digest, and those of certain conversations by theirs.
_LIES_NOWHERE = """
NOT EXISTS (SELECT 1 FROM compliance_export e WHERE e.request_id = r.id AND e.key IS NOT NULL)
"""
_OLD_CHATTER_DIGESTS = f"""
 FROM compliance_compliancerequest r
WHERE coalesce(r.completed_at, r.cancelled_at, r.rejected_at, r.failed_at) < now() - make_interval(secs => %(kept)s)
  AND r.uci_value IS NULL AND r.uci_digest IS NOT NULL
  AND {_LIES_NOWHERE}
"""
_FORGET_CHATTER_DIGESTS = f"""
UPDATE compliance_compliancerequest SET uci_digest = NULL
 WHERE id = ANY(ARRAY(
       SELECT r.id {_OLD_CHATTER_DIGESTS}
        ORDER BY coalesce(r.completed_at, r.cancelled_at, r.rejected_at, r.failed_at)
        LIMIT %(batch)s FOR UPDATE OF r SKIP LOCKED))
"""

# Once all that an export names is erased no deletion can meet it any more, wherever it lies, and no retry delivers
# anything. A deletion that failed keeps them: it can be retried. Given up, it has forgotten them already. (No status
# in here: PostgreSQL would look for it in the index of all requests.)
_IS_FINAL = "coalesce(r.completed_at, r.cancelled_at, r.rejected_at) IS NOT NULL"
_OLD_NAMED_DIGESTS = f"""
 FROM compliance_compliancerequest r
WHERE coalesce(r.completed_at, r.cancelled_at, r.rejected_at, r.failed_at) < now() - make_interval(secs => %(kept)s)
  AND r.conversation_digests IS NOT NULL AND r.chatbot_id > 0
  AND (r.kind = 'export' OR {_IS_FINAL})
  AND (({_IS_FINAL} AND {_LIES_NOWHERE})
       OR NOT EXISTS (SELECT FROM conversations_conversation c
                       WHERE c.chatbot_id = r.chatbot_id AND c.external_id_digest = ANY(r.conversation_digests)
                         AND c.deleted_at IS NULL))
"""
_FORGET_NAMED_DIGESTS = f"""
UPDATE compliance_compliancerequest
   SET conversation_digests = NULL, callback_url = CASE status WHEN 'failed' THEN '' ELSE callback_url END
 WHERE id = ANY(ARRAY(
       SELECT r.id {_OLD_NAMED_DIGESTS}
        ORDER BY coalesce(r.completed_at, r.cancelled_at, r.rejected_at, r.failed_at)
        LIMIT %(batch)s FOR UPDATE OF r SKIP LOCKED))
"""

# With what was never told of a final state goes the address of its request.
_OLD_CALLBACKS = " FROM compliance_callback WHERE expires_at < now() AND state <> 'waiting'"
_DELETE_CALLBACKS = f"""
WITH old AS (
    SELECT id, request_id, status {_OLD_CALLBACKS} ORDER BY expires_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
), forgotten AS (
    UPDATE compliance_compliancerequest r SET callback_url = ''
      FROM old
     WHERE r.id = old.request_id AND r.callback_url <> '' AND old.status IN ('completed', 'rejected', 'cancelled')
)
DELETE FROM compliance_callback WHERE id IN (SELECT id FROM old)
"""

# A deletion of the chatter has emptied its notes before; those of whoever was never erased go by their age alone.
_OLD_NOTES = """
 FROM compliance_requestnote
WHERE text IS NOT NULL AND created_at < now() - make_interval(secs => %(kept)s)
"""
_EMPTY_NOTES = f"""
UPDATE compliance_requestnote SET text = NULL
 WHERE id = ANY(ARRAY(SELECT id {_OLD_NOTES} ORDER BY created_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED))
"""

_IS_EXPIRED = "expires_at < now()"
# Intake refuses what comes late as long as the deletion is not over, which may be tried again after any time, and for
# the ledger's days after that.
_IS_OVER = """
NOT EXISTS (SELECT FROM compliance_compliancerequest
             WHERE id = old.request_id
               AND (status IN ('accepted', 'on_hold', 'processing') OR (status = 'failed' AND uci_value IS NOT NULL)
                    OR completed_at > now() - make_interval(secs => %(kept)s)))
"""


def _deleting(model: type[Model], old: str, *, order: str, key: str = "id") -> tuple[str, str]:
    """Return, as FORGETTING has them, which rows of a table are `old` (SQL), and the statement that deletes a batch.

    What a worker or an intake holds is left for the next time: then nobody waits, and no two can block each other.
    """
    table = model._meta.db_table
    rows = f" FROM {table} AS old WHERE {old}"
    delete = f"""
DELETE FROM {table}
 WHERE {key} IN (SELECT {key} {rows} ORDER BY {order} LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
"""
    return rows, delete


def periods() -> dict[str, float]:
    """Return the parameters of the conditions and statements below, in seconds."""
    return {
        "kept": settings.ERASURE_LEDGER_DAYS.total_seconds(),
        "log_ins_kept": settings.LOGIN_RECORD_DAYS.total_seconds(),
    }


# Store -> which rows have something whose time is over, and the statement that forgets a batch of them.
FORGETTING = {
    "callbacks": (_OLD_CALLBACKS, _DELETE_CALLBACKS),
    "conversation_digests": (_OLD_CONVERSATION_DIGESTS, _FORGET_CONVERSATION_DIGESTS),
    "chatter_digests": (_OLD_CHATTER_DIGESTS, _FORGET_CHATTER_DIGESTS),
    "notes": (_OLD_NOTES, _EMPTY_NOTES),
    "named_conversation_digests": (_OLD_NAMED_DIGESTS, _FORGET_NAMED_DIGESTS),
    "variable_values": _deleting(VariableValue, _IS_EXPIRED, order="expires_at"),
    "erased_chatters": _deleting(ErasedChatter, f"{_IS_EXPIRED} AND {_IS_OVER}", order="expires_at"),
    "replays": _deleting(Replay, _IS_EXPIRED, order="expires_at"),
    # By their end: workers may not read what a session goes by.
    "sessions": _deleting(Session, "expire_date < now()", order="expire_date", key="expire_date"),
    "log_ins": _deleting(StaffLogin, "at < now() - make_interval(secs => %(log_ins_kept)s)", order="at"),
    # Those that still lock somebody out, or count towards it, are left.
    "failed_log_ins": _deleting(LoginFailures, "ends_at < now()", order="ends_at"),
}
