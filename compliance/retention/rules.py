"""Retention rules for rows: digests, references, values, notes, idempotency records, callbacks, log-ins.

Each store has a rule for the rows that are due, and for what deletes or clears a batch of them.
"""

from uuid import UUID

from django.contrib.sessions.models import Session
from django.db.models import Model

from accounts.models import LoginFailures, StaffLogin
from compliance.models import LedgerLine, LedgerObject, Replay
from compliance.retention.forgetting import AtOnce, FoundFirst, Rule
from compliance.work.sql import digests_of, ids_naming
from conversations.models import IdentityLookup, RefusedIdentity, Tombstone, VariableValue

# What comes after the last row of a page, which is ordered by time and key.
_IS_AFTER = "({at}, {key}) > (%(after_at)s::timestamptz, %(after)s)"

# Not while a deletion still has to remove something of the conversation, which it finds by these. OFFSET 0 looks each
# up by itself: in a join, PostgreSQL may read all files, exports and days for the few old rows. No copy of an erased
# conversation is made any more, so what has none here has none when the row is locked.
_IS_OLD_CONVERSATION = """
c.deleted_at < now() - make_interval(secs => %(kept)s) AND c.external_id_digest IS NOT NULL
"""
_CONVERSATION_DIGESTS = FoundFirst(
    find=f"""
WITH old AS MATERIALIZED (
    SELECT c.deleted_at, c.id, c.chatbot_id
      FROM conversations_conversation c
     WHERE {_IS_OLD_CONVERSATION} AND {_IS_AFTER.format(at="c.deleted_at", key="c.id")} AND c.{{answering}}
       AND NOT EXISTS (SELECT FROM conversations_uploadedfile f
                        WHERE f.conversation_id = c.id AND f.chatbot_id = c.chatbot_id AND f.{{answering}} OFFSET 0)
     ORDER BY c.deleted_at, c.id LIMIT %(batch)s
)
SELECT old.deleted_at, old.id, old.chatbot_id,
       NOT EXISTS (SELECT FROM compliance_exportconversation held
                    CROSS JOIN LATERAL (SELECT * FROM compliance_export WHERE id = held.export_id OFFSET 0) AS e
                    WHERE held.conversation_id = old.id AND e.key IS NOT NULL
                      AND (e.hosting = 'hosted' OR e.finished_at IS NULL) OFFSET 0)
       AND NOT EXISTS (SELECT FROM conversations_extractconversation t
                        CROSS JOIN LATERAL (
                              SELECT * FROM conversations_dailyextract WHERE id = t.extract_id OFFSET 0) AS e
                        WHERE t.conversation_id = old.id AND e.hosting = 'hosted' AND e.key IS NOT NULL
                          AND coalesce(e.made_version, 0) < t.version OFFSET 0)
  FROM old
""",
    lock=f"""
SELECT c.id FROM conversations_conversation c
 WHERE c.chatbot_id = ANY(%(chatbots)s) AND c.id = ANY(%(ids)s) AND {_IS_OLD_CONVERSATION}
 ORDER BY c.id FOR UPDATE SKIP LOCKED
""",
    changes=(
        "DELETE FROM conversations_identity WHERE chatbot_id = ANY(%(chatbots)s) AND conversation_id = ANY(%(ids)s)",
        "DELETE FROM compliance_exportconversation WHERE conversation_id = ANY(%(ids)s)",
        "DELETE FROM conversations_extractconversation WHERE conversation_id = ANY(%(ids)s)",
        """
UPDATE conversations_conversation SET external_id_digest = NULL
 WHERE chatbot_id = ANY(%(chatbots)s) AND id = ANY(%(ids)s)
""",
    ),
)

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
_IS_OLD_NAMED = f"""
{_ENDED_AT} < now() - make_interval(secs => %(kept)s)
AND r.named_conversations IS NOT NULL AND r.chatbot_id > 0
AND (r.kind = 'export' OR {_IS_FINAL})
"""
_NAMED_DIGESTS = FoundFirst(
    first=UUID(int=0),
    find=f"""
SELECT {_ENDED_AT}, r.id, r.chatbot_id, TRUE
  FROM compliance_compliancerequest r
 WHERE {_IS_OLD_NAMED} AND {_IS_AFTER.format(at=_ENDED_AT, key="r.id")} AND r.{{answering}}
 ORDER BY {_ENDED_AT}, r.id LIMIT %(batch)s
""",
    kept=f"""
WITH named AS MATERIALIZED (
    SELECT s.request_id, s.chatbot_id, s.digest
      FROM compliance_compliancerequest r
     CROSS JOIN LATERAL (SELECT * FROM compliance_requestsubject WHERE request_id = r.id) AS s
     WHERE r.id = ANY(%(ids)s) AND NOT ({_IS_FINAL} AND {_HAS_NO_EXPORT})
), alive AS MATERIALIZED (
    SELECT DISTINCT named.request_id
      FROM named
     CROSS JOIN LATERAL (
           SELECT FROM conversations_conversation
            WHERE chatbot_id = named.chatbot_id AND chatbot_id = ANY(%(chatbots)s)
              AND external_id_digest = named.digest AND deleted_at IS NULL) AS c
)
SELECT request_id FROM alive
""",
    lock=f"""
SELECT r.id FROM compliance_compliancerequest r
 WHERE r.id = ANY(%(ids)s) AND {_IS_OLD_NAMED} FOR UPDATE SKIP LOCKED
""",
    changes=(
        "DELETE FROM compliance_requestsubject WHERE request_id = ANY(%(ids)s)",
        """
UPDATE compliance_compliancerequest
   SET named_conversations = NULL, callback_url = CASE status WHEN 'failed' THEN '' ELSE callback_url END
 WHERE id = ANY(%(ids)s)
""",
    ),
)

