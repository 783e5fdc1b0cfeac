"""The scope of a request, as SQL: the data that must be gone when it completes.

No request owns a conversation, a file or an export, and none passes its scope on to another. Each finds the data of
its selector, even if another deletion has marked or erased it. So two deletions with common data at worst do the same
work twice, and neither completes before all of it is done.

For a row `r` of the requests, once it has marked (`cutoff_at`, `cutoff_number`), a conversation is in scope

- if the request's selector matches it (`conversations.sql`) and it was stored when the request marked. Its number
  decides, since an erased conversation keeps only its day;
- not if it is unmarked and the request leaves out conversations under a legal hold (`withholds`): then all others
  have a mark;
- if a chatter's request matches it, and it is live, began before the mark, and is not marked (after a restored
  backup);
- if it has the request's mark; of a retention run under way, only the slice that it works on.

A redaction (`REDACTIONS`) has its messages in scope, with their files, and maybe the conversation's CSAT comment. Of
the conversation it has the exports that began before it emptied these, and the days that may hold one of the
messages, or for the comment all of its days.

`%(chatbots)s` are the chatbots of all rows `r` (`compliance.work.sql.subjects`).
OFFSET 0 makes PostgreSQL use indexes: it cannot know how few rows there are.
"""

from typing import NamedTuple

from compliance.work.sql import GIVEN, REQUESTS
from conversations.sql import SELECTED_CONVERSATIONS

# Used as `CROSS JOIN LATERAL (...) AS s`, for `s.id`. IN_SCOPE_WITH takes the columns to read of a conversation `c`.
NAMED_IN_SCOPE_WITH = f"""
SELECT {{columns}}
  FROM ({SELECTED_CONVERSATIONS}) AS named
 CROSS JOIN LATERAL (
       SELECT * FROM conversations_conversation
        WHERE id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS c
 WHERE (c.id <= r.cutoff_number
        OR (named.identity_id IS NOT NULL AND c.deletion_request_id IS NULL AND c.started_at < r.cutoff_at))
   AND (c.deletion_request_id IS NOT NULL OR r.withholds IS NOT TRUE)
"""
IN_SCOPE_WITH = f"""
{NAMED_IN_SCOPE_WITH}
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
NAMED_IN_SCOPE = NAMED_IN_SCOPE_WITH.format(columns="c.id")
IN_SCOPE = IN_SCOPE_WITH.format(columns="c.id")

# The chatter's exports that were filed before, or begun before the deletion was, as while it was held. An export
# without findings holds no conversation, but its key contains the value.
OWN_EXPORTS = """
SELECT own.id
  FROM (SELECT id FROM compliance_compliancerequest
         WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest AND kind = 'export'
           AND (seq < r.seq OR cutoff_at <= coalesce(r.cutoff_at, statement_timestamp()))
        OFFSET 0) AS filed
 CROSS JOIN LATERAL (SELECT id FROM compliance_export WHERE request_id = filed.id OFFSET 0) AS own
"""
EXPORTS_HOLDING = """
SELECT export_id FROM compliance_exportconversation WHERE conversation_id = s.id OFFSET 0
"""


class Scope(NamedTuple):
    """The scope of requests of a kind, `ids`, as parts of SQL statements.

    `head`: a WITH of the requests `r` and of `scope`: conversations, each with its request. `exports`: those that
    hold a conversation `s` in scope. `file`, `day`: whether a file `f`, or a daily extract `e`, of such a
    conversation is in scope. `closed`: whether its files may go: not before the conversation has a mark, which a
    legal hold prevents.
    """

    head: str
    exports: str = EXPORTS_HOLDING
    file: str = "TRUE"
    closed: str = "TRUE"
    day: str = "TRUE"

    @property
    def met(self) -> str:
        """`head`, and a WITH `met` of the exports in the requests' scope, including the chatters' own."""
        return f"""
{self.head}, met AS MATERIALIZED (
    SELECT s.request_id, held.export_id FROM scope AS s CROSS JOIN LATERAL ({self.exports}) AS held
     UNION
    SELECT r.id, own.id FROM r CROSS JOIN LATERAL ({OWN_EXPORTS}) AS own
)
"""


DELETIONS = Scope(
    f"""
{REQUESTS}, scope AS MATERIALIZED (
    SELECT r.id AS request_id, s.id FROM r CROSS JOIN LATERAL ({IN_SCOPE}) AS s
)
""",
    closed="""
EXISTS (SELECT 1 FROM conversations_conversation
         WHERE id = s.id AND chatbot_id = ANY(%(chatbots)s) AND deletion_request_id IS NOT NULL)
