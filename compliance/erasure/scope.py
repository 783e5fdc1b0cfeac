"""What a deletion has to see gone, as SQL: the one place where that is said.

The data says what is left. No request owns a conversation, a file or an export, and none hands anything over to
another: whoever asks finds what is named, by whoever it was closed or erased. So two deletions that meet do the same
work twice at the worst, and neither is complete before all of it is done.

For a row `r` of the requests, once it has marked (`cutoff_at`, `cutoff_number`), a conversation is in scope

- if the request names it (`conversations.sql`) and it was stored when the request marked: its number tells, since
  an erased conversation keeps only its day;
- if a chatter's request names it, and it is live, began before the mark, and no deletion has marked it (only a
  restored backup brings that about);
- if it bears the request's mark.

OFFSET 0 keeps PostgreSQL at look-ups in indexes: it cannot know how few there are.
"""

from conversations.sql import SELECTED_CONVERSATIONS

# To be used as `CROSS JOIN LATERAL (...) AS s`, for `s.id`. IN_SCOPE_WITH takes the columns that are to be read of a
# conversation `c`.
_NAMED_IN_SCOPE = f"""
SELECT {{columns}}
  FROM ({SELECTED_CONVERSATIONS}) AS named
 CROSS JOIN LATERAL (SELECT * FROM conversations_conversation WHERE id = named.conversation_id OFFSET 0) AS c
 WHERE c.id <= r.cutoff_number
    OR (named.identity_id IS NOT NULL AND c.deletion_request_id IS NULL AND c.started_at < r.cutoff_at)
"""  # noqa: S608  (a text of ours)
IN_SCOPE_WITH = f"""
{_NAMED_IN_SCOPE}
 UNION
SELECT {{columns}} FROM conversations_conversation AS c WHERE c.deletion_request_id = r.id
"""  # noqa: S608  (a text of ours)
NAMED_IN_SCOPE = _NAMED_IN_SCOPE.format(columns="c.id")
IN_SCOPE = IN_SCOPE_WITH.format(columns="c.id")

# The exports of the chatter that were filed before. One without findings holds no conversation, but its key bears
# the value.
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

# Those that a deletion meets: what holds a conversation in its scope, and the chatter's own.
EXPORTS_MET = f"""
SELECT held.export_id FROM ({IN_SCOPE}) AS s CROSS JOIN LATERAL ({EXPORTS_HOLDING}) AS held
 UNION
({OWN_EXPORTS})
"""  # noqa: S608  (texts of ours)

# Of an export that was met, by the request `filed`: where either side names conversations, what holds one is own.
IS_OWN = """
(filed.variable_id IS NULL OR r.variable_id IS NULL
 OR (filed.variable_id = r.variable_id AND filed.uci_digest = r.uci_digest))
"""

# An export `e` that was met and has to go: whole ones in a client's bucket are the client's. Where the deletion says
# `erase_exports` the chatter's own go at once.
GOES = f"""
(e.key IS NOT NULL AND (e.hosting = 'hosted' OR e.finished_at IS NULL)
 AND (e.expires_at <= statement_timestamp()
      OR (r.erase_exports AND EXISTS (
          SELECT FROM compliance_compliancerequest AS filed WHERE filed.id = e.request_id AND {IS_OWN}))))
"""

# Of an erased conversation `s`: whether a file, a daily extract or an export may hold a copy of it. Then the keyed
# digests of whom it was about are kept, also for what is the client's.
IN_FILES_OR_DAYS = """
(EXISTS (SELECT FROM conversations_uploadedfile WHERE conversation_id = s.id)
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