# A reference leads from a request, and so from the rows that it left, to a person whom the client knows. It goes
# after the same days; a failed request, which may be retried, keeps it as long as a digest. A redaction never has
# one, and keeps it as long as it is failed. (As the index says it, but for the last condition.)
_OLD_REFERENCES = f"""
 FROM compliance_compliancerequest r
WHERE {_ENDED_AT} < now() - make_interval(secs => %(kept)s)
  AND r.reference <> ''
  AND (r.completed_at IS NOT NULL OR r.cancelled_at IS NOT NULL OR r.rejected_at IS NOT NULL
       OR (r.uci_digest IS NULL AND r.named_conversations IS NULL))
  AND (r.kind <> 'redaction' OR {_IS_FINAL})
"""
_EMPTY_REFERENCES = f"""
UPDATE compliance_compliancerequest SET reference = '', callback_url = ''
 WHERE id = ANY(ARRAY(
       SELECT r.id {_OLD_REFERENCES}
        ORDER BY {_ENDED_AT}
        LIMIT %(batch)s FOR UPDATE OF r SKIP LOCKED))
"""

_OLD_CALLBACKS = " FROM compliance_callback WHERE expires_at < now() AND state <> 'waiting'"
_DELETE_CALLBACKS = f"""
WITH old AS (SELECT id {_OLD_CALLBACKS} ORDER BY expires_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
DELETE FROM compliance_callback WHERE id IN (SELECT id FROM old)
"""

_IS_NOT_WAITED_FOR = f"""
NOT EXISTS (
    SELECT FROM compliance_compliancerequest held
     WHERE held.status = 'on_hold' AND held.hold_reason = 'export_pending'
       AND (held.pending_export_id = r.id
            OR (held.variable_id = r.variable_id AND held.uci_digest = r.uci_digest)
            OR held.id = ANY({ids_naming(digests_of("r"))})))
"""

