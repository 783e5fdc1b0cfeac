"""Free text: a client's `reference` and callback address of a request, notes of staff on it, the `matter` of a hold.

Filing refuses a reference or an address that contains the request's selector, and placing such a matter. Texts with
another erased value are cleared here. A note can contain anything, so it is always cleared with its subject:

- when a conversation is erased, on each request with its id, and each redaction of it. Of
  these, references and addresses are cleared that contain the conversation's id or the value of a person in it;
- when the deletion of a chatter completes, on each request of the chatter. Of these, references and addresses are
  cleared that contain the chatter's value: it is the last time that it is known.

A hold keeps its matter while it is in force. When a conversation is erased that a released hold named by its id, the
matter is cleared if it contains the value of a person in it. Any other matter ends by its age (`retention.expiry`).

A deletion of certain conversations leaves the notes of its chatters' own requests: it is not about the chatters.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from common.db import array, execute, fetch
from common.texts import holds
from compliance.work import sql

# Whether a callback `c` waits to be sent to an address of its request's own.
_IS_OWN = "c.url <> ''"
# The address of a request, and those of its callbacks that wait: it can have forgotten its own before.
_ADDRESSES = f"""concat_ws(E'\\n', nullif(callback_url, ''), (
    SELECT string_agg(DISTINCT c.url, E'\\n') FROM compliance_callback c
     WHERE c.request_id = {{request}} AND {_IS_OWN}))"""
_OF_CHATTERS = f"""
SELECT other.id, other.reference, other.addresses, r.uci_value
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL (
       SELECT id, reference, {_ADDRESSES.format(request="asked.id")} AS addresses
         FROM compliance_compliancerequest AS asked
        WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest OFFSET 0) AS other
 WHERE r.id = ANY(%s) AND r.uci_value IS NOT NULL AND (other.reference <> '' OR other.addresses <> '')
"""
# One row for each request with a text that is about one of the conversations, or redacts it, and for each released
# hold on it, whose text is its matter. The conversations' data is looked up again: a WITH has no index, so each
# request would read all of it.
_OF_CONVERSATIONS = f"""
WITH c AS MATERIALIZED (
    SELECT id, external_id_digest FROM conversations_conversation
     WHERE id = ANY(%(conversations)s) AND chatbot_id = ANY(%(chatbots)s)
), naming AS MATERIALIZED (
    SELECT other.id, c.id AS number FROM c CROSS JOIN LATERAL {sql.NAMING} AS other WHERE {sql.IS_ANY}
     UNION ALL
    SELECT request_id, conversation_id FROM compliance_redaction WHERE conversation_id = ANY(%(conversations)s)
), released AS MATERIALIZED (
    SELECT h.id, h.matter, o.digest
      FROM (SELECT id, matter FROM compliance_legalhold
             WHERE chatbot_id = ANY(%(chatbots)s) AND released_at IS NOT NULL AND matter <> '') AS h
     CROSS JOIN LATERAL (SELECT digest FROM compliance_legalholdconversation WHERE hold_id = h.id OFFSET 0) AS o
), written AS MATERIALIZED (
    SELECT c.id AS number, TRUE AS is_hold, h.id, h.matter AS reference, '' AS callback_url, '{{}}'::bigint[] AS notes
      FROM c JOIN released AS h ON h.digest = c.external_id_digest
     UNION ALL
    SELECT naming.number, FALSE, r.*
      FROM naming
     CROSS JOIN LATERAL (
           SELECT id, reference, {_ADDRESSES.format(request="naming.id")} AS callback_url,
                  ARRAY(SELECT id FROM compliance_requestnote
                         WHERE request_id = naming.id AND text IS NOT NULL) AS notes
             FROM compliance_compliancerequest WHERE id = naming.id OFFSET 0) AS r
     WHERE r.reference <> '' OR r.callback_url <> '' OR r.notes <> '{{}}'
), ids AS MATERIALIZED (
    SELECT written.*, c.external_id AS value
      FROM written
     CROSS JOIN LATERAL (
           SELECT external_id FROM conversations_conversation
            WHERE id = written.number AND chatbot_id = ANY(%(chatbots)s) AND external_id IS NOT NULL OFFSET 0) AS c
), people AS MATERIALIZED (
    SELECT written.*, i.value
      FROM written
     CROSS JOIN LATERAL (
           SELECT value FROM conversations_identity
            WHERE conversation_id = written.number AND chatbot_id = ANY(%(chatbots)s)
              AND value IS NOT NULL OFFSET 0) AS i
)
SELECT is_hold, id, reference, callback_url, notes, array_agg(number), array_agg(value)
  FROM (SELECT * FROM ids UNION ALL SELECT * FROM people) AS said
 GROUP BY is_hold, id, reference, callback_url, notes
