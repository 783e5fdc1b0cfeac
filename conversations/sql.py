"""SQL shared by models, searches and requests: a request's conversations, and how values are compared."""

from django.db.models import CharField, F, Func

# The conversations of a row `r` with `chatbot_id` and either `variable_id` and `uci_digest`, or
# `conversation_digests`; the other branch compares with null and finds nothing. It finds open, marked and erased
# ones: a chatter's erased ones while a copy of them keeps the identity, those selected by id while the id's digest is
# kept. `identity_id` and `established_by` are of the chatter's identity, and null for one selected by its id. Use it
# as `CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named`; `%(chatbots)s` are the chatbots of all rows `r`. OFFSET
# 0 makes PostgreSQL do one look-up per id: without statistics it may read all of the chatbot's conversations.
SELECTED_CONVERSATIONS = """
SELECT i.conversation_id, i.id AS identity_id, i.established_by
  FROM conversations_identity i
 WHERE i.chatbot_id = r.chatbot_id AND i.chatbot_id = ANY(%(chatbots)s)
   AND i.variable_id = r.variable_id AND i.variable_id > 0 AND i.digest = r.uci_digest
 UNION ALL
SELECT c.id, NULL, NULL
  FROM unnest(r.conversation_digests) AS given(digest)
 CROSS JOIN LATERAL (
       SELECT id FROM conversations_conversation
        WHERE chatbot_id = r.chatbot_id AND chatbot_id = ANY(%(chatbots)s)
          AND external_id_digest = given.digest OFFSET 0) AS c
 WHERE r.conversation_digests IS NOT NULL
"""

# White space by Unicode, and characters without width.
SPACES = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u2028"
    "\u2029\u202f\u205f\u2060\u3000\ufeff"
)


def value_hash(value: str) -> str:
    """Return the SQL of the indexed hash: a value can be longer than an index entry may be."""
    return f"hashtextextended({value}, 0)"


# The same for the indexes of models.
VALUE_HASH = Func(F("value"), template=value_hash("%(expressions)s"), output_field=CharField())
