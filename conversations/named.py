"""Which conversations a request names, as SQL and in one place: those of one chatter, or those with certain ids."""

# For a row `r` with `chatbot_id` and either `variable_id` and `uci_value`, or `conversation_digests`: one branch
# finds its conversations and the other nothing, since it compares with null. Of all of them something is left: an
# erased one has no identity any more, and is named by its id only while files of it are there. `identity_id` is null
# for what is named by its id. To be used as `CROSS JOIN LATERAL ({NAMED}) AS named`.
NAMED = """
SELECT i.conversation_id, i.id AS identity_id
  FROM conversations_identity i
 WHERE i.chatbot_id = r.chatbot_id AND i.variable_id = r.variable_id AND i.value = r.uci_value
 UNION ALL
SELECT c.id, NULL
  FROM conversations_conversation c
 WHERE c.chatbot_id = r.chatbot_id AND c.external_id_digest = ANY(r.conversation_digests)
   AND (c.deleted_at IS NULL
        OR (c.has_file_upload AND EXISTS (SELECT FROM conversations_uploadedfile WHERE conversation_id = c.id)))
"""
