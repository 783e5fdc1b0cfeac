"""Retention rules for rows: digests, references, values, notes, idempotency records, callbacks, log-ins.

Each store has a condition for the rows that are due, and a statement that deletes or clears a batch of them.
"""

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import Model

from accounts.models import LoginFailures, StaffLogin
from compliance.models import LedgerLine, LedgerObject, Replay
from conversations.models import ErasedChatter, IdentityLookup, RefusedIdentity, VariableValue

# Not while a deletion still has to remove something of the conversation, which it finds by these. OFFSET 0 and arrays
# look each up by itself: in a join, PostgreSQL may read all files, exports and days for the few old rows.
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

_ENDED_AT = "coalesce(r.completed_at, r.cancelled_at, r.rejected_at, r.failed_at)"

# A later deletion finds the chatter's exports by this digest.
_HAS_NO_EXPORT = """
NOT EXISTS (SELECT 1 FROM compliance_export e WHERE e.request_id = r.id AND e.key IS NOT NULL)
"""
_OLD_CHATTER_DIGESTS = f"""
 FROM compliance_compliancerequest r
WHERE {_ENDED_AT} < now() - make_interval(secs => %(kept)s)
  AND r.uci_value IS NULL AND r.uci_digest IS NOT NULL
  AND {_HAS_NO_EXPORT}
"""
_FORGET_CHATTER_DIGESTS = f"""
UPDATE compliance_compliancerequest SET uci_digest = NULL
 WHERE id = ANY(ARRAY(
       SELECT r.id {_OLD_CHATTER_DIGESTS}
        ORDER BY {_ENDED_AT}
        LIMIT %(batch)s FOR UPDATE OF r SKIP LOCKED))
"""

# Once everything that an export names is erased, no deletion needs to find it, and no retry delivers anything. A
# failed deletion keeps them for its retry. (By dates, since PostgreSQL would look for a status in the index of all
# requests.)
_IS_FINAL = "coalesce(r.completed_at, r.cancelled_at, r.rejected_at) IS NOT NULL"
_OLD_NAMED_DIGESTS = f"""
 FROM compliance_compliancerequest r
WHERE {_ENDED_AT} < now() - make_interval(secs => %(kept)s)
  AND r.conversation_digests IS NOT NULL AND r.chatbot_id > 0
  AND (r.kind = 'export' OR {_IS_FINAL})
  AND (({_IS_FINAL} AND {_HAS_NO_EXPORT})
       OR NOT EXISTS (SELECT FROM conversations_conversation c
                       WHERE c.chatbot_id = r.chatbot_id AND c.external_id_digest = ANY(r.conversation_digests)
                         AND c.deleted_at IS NULL))
"""
_FORGET_NAMED_DIGESTS = f"""
UPDATE compliance_compliancerequest
   SET conversation_digests = NULL, callback_url = CASE status WHEN 'failed' THEN '' ELSE callback_url END
 WHERE id = ANY(ARRAY(
       SELECT r.id {_OLD_NAMED_DIGESTS}
        ORDER BY {_ENDED_AT}
        LIMIT %(batch)s FOR UPDATE OF r SKIP LOCKED))
"""

# A reference leads from a request, and so from the rows that it left, to a person whom the client knows. It goes
# after the same days; a failed request, which may be retried, keeps it as long as a digest. A redaction never has
# one, and keeps it as long as it is failed. (As the index says it, but for the last condition.)
_OLD_REFERENCES = f"""
 FROM compliance_compliancerequest r
WHERE {_ENDED_AT} < now() - make_interval(secs => %(kept)s)
  AND r.reference <> ''
  AND (r.completed_at IS NOT NULL OR r.cancelled_at IS NOT NULL OR r.rejected_at IS NOT NULL
       OR (r.uci_digest IS NULL AND r.conversation_digests IS NULL))
  AND (r.kind <> 'redaction' OR {_IS_FINAL})
"""
_EMPTY_REFERENCES = f"""
UPDATE compliance_compliancerequest SET reference = ''
 WHERE id = ANY(ARRAY(
       SELECT r.id {_OLD_REFERENCES}
        ORDER BY {_ENDED_AT}
        LIMIT %(batch)s FOR UPDATE OF r SKIP LOCKED))
"""

# The address of a request goes with the last callback of its final state.
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

