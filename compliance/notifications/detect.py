"""Create the notices that officers get by mail."""

from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Now

from common.db import execute
from compliance.deadlines import DUE_SOON_SQL, OVERDUE_SQL
from compliance.models import Mailbox, Notice
from compliance.notifications.outbox import officers

# Older events get no notice.
_NEW = timedelta(days=7)
# Longer than that: a notice that is deleted must not be created again.
_KEPT = timedelta(days=30)
_MOST = 1_000

# By the index of requests that are not completed, whose condition is in each part. Looked for anew each time, so that
# nothing is missed that commits late.
_CREATE = f"""
INSERT INTO compliance_notice (chatbot_id, request_id, event, occurred_at)
SELECT chatbot.id, new.id, new.event, new.occurred_at
  FROM unnest(%(chatbots)s::bigint[]) AS chatbot(id)
 CROSS JOIN LATERAL (
    SELECT r.id, e.event, e.occurred_at
      FROM unnest(ARRAY['failed', 'on_hold', 'accepted', 'processing']) AS open(status)
     CROSS JOIN LATERAL (
        SELECT r.* FROM compliance_compliancerequest r
         WHERE r.chatbot_id = chatbot.id AND r.chatbot_id > 0
           AND NOT (r.status = 'completed') AND r.status = open.status
     ) AS r
     CROSS JOIN LATERAL (
        SELECT 'failed' AS event, r.failed_at AS occurred_at WHERE r.status = 'failed'
        UNION ALL
        SELECT 'on_hold', r.held_at WHERE r.status = 'on_hold'
        UNION ALL
        SELECT 'overdue', r.due_at WHERE {OVERDUE_SQL}
        UNION ALL
        SELECT 'due_soon', r.due_at WHERE {DUE_SOON_SQL}
     ) AS e
     WHERE e.occurred_at > statement_timestamp() - make_interval(secs => %(new)s)
       AND NOT EXISTS (
           SELECT FROM compliance_notice n
            WHERE n.request_id = r.id AND n.event = e.event AND n.occurred_at = e.occurred_at)
     LIMIT %(most)s
 ) AS new
 ORDER BY new.occurred_at, new.id
ON CONFLICT DO NOTHING
"""  # noqa: S608  (a text of ours)

# One worker at a time: so a notice that can be seen has none before it that cannot.
_LOCK = 0x6463_6D66  # "dcmf"


def create_notices() -> int:
    """Create the notices that are missing, and return how many. Bounded, and safe to repeat. Deletes old ones."""
    with transaction.atomic():
        execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        oldest = Notice.objects.order_by("pk").values_list("pk", "created_at")[:_MOST]
        Notice.objects.filter(pk__in=[pk for pk, _ in oldest], created_at__lt=Now() - _KEPT).delete()
        Mailbox.objects.bulk_create(
            [Mailbox(user_id=user) for user in officers().values_list("user", flat=True).distinct()],
            ignore_conflicts=True,
        )
        chatbots = list(officers().values_list("chatbot", flat=True).distinct())
        return execute(_CREATE, {"chatbots": chatbots, "new": _NEW.total_seconds(), "most": _MOST})