""",
)
# With the times of the messages that are still stored. If a deletion has erased them, their days are unknown, so it
# may be any day. An export that starts over has a new time of its beginning before its former object is removed; but
# it has expired. A finished one that expires keeps its time, and is clean if it began later.
REDACTIONS = Scope(
    """
WITH r AS MATERIALIZED (
    SELECT q.id, q.seq, q.variable_id, q.uci_digest, q.cutoff_at, x.conversation_id, x.message_numbers,
           x.csat_comment
      FROM compliance_redaction AS x JOIN compliance_compliancerequest AS q ON q.id = x.request_id
     WHERE x.request_id = ANY(%(ids)s::uuid[]) AND q.cutoff_at IS NOT NULL
), scope AS MATERIALIZED (
    SELECT r.id AS request_id, r.conversation_id AS id, NULL::bigint AS erased_before, r.cutoff_at,
           r.message_numbers, r.csat_comment, CASE WHEN NOT r.csat_comment THEN m.times END AS times
      FROM r
     CROSS JOIN LATERAL (
           SELECT array_agg(sent_at) AS times FROM conversations_message
            WHERE id = ANY(r.message_numbers) AND conversation_id = r.conversation_id
              AND chatbot_id = ANY(%(chatbots)s)) AS m
)
""",
    exports="""
SELECT held.export_id
  FROM (SELECT export_id FROM compliance_exportconversation WHERE conversation_id = s.id OFFSET 0) AS held
 CROSS JOIN LATERAL (SELECT * FROM compliance_export WHERE id = held.export_id OFFSET 0) AS e
 CROSS JOIN LATERAL (SELECT cutoff_at FROM compliance_compliancerequest WHERE id = e.request_id OFFSET 0) AS filed
 WHERE filed.cutoff_at <= s.cutoff_at OR (e.finished_at IS NULL AND e.expires_at <= statement_timestamp())
""",
    file="f.message_id = ANY(s.message_numbers)",
    day="""
(s.times IS NULL OR EXISTS (
    SELECT 1 FROM unnest(s.times) AS said(at) WHERE said.at >= e.starts_at AND said.at < e.ends_at))
""",
)

# Of requests that are not filed, or wait, as if they were carried out now (`sql.given_unfiled`): their conversations
# were found by NAMED_IN_SCOPE_WITH, as many as a preview reads, and are given as `numbers`.
UNFILED = Scope(
    f"""
WITH r AS MATERIALIZED (SELECT * FROM {GIVEN}), scope AS MATERIALIZED (
    SELECT NULL::uuid AS request_id, unnest(%(numbers)s::bigint[]) AS id
)
"""
)

# Whether an export in scope, of the request `filed`, is the chatter's own. If either request is by conversations, it
# is if the export holds one.
IS_OWN = """
(filed.variable_id IS NULL OR r.variable_id IS NULL
 OR (filed.variable_id = r.variable_id AND filed.uci_digest = r.uci_digest))
"""

# Whether an export `e` in scope has to go. Finished ones in a client's bucket are the client's. With
# `erase_exports` the chatter's own go at once.
GOES = f"""
(e.key IS NOT NULL AND (e.hosting = 'hosted' OR e.finished_at IS NULL)
 AND (e.expires_at <= statement_timestamp()
      OR (r.erase_exports AND EXISTS (
          SELECT FROM compliance_compliancerequest AS filed WHERE filed.id = e.request_id AND {IS_OWN}))))
"""

# Whether a client may have a file of a day `e` with data that was erased at a version, or is live (NULL).
IS_AT_CLIENT = """
(e.was_left_in_former_bucket
 OR (e.hosting = 'client' AND coalesce(e.made_version < {version}, e.made_version IS NOT NULL)))
"""

# Whether files of an erased conversation `s` are left; whether a daily extract or an export may hold a copy of it.
# Then the keyed digests of its people are kept, for copies in clients' buckets too.
HAS_FILES = """
EXISTS (SELECT FROM conversations_uploadedfile WHERE conversation_id = s.id AND chatbot_id = ANY(%(chatbots)s))
"""
IN_DAYS_OR_EXPORTS = """
(EXISTS (SELECT 1 FROM conversations_extractconversation AS t
          CROSS JOIN LATERAL (
                SELECT 1 FROM conversations_dailyextract AS e
                 WHERE e.id = t.extract_id
                   AND (e.was_left_in_former_bucket
                        OR (e.key IS NOT NULL AND coalesce(e.made_version, 0) < t.version))
                OFFSET 0) AS e
          WHERE t.conversation_id = s.id)
 OR EXISTS (SELECT 1 FROM compliance_exportconversation WHERE conversation_id = s.id))
"""