# What a client's bucket has refused to have removed for so long is the client's; unless a deletion has failed, maybe
# by that.
_OLD_GIVEN_UP = f"""
 FROM compliance_export e JOIN compliance_compliancerequest r ON r.id = e.request_id
WHERE e.hosting = 'client' AND e.key IS NOT NULL AND e.finished_at IS NULL
  AND r.status IN ('failed', 'cancelled', 'rejected') AND {_ENDED_AT} < now() - make_interval(secs => %(kept)s)
  AND {_IS_NOT_WAITED_FOR}
  AND NOT EXISTS (SELECT FROM compliance_compliancerequest
                   WHERE chatbot_id = r.chatbot_id AND status = 'failed' AND kind <> 'export')
"""

# A failed export keeps its value for a retry, and no longer than a digest, unless a deletion is held for it. (A
# failed deletion is still to be carried out.)
_OLD_EXPORTS = f"""
 FROM compliance_compliancerequest r
WHERE r.status = 'failed' AND r.kind = 'export' AND r.uci_value IS NOT NULL
  AND r.failed_at < now() - make_interval(secs => %(kept)s)
  AND {_HAS_NO_EXPORT} AND {_IS_NOT_WAITED_FOR}
"""
_FORGET_OLD_EXPORTS = f"""
UPDATE compliance_compliancerequest SET uci_value = NULL, uci_digest = NULL, callback_url = ''
 WHERE id = ANY(ARRAY(
       SELECT r.id {_OLD_EXPORTS} ORDER BY r.failed_at LIMIT %(batch)s FOR UPDATE OF r SKIP LOCKED))
"""

# The keys of what lies in a client's bucket contain a value. A deletion clears those of its chatter; later ones name
# the copy by what it holds.
_OLD_KEYS = """
 FROM compliance_export
WHERE hosting = 'client' AND key IS NOT NULL AND finished_at < now() - make_interval(secs => %(kept)s)
"""
_FORGET_KEYS = """
WITH old AS ({old}), copies AS (
    DELETE FROM compliance_exportfile WHERE export_id = ANY(ARRAY(SELECT id FROM old))
)
UPDATE compliance_export SET key = NULL, upload_id = NULL WHERE id = ANY(ARRAY(SELECT id FROM old))
"""
_FORGET_OLD_KEYS = _FORGET_KEYS.format(
    old=f"SELECT id {_OLD_KEYS} ORDER BY finished_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED"
)
_FORGET_GIVEN_UP = _FORGET_KEYS.format(
    old=f"SELECT e.id {_OLD_GIVEN_UP} ORDER BY e.id LIMIT %(batch)s FOR UPDATE OF e, r SKIP LOCKED"
)

# Deletions clear the notes of their chatters; this clears the others by age.
_OLD_NOTES = """
 FROM compliance_requestnote
WHERE text IS NOT NULL AND created_at < now() - make_interval(secs => %(kept)s)
"""
_EMPTY_NOTES = f"""
UPDATE compliance_requestnote SET text = NULL
 WHERE id = ANY(ARRAY(SELECT id {_OLD_NOTES} ORDER BY created_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED))
"""

# Intake refuses late data until the deletion is over, which a failed one is not, and for the ledger's days after. One
# that is over stays so.
_IS_OVER = """
NOT EXISTS (SELECT FROM compliance_compliancerequest
             WHERE id = old.request_id
               AND (status IN ('accepted', 'on_hold', 'processing') OR (status = 'failed' AND uci_value IS NOT NULL)
                    OR completed_at > now() - make_interval(secs => %(kept)s)))
"""

# As long as the objects that they are from, and until they are decided.
_OLD_LEDGER_LINE = """
at < now() - make_interval(secs => %(kept)s) AND outcome <> 'undecided'
AND (outcome NOT IN ('', 'filed') OR incarnation <> (SELECT incarnation FROM compliance_service))
"""
# Longer than its object, which a worker may not get to remove for a while: an object without a row looks like a
# restore. The newest one stays: the next key is not before it.
_OLD_LEDGER_OBJECT = """
at < now() - make_interval(secs => %(kept)s) - interval '30 days'
AND at < (SELECT max(at) FROM compliance_ledgerobject)
"""


