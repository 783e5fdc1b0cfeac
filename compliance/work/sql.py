"""Requests by conversations, in SQL: whether there are any at all, and which ones meet.

Most chatbots never have one. What has to be asked because of them is asked only where such a condition is true. Each
is in the order of an index that holds these requests alone, or PostgreSQL, without statistics, would read another.
"""

IS_ANY = """
(SELECT TRUE FROM compliance_compliancerequest
  WHERE conversation_digests IS NOT NULL AND chatbot_id > 0
  ORDER BY coalesce(completed_at, cancelled_at, rejected_at, failed_at) LIMIT 1)
"""

# Not over yet, or failed.
IS_ANY_OPEN = """
(SELECT TRUE FROM compliance_compliancerequest
  WHERE conversation_digests IS NOT NULL AND status IN ('accepted', 'on_hold', 'processing', 'failed')
  ORDER BY chatbot_id, seq LIMIT 1)
"""

# The requests that name one of the conversations which the request `r` names, itself included. OFFSET 0 leaves
# PostgreSQL no other way to them than by the digests.
SHARING = """
(SELECT * FROM compliance_compliancerequest WHERE conversation_digests && r.conversation_digests OFFSET 0)
"""
# Those that name the conversation `c`.
NAMING = """
(SELECT * FROM compliance_compliancerequest WHERE conversation_digests @> ARRAY[c.external_id_digest] OFFSET 0)
"""
