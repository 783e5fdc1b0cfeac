"""Which conversations a request names, as SQL and in one place: those of one chatter, or those with certain ids."""

# For a row `r` with `chatbot_id` and either `variable_id` and `uci_digest`, or `conversation_digests`: one branch
# finds its conversations and the other nothing, since it compares with null. Open, marked and erased ones are found
# alike: of a chatter's erased ones those whose identity is left, which a copy of them may still be; of ids, as long
# as the digest of the id is kept. `identity_id` is null for what is named by its id. To be used as
# `CROSS JOIN LATERAL ({NAMED}) AS named`. OFFSET 0 keeps PostgreSQL at one look-up for each id: without statistics it
# may read all of the chatbot's conversations instead.
NAMED = """
SELECT i.conversation_id, i.id AS identity_id
  FROM conversations_identity i
 WHERE i.chatbot_id = r.chatbot_id AND i.variable_id = r.variable_id AND i.digest = r.uci_digest
 UNION ALL
SELECT c.id, NULL
  FROM unnest(r.conversation_digests) AS given(digest)
 CROSS JOIN LATERAL (
       SELECT id FROM conversations_conversation
        WHERE chatbot_id = r.chatbot_id AND external_id_digest = given.digest OFFSET 0) AS c
 WHERE r.conversation_digests IS NOT NULL
"""
