"""Find what officers are to hear of, and write it down once."""

from datetime import timedelta

from django.db import transaction

from common.db import execute
from compliance.deadlines import DUE_SOON_SQL, OVERDUE_SQL

# What happened earlier is no news any more.
_NEWS = timedelta(days=7)
# Longer than news is news: what was written down must not be found again.
_KEPT = timedelta(days=30)
_MOST = 1_000

# Whoever gets mails of a chatbot.
OFFICERS = """
SELECT u.id AS user_id, u.email, m.chatbot_id
  FROM chatbots_membership m
  JOIN auth_user u ON u.id = m.user_id
 WHERE m.role = 'officer' AND m.mails AND u.is_active AND u.is_staff AND u.email <> ''
"""

# By the index of requests that are not completed, whose condition stands in each part. Found anew each time and left
# out where it is known: so nothing is missed that is committed late. What came first is told first.
_FIND = f"""
WITH heard AS (SELECT DISTINCT chatbot_id FROM ({OFFICERS}) AS officers)
INSERT INTO compliance_notice (chatbot_id, request_id, event, occurred_at)
SELECT heard.chatbot_id, news.id, news.event, news.occurred_at
  FROM heard
 CROSS JOIN LATERAL (
    SELECT r.id, told.event, told.occurred_at
      FROM unnest(ARRAY['failed', 'on_hold', 'accepted', 'processing']) AS open(status)
     CROSS JOIN LATERAL (
        SELECT r.* FROM compliance_compliancerequest r
         WHERE r.chatbot_id = heard.chatbot_id AND r.chatbot_id > 0
           AND NOT (r.status = 'completed') AND r.status = open.status
     ) AS r
     CROSS JOIN LATERAL (
        SELECT 'failed' AS event, r.failed_at AS occurred_at WHERE r.status = 'failed'
        UNION ALL
        SELECT 'on_hold', r.held_at WHERE r.status = 'on_hold'
        UNION ALL
        SELECT 'overdue', r.due_at WHERE {OVERDUE_SQL}
        UNION ALL
        SELECT 'due_soon', r.due_at
         WHERE {DUE_SOON_SQL}
     ) AS told
     WHERE told.occurred_at > statement_timestamp() - make_interval(secs => %(news)s)
       AND NOT EXISTS (
           SELECT FROM compliance_notice n
            WHERE n.request_id = r.id AND n.event = told.event AND n.occurred_at = told.occurred_at)
     LIMIT %(most)s
 ) AS news
 ORDER BY news.occurred_at, news.id
ON CONFLICT DO NOTHING
"""  # noqa: S608  (a text of ours)

_MAKE_MAILBOXES = f"""
INSERT INTO compliance_mailbox (user_id, last_notified_id, attempts, last_error)
SELECT DISTINCT user_id, 0, 0, '' FROM ({OFFICERS}) AS officers
    ON CONFLICT DO NOTHING
"""  # noqa: S608  (a text of ours)

_FORGET = """
DELETE FROM compliance_notice
 WHERE id IN (SELECT oldest.id FROM (SELECT id, created_at FROM compliance_notice ORDER BY id LIMIT %s) AS oldest
               WHERE oldest.created_at < statement_timestamp() - make_interval(secs => %s))
"""

# One at a time: a notice that can be seen then has none before it that cannot.
_FINDER_LOCK = 0x6463_6D66  # "dcmf"


def find_news() -> int:
    """Write down what officers are to hear of and what is not written down yet; return how much that is.

    Bounded, and safe to repeat. Old notices go.
    """
    with transaction.atomic():
        execute("SELECT pg_advisory_xact_lock(%s)", [_FINDER_LOCK])
        execute(_FORGET, [_MOST, _KEPT.total_seconds()])
        execute(_MAKE_MAILBOXES)
        found: int = execute(_FIND, {"news": _NEWS.total_seconds(), "most": _MOST})
    return found