# Deletions clear the notes of their chatters; this clears the others by age.
_OLD_NOTES = """
 FROM compliance_requestnote
WHERE text IS NOT NULL AND created_at < now() - make_interval(secs => %(kept)s)
"""
_EMPTY_NOTES = f"""
UPDATE compliance_requestnote SET text = NULL
 WHERE id = ANY(ARRAY(SELECT id {_OLD_NOTES} ORDER BY created_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED))
"""

_IS_EXPIRED = "expires_at < now()"
# Intake refuses late data until the deletion is over, which a failed one is not, and for the ledger's days after.
_IS_OVER = """
NOT EXISTS (SELECT FROM compliance_compliancerequest
             WHERE id = old.request_id
               AND (status IN ('accepted', 'on_hold', 'processing') OR (status = 'failed' AND uci_value IS NOT NULL)
                    OR completed_at > now() - make_interval(secs => %(kept)s)))
"""

# As long as the objects that they are from.
_OLD_LEDGER_LINE = "at < now() - make_interval(secs => %(kept)s)"
# Longer than its object, which a worker may not get to remove for a while: an object without a row looks like a
# restore. The newest one stays: the next key is not before it.
_OLD_LEDGER_OBJECT = """
at < now() - make_interval(secs => %(kept)s) - interval '30 days'
AND at < (SELECT max(at) FROM compliance_ledgerobject)
"""


def _deleting(model: type[Model], old: str, *, order: str, key: str = "id") -> tuple[str, str]:
    """Return the condition and the statement that delete `old` rows (SQL). Locked rows are left for the next run."""
    table = model._meta.db_table
    rows = f" FROM {table} AS old WHERE {old}"
    # An array, since PostgreSQL may expect thousands, and would join by reading the whole table.
    delete = f"""
DELETE FROM {table}
 WHERE {key} = ANY(ARRAY(SELECT {key} {rows} ORDER BY {order} LIMIT %(batch)s FOR UPDATE SKIP LOCKED))
"""
    return rows, delete


def periods() -> dict[str, float]:
    """Return the parameters of the rules, in seconds."""
    return {
        "kept": settings.ERASURE_LEDGER_DAYS.total_seconds(),
        "log_ins_kept": settings.LOGIN_RECORD_DAYS.total_seconds(),
    }


# Store -> the condition for rows that are due, and the statement for a batch of them.
FORGETTING = {
    "callbacks": (_OLD_CALLBACKS, _DELETE_CALLBACKS),
    "conversation_digests": (_OLD_CONVERSATION_DIGESTS, _FORGET_CONVERSATION_DIGESTS),
    "chatter_digests": (_OLD_CHATTER_DIGESTS, _FORGET_CHATTER_DIGESTS),
    "notes": (_OLD_NOTES, _EMPTY_NOTES),
    "named_conversation_digests": (_OLD_NAMED_DIGESTS, _FORGET_NAMED_DIGESTS),
    # After the digests, for those that keep it as long as one.
    "references": (_OLD_REFERENCES, _EMPTY_REFERENCES),
    "variable_values": _deleting(VariableValue, _IS_EXPIRED, order="expires_at"),
    "identity_lookups": _deleting(IdentityLookup, _IS_EXPIRED, order="expires_at"),
    "erased_chatters": _deleting(ErasedChatter, f"{_IS_EXPIRED} AND {_IS_OVER}", order="expires_at"),
    # They expire with the erased chatter.
    "refused_identities": _deleting(RefusedIdentity, f"{_IS_EXPIRED} AND {_IS_OVER}", order="expires_at"),
    "ledger_lines": _deleting(LedgerLine, _OLD_LEDGER_LINE, order="at", key="request_id"),
    "ledger_rows": _deleting(LedgerObject, _OLD_LEDGER_OBJECT, order="at"),
    "replays": _deleting(Replay, _IS_EXPIRED, order="expires_at"),
    # By their end: the workers' role may not read session keys.
    "sessions": _deleting(Session, "expire_date < now()", order="expire_date", key="expire_date"),
    "log_ins": _deleting(StaffLogin, "at < now() - make_interval(secs => %(log_ins_kept)s)", order="at"),
    # Not those that still count towards a lock-out.
    "failed_log_ins": _deleting(LoginFailures, "ends_at < now()", order="ends_at"),
}