"""
_LOCK = "SELECT id FROM compliance_compliancerequest WHERE id = ANY(%s) ORDER BY seq FOR NO KEY UPDATE"
# A worker that records a callback's outcome has locked it, and may wait for its request.
_CALLBACKS = f"SELECT c.id, c.request_id FROM compliance_callback c WHERE c.request_id = ANY(%s) AND {_IS_OWN}"
_LOCK_CALLBACKS = f"{_CALLBACKS} ORDER BY c.id FOR UPDATE OF c SKIP LOCKED"
# Callbacks that wait go to the chatbot's address, as later ones do.
_READDRESS = "UPDATE compliance_callback SET url = '' WHERE id = ANY(%s::uuid[])"
_CLEAR = """
UPDATE compliance_compliancerequest r
   SET reference = CASE WHEN r.id = ANY(%(references)s) THEN '' ELSE r.reference END,
       callback_url = CASE WHEN r.id = ANY(%(addresses)s) THEN '' ELSE r.callback_url END
 WHERE r.id = ANY(%(references)s) OR r.id = ANY(%(addresses)s)
"""

# The conversations of a hold are named as long as its matter (`inventory`).
_CLEAR_MATTERS = """
WITH released AS (
    SELECT id FROM compliance_legalhold WHERE id = ANY(%s) AND released_at IS NOT NULL ORDER BY id FOR UPDATE
), named AS (
    DELETE FROM compliance_legalholdconversation AS o USING released WHERE o.hold_id = released.id
)
UPDATE compliance_legalhold h SET matter = '' FROM released WHERE h.id = released.id
"""

# Mostly there are no notes: then nothing is looked up, and the long statement is not planned.
_IS_ANY_NOTE = "SELECT TRUE FROM compliance_requestnote WHERE text IS NOT NULL ORDER BY created_at LIMIT 1"
# Begins a statement: `about` has the deletion and the note. Erased conversations are found from the notes, since a
# deletion may have erased any number of them. A redaction or a retention run has no chatter.
_ABOUT = f"""
{sql.REQUESTS}, noted AS MATERIALIZED (
    SELECT id, request_id FROM compliance_requestnote WHERE text IS NOT NULL
), naming AS MATERIALIZED (
    SELECT noted.id AS note_id, o.chatbot_id, o.digest
      FROM noted
     CROSS JOIN LATERAL (
           SELECT chatbot_id, digest FROM compliance_requestsubject
            WHERE request_id = noted.request_id OFFSET 0) AS o
), redacting AS MATERIALIZED (
    SELECT noted.id AS note_id, o.conversation_id
      FROM noted
     CROSS JOIN LATERAL (
           SELECT conversation_id FROM compliance_redaction WHERE request_id = noted.request_id OFFSET 0) AS o
), named AS MATERIALIZED (
    SELECT c.deletion_request_id AS deletion_id, n.note_id
      FROM naming AS n
     CROSS JOIN LATERAL (
           SELECT deletion_request_id FROM conversations_conversation
            WHERE chatbot_id = n.chatbot_id AND chatbot_id = ANY(%(chatbots)s)
              AND external_id_digest = n.digest OFFSET 0) AS c
     WHERE c.deletion_request_id = ANY(%(ids)s)
), redacted AS MATERIALIZED (
    SELECT c.deletion_request_id AS deletion_id, n.note_id
      FROM redacting AS n
     CROSS JOIN LATERAL (
           SELECT deletion_request_id FROM conversations_conversation
            WHERE id = n.conversation_id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS c
     WHERE c.deletion_request_id = ANY(%(ids)s)
), about AS (
    SELECT r.id AS deletion_id, n.id AS note_id
      FROM r
     CROSS JOIN LATERAL (
           SELECT r.id WHERE r.kind = 'deletion'
            UNION
           SELECT id FROM compliance_compliancerequest WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest
            UNION
           SELECT id FROM {sql.naming("r.conversation_digests")} AS sharing) AS same
     CROSS JOIN LATERAL (
           SELECT id FROM compliance_requestnote WHERE request_id = same.id AND text IS NOT NULL OFFSET 0) AS n
     UNION
    SELECT deletion_id, note_id FROM named
     UNION
    SELECT deletion_id, note_id FROM redacted
)
"""
_FIND_NOTES = f"{_ABOUT} SELECT DISTINCT note_id FROM about"
_EMPTY_NOTES = """
UPDATE compliance_requestnote SET text = NULL
 WHERE id = ANY(ARRAY(SELECT id FROM compliance_requestnote WHERE id = ANY(%s) ORDER BY id FOR UPDATE))
"""

# A concurrent decision, which the emptying statement does not see yet, writes a new note. No decision takes this
# long.
_MEANWHILE = "1 minute"
_NOTES_LEFT = f"""
{_ABOUT}
SELECT about.deletion_id, count(*)
  FROM about
  JOIN compliance_compliancerequest d ON d.id = about.deletion_id
  JOIN compliance_requestnote n ON n.id = about.note_id
 WHERE n.created_at < coalesce(d.completed_at, statement_timestamp()) - interval '{_MEANWHILE}'
 GROUP BY 1
"""


@dataclass
class FreeText:
    """The texts to clear: the requests of the references and addresses, the holds of the matters, the numbers of the
    notes.

    `conversations` has, for each of these requests, the conversations whose id or person its text contains.
    """

    references: set[UUID] = field(default_factory=set)
    addresses: set[UUID] = field(default_factory=set)
    matters: set[UUID] = field(default_factory=set)
    notes: set[int] = field(default_factory=set)
    conversations: dict[UUID, set[int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.requests or self.matters or self.notes)

    @property
    def requests(self) -> set[UUID]:
        return self.references | self.addresses

    def add(self, request_id: UUID, reference: str, address: str, *values: str) -> None:
        """Add the texts of a request that contain one of the values."""
        if holds(reference, *values):
            self.references.add(request_id)
        if holds(address, *values):
            self.addresses.add(request_id)

    def clear(self, request_ids: Collection[UUID]) -> set[UUID]:
        """Clear the references and addresses of these requests, which the caller has locked, and of their callbacks.

        Returns the requests with a callback that another transaction has locked: its address is kept for now.
        """
        of = {
            "references": array(self.references & {*request_ids}),
            "addresses": array(self.addresses & {*request_ids}),
        }
        execute(_CLEAR, of)
        callbacks = dict(fetch(_LOCK_CALLBACKS, [of["addresses"]]))
        execute(_READDRESS, [array(callbacks)])
        return {request_id for _, request_id in fetch(_CALLBACKS, [of["addresses"]])}


def of_chatters(deletion_ids: Sequence[UUID]) -> FreeText:
    """Return the requests of these deletions' chatters whose references and addresses contain the value.

    These texts are only ever cleared, so the result stays valid until the caller locks the requests.
    """
    found = FreeText()
    for row in fetch(_OF_CHATTERS, [array(deletion_ids)]):
        found.add(*row)
    return found


def clear_for_chatters(deletion_ids: Sequence[UUID]) -> None:
    """Clear the texts that `of_chatters` finds, in the completing transaction.

    It has locked the requests (`transitions.completion`).
    """
    if requests := (found := of_chatters(deletion_ids)).requests:
        found.clear(requests)


def of_conversations(conversations: Mapping[int, int]) -> FreeText:
    """Return the texts to clear with these conversations, which are given with their chatbots."""
    found = FreeText()
    if not conversations:
        return found  # Citus refuses a statement without a chatbot, which has no shard
    given = {"conversations": array(conversations), "chatbots": array(set(conversations.values()))}
    for is_hold, request_id, reference, address, notes, numbers, values in fetch(_OF_CONVERSATIONS, given):
        if is_hold:
            if holds(reference, *values):
                found.matters.add(request_id)
            continue
        found.notes.update(notes)
        found.add(request_id, reference, address, *values)
        if request_id in found.requests:
            text = f"{reference}\n{address}"
            pairs = zip(numbers, values, strict=True)
            found.conversations[request_id] = {number for number, value in pairs if holds(text, value)}
    return found


def clear(found: FreeText, *, written: Collection[UUID]) -> set[int]:
    """Clear the texts that `of_conversations` found, in the transaction that erases.

    `written` are the requests that the transaction writes; they are locked first. Returns the conversations that
    cannot be erased now, because another transaction has locked a request whose text must be cleared.
    """
    # First our requests, then others' without waiting: so two erasing transactions never wait for each other. Notes
    # come last, as in the transaction that completes.
    execute(_LOCK, [array(written)])
    locked = {request_id for (request_id,) in fetch(f"{_LOCK} SKIP LOCKED", [array(found.requests)])}
    locked -= found.clear(locked)
    if found.notes:
        execute(_EMPTY_NOTES, [array(found.notes)])
    if found.matters:
        execute(_CLEAR_MATTERS, [array(found.matters)])
    return set[int]().union(*(found.conversations[each] for each in found.requests - locked))


def empty_notes(deletion_ids: Sequence[UUID]) -> None:
    """Empty the notes about the subjects of these deletions, in the transaction that completes them."""
    if fetch(_IS_ANY_NOTE) and (found := fetch(_FIND_NOTES, sql.subjects(deletion_ids))):
        execute(_EMPTY_NOTES, [array(note_id for (note_id,) in found)])


def count_remaining_notes(deletion_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Count the notes about these deletions' subjects that should be empty. Notes written since are not counted."""
    return dict(fetch(_NOTES_LEFT, sql.subjects(deletion_ids))) if fetch(_IS_ANY_NOTE) else {}
