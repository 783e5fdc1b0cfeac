"""Whether there are requests by conversations at all, as conditions in SQL that cost next to nothing.

Most chatbots never have one. What has to be asked because of them is asked only where such a condition is true. Each
is in the order of an index that holds these requests alone, or PostgreSQL, without statistics, would read another.
"""

IS_ANY = """
(SELECT TRUE FROM compliance_compliancerequest
  WHERE conversation_digests IS NOT NULL
  ORDER BY coalesce(completed_at, cancelled_at, rejected_at, failed_at) LIMIT 1)
"""

# Not over yet, or failed.
IS_ANY_OPEN = """
(SELECT TRUE FROM compliance_compliancerequest
  WHERE conversation_digests IS NOT NULL AND status IN ('accepted', 'on_hold', 'processing', 'failed')
  ORDER BY chatbot_id, seq LIMIT 1)
"""
