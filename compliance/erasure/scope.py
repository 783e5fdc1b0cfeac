"""The scope of a deletion, as SQL: what must be gone when it completes.

No request owns a conversation, a file or an export, and none hands anything over to another. Each finds what it
names, even if another deletion has marked or erased it. So two deletions that meet at worst do the same work twice,
and neither completes before all of it is done.

For a row `r` of the requests, once it has marked (`cutoff_at`, `cutoff_number`), a conversation is in scope

- if the request names it (`conversations.sql`) and it was stored when the request marked. Its number decides, since
  an erased conversation keeps only its day;
- if a chatter's request names it, and it is live, began before the mark, and is not marked (after a restored backup);
- if it has the request's mark; of a retention run under way, only the slice that it works on.

`%(chatbots)s` are the chatbots of all rows `r` (`compliance.work.sql.subjects`).
OFFSET 0 makes PostgreSQL look up in indexes: it cannot know how few rows there are.
"""

from conversations.sql import SELECTED_CONVERSATIONS

# To be used as `CROSS JOIN LATERAL (...) AS s`, for `s.id`. IN_SCOPE_WITH takes the columns that are to be read of a
# conversation `c`.
_NAMED_IN_SCOPE = f"""
SELECT {{columns}}
  FROM ({SELECTED_CONVERSATIONS}) AS named
 CROSS JOIN LATERAL (
       SELECT * FROM conversations_conversation
        WHERE id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS c
 WHERE c.id <= r.cutoff_number
    OR (named.identity_id IS NOT NULL AND c.deletion_request_id IS NULL AND c.started_at < r.cutoff_at)
"""
IN_SCOPE_WITH = f"""
{_NAMED_IN_SCOPE}
 UNION
SELECT {{columns}} FROM conversations_conversation AS c
 WHERE c.deletion_request_id = r.id AND c.chatbot_id = ANY(%(chatbots)s) AND r.slice IS NULL
 UNION
SELECT {{columns}}
  FROM unnest(r.slice) AS sliced(id)
 CROSS JOIN LATERAL (
       SELECT * FROM conversations_conversation
        WHERE id = sliced.id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS c
 WHERE r.slice IS NOT NULL AND c.deletion_request_id = r.id
"""
NAMED_IN_SCOPE = _NAMED_IN_SCOPE.format(columns="c.id")
IN_SCOPE = IN_SCOPE_WITH.format(columns="c.id")

# What is in the scope of the requests `ids`.
SCOPE_OF_REQUESTS = f"""
SELECT s.id FROM compliance_compliancerequest r CROSS JOIN LATERAL ({IN_SCOPE}) AS s WHERE r.id = ANY(%(ids)s)
"""

# The chatter's exports that were filed before. One without findings holds no conversation, but its key contains the
# value.
OWN_EXPORTS = """
SELECT own.id
  FROM (SELECT id FROM compliance_compliancerequest
         WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest AND kind = 'export' AND seq < r.seq
        OFFSET 0) AS filed
 CROSS JOIN LATERAL (SELECT id FROM compliance_export WHERE request_id = filed.id OFFSET 0) AS own
"""
EXPORTS_HOLDING = """
SELECT export_id FROM compliance_exportconversation WHERE conversation_id = s.id OFFSET 0
"""

# Exports that a deletion meets: those that hold a conversation in its scope, and the chatter's own.
EXPORTS_MET = f"""
SELECT held.export_id FROM ({IN_SCOPE}) AS s CROSS JOIN LATERAL ({EXPORTS_HOLDING}) AS held
 UNION
({OWN_EXPORTS})
"""

# Whether an export that was met, of the request `filed`, is the chatter's own. Where either side names conversations,
# it is if it holds one.
IS_OWN = """
(filed.variable_id IS NULL OR r.variable_id IS NULL
 OR (filed.variable_id = r.variable_id AND filed.uci_digest = r.uci_digest))
"""

# Whether an export `e` that was met has to go. Finished ones in a client's bucket are the client's. With
# `erase_exports` the chatter's own go at once.
GOES = f"""
(e.key IS NOT NULL AND (e.hosting = 'hosted' OR e.finished_at IS NULL)
 AND (e.expires_at <= statement_timestamp()
      OR (r.erase_exports AND EXISTS (
          SELECT FROM compliance_compliancerequest AS filed WHERE filed.id = e.request_id AND {IS_OWN}))))
"""

# Whether a file, a daily extract or an export may hold a copy of an erased conversation `s`. Then the keyed digests
# of its people are kept, for copies in clients' buckets too.
IN_FILES_OR_DAYS = """
(EXISTS (SELECT FROM conversations_uploadedfile WHERE conversation_id = s.id AND chatbot_id = ANY(%(chatbots)s))
 OR EXISTS (SELECT FROM conversations_extractconversation AS t
             CROSS JOIN LATERAL (
                   SELECT FROM conversations_dailyextract AS e
                    WHERE e.id = t.extract_id AND e.key IS NOT NULL AND coalesce(e.made_version, 0) < t.version
                   OFFSET 0) AS e
             WHERE t.conversation_id = s.id))
"""
IS_COPIED = f"""
({IN_FILES_OR_DAYS} OR EXISTS (SELECT FROM compliance_exportconversation WHERE conversation_id = s.id))
"""
