"""Notes on decisions: write them, and empty those about a chatter when their deletion completes.

A deletion empties the notes of

- the deletion itself;
- any request of the same chatter (variable and digest);
- any request by conversations that names one which the deletion names too, or has erased.

A deletion of certain conversations leaves the notes of its chatters' own requests: it is not about the chatters.
"""

from collections.abc import Sequence
from uuid import UUID

from common.db import array, execute, fetch
from compliance.errors import Refused
from compliance.models import ComplianceRequest, RequestNote
from compliance.models.notes import MOST_CHARACTERS_OF_NOTE
from compliance.work import sql

# Notes are few, and most of the time there are none: then nothing is looked up, nor is the long statement planned.
_IS_ANY = "SELECT TRUE FROM compliance_requestnote WHERE text IS NOT NULL ORDER BY created_at LIMIT 1"

# Begins a statement: `about` has the deletion and the note. What is erased is found from the notes on requests by
# conversations, since a deletion may have erased any number of conversations.
_ABOUT = f"""
{sql.REQUESTS}, naming AS MATERIALIZED (
    SELECT n.id AS note_id, o.chatbot_id, o.conversation_digests
      FROM (SELECT id, request_id FROM compliance_requestnote WHERE text IS NOT NULL OFFSET 0) AS n
     CROSS JOIN LATERAL (
           SELECT chatbot_id, conversation_digests FROM compliance_compliancerequest
            WHERE id = n.request_id AND conversation_digests IS NOT NULL OFFSET 0) AS o
     WHERE {sql.IS_ANY}
), erased AS MATERIALIZED (
    SELECT c.deletion_request_id AS deletion_id, n.note_id
      FROM naming AS n
     CROSS JOIN LATERAL unnest(n.conversation_digests) AS given(digest)
     CROSS JOIN LATERAL (
           SELECT deletion_request_id FROM conversations_conversation
            WHERE chatbot_id = n.chatbot_id AND chatbot_id = ANY(%(chatbots)s)
              AND external_id_digest = given.digest OFFSET 0) AS c
     WHERE c.deletion_request_id = ANY(%(ids)s)
), about AS (
    SELECT r.id AS deletion_id, n.id AS note_id
      FROM r
     CROSS JOIN LATERAL (
           SELECT r.id
            UNION
           SELECT id FROM compliance_compliancerequest WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest
            UNION
           SELECT id FROM {sql.SHARING} AS sharing) AS same
     CROSS JOIN LATERAL (
           SELECT id FROM compliance_requestnote WHERE request_id = same.id AND text IS NOT NULL OFFSET 0) AS n
     UNION
    SELECT deletion_id, note_id FROM erased
)
"""  # noqa: S608  (a text of ours)

_FIND = f"{_ABOUT} SELECT DISTINCT note_id FROM about"  # noqa: S608  (a text of ours)
_EMPTY = """
UPDATE compliance_requestnote SET text = NULL
 WHERE id = ANY(ARRAY(SELECT id FROM compliance_requestnote WHERE id = ANY(%s) ORDER BY id FOR UPDATE))
"""

# A decision under way, which the statement that empties does not see yet, writes what is new. None takes this long.
_MEANWHILE = "1 minute"
_LEFT = f"""
{_ABOUT}
SELECT about.deletion_id, count(*)
  FROM about
  JOIN compliance_compliancerequest d ON d.id = about.deletion_id
  JOIN compliance_requestnote n ON n.id = about.note_id
 WHERE n.created_at < coalesce(d.completed_at, statement_timestamp()) - interval '{_MEANWHILE}'
 GROUP BY 1
"""  # noqa: S608  (a text of ours)


def checked(text: str) -> str:
    """Return a note as it is kept, without space around it. Raises Refused(`invalid`)."""
    text = text.replace("\r\n", "\n").strip()
    if len(text) > MOST_CHARACTERS_OF_NOTE:
        raise Refused("invalid", f"A note may have {MOST_CHARACTERS_OF_NOTE:,} characters.", pointer="/note")
    if "\0" in text:
        raise Refused("invalid", "A note must not hold NUL characters.", pointer="/note")
    return text


def write(request: ComplianceRequest, *, entry_id: int, text: str) -> None:
    """Keep the note of a decision, in its transaction, if there is one."""
    if text:
        RequestNote.objects.create(chatbot_id=request.chatbot_id, request=request, entry_id=entry_id, text=text)


def empty(deletion_ids: Sequence[UUID]) -> None:
    """Empty the notes about the chatters of these deletions, in the transaction that completes them."""
    if fetch(_IS_ANY) and (found := fetch(_FIND, sql.subjects(deletion_ids))):
        execute(_EMPTY, [array(note_id for (note_id,) in found)])


def left(deletion_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Count the notes about these deletions' chatters that should be empty. What was written since is new."""
    return dict(fetch(_LEFT, sql.subjects(deletion_ids))) if fetch(_IS_ANY) else {}