def _deleting(model: type[Model], old: str, *, order: str, key: str = "id") -> Rule:
    """Return the rule that deletes `old` rows (SQL) of a local table."""
    table = model._meta.db_table
    rows = f" FROM {table} AS old WHERE {old}"
    # An array, since PostgreSQL may expect thousands, and would join by reading the whole table.
    delete = f"""
DELETE FROM {table}
 WHERE {key} = ANY(ARRAY(SELECT {key} {rows} ORDER BY {order} LIMIT %(batch)s FOR UPDATE SKIP LOCKED))
"""
    return AtOnce(rows, delete)


def _deleting_expired(model: type[Model], *, deletion: str = "NULL", may_go: str = "TRUE") -> Rule:
    """Return the rule that deletes expired rows of a conversation table, once they may go by their deletion."""
    table = model._meta.db_table
    find = f"""
WITH old AS MATERIALIZED (
    SELECT expires_at, id, chatbot_id, {deletion} AS request_id
      FROM {table}
     WHERE expires_at < now() AND {_IS_AFTER.format(at="expires_at", key="id")} AND {{answering}}
     ORDER BY expires_at, id LIMIT %(batch)s
)
SELECT expires_at, id, chatbot_id, {may_go} FROM old
"""
    of_place = f"FROM {table} WHERE chatbot_id = ANY(%(chatbots)s) AND id = ANY(%(ids)s)"
    return FoundFirst(
        find=find,
        # Look-ups are queued anew, which makes them expire later.
        lock=f"SELECT id {of_place} AND expires_at < now() ORDER BY id FOR UPDATE SKIP LOCKED",
        changes=(f"DELETE {of_place}",),
    )


FORGETTING: dict[str, Rule] = {
    "callbacks": AtOnce(_OLD_CALLBACKS, _DELETE_CALLBACKS),
    "conversation_digests": _CONVERSATION_DIGESTS,
    "chatter_digests": AtOnce(_OLD_CHATTER_DIGESTS, _FORGET_CHATTER_DIGESTS),
    "given_up_keys": AtOnce(_OLD_GIVEN_UP, _FORGET_GIVEN_UP),
    "failed_exports": AtOnce(_OLD_EXPORTS, _FORGET_OLD_EXPORTS),
    "delivered_keys": AtOnce(_OLD_KEYS, _FORGET_OLD_KEYS),
    "notes": AtOnce(_OLD_NOTES, _EMPTY_NOTES),
    "named_conversation_digests": _NAMED_DIGESTS,
    # After the digests, for those that keep it as long as one.
    "references": AtOnce(_OLD_REFERENCES, _EMPTY_REFERENCES),
    "variable_values": _deleting_expired(VariableValue),
    "identity_lookups": _deleting_expired(IdentityLookup),
    "tombstones": _deleting_expired(Tombstone, deletion="request_id", may_go=_IS_OVER),
    # They expire with the chatter's tombstone.
    "refused_identities": _deleting_expired(RefusedIdentity, deletion="request_id", may_go=_IS_OVER),
    "ledger_lines": _deleting(LedgerLine, _OLD_LEDGER_LINE, order="at", key="request_id"),
    "ledger_rows": _deleting(LedgerObject, _OLD_LEDGER_OBJECT, order="at"),
    "replays": _deleting(Replay, "expires_at < now()", order="expires_at"),
    # By their end: the workers' role may not read session keys.
    "sessions": _deleting(Session, "expire_date < now()", order="expire_date", key="expire_date"),
    "log_ins": _deleting(StaffLogin, "at < now() - make_interval(secs => %(log_ins_kept)s)", order="at"),
    # Not those that still count towards a lock-out.
    "failed_log_ins": _deleting(LoginFailures, "ends_at < now()", order="ends_at"),
}
