"""Queue callbacks and write the change log, in the transaction in which requests reach a state."""

from collections.abc import Collection, Iterable
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from uuid_utils.compat import uuid7

from chatbots import changelog
from common.db import array, execute
from compliance.cluster import notify
from compliance.deadlines import DUE_SOON_WITHIN
from compliance.models import Callback

DeadlineEvent = Callback.DeadlineEvent

# After this long, an undelivered callback is given up.
TRIED_FOR = timedelta(days=1)

# Without an address of the request or its chatbot, there is no callback.
_ANNOUNCE = """
INSERT INTO compliance_callback (id, chatbot_id, request_id, deadline_event, status, hold_reason, result, error_code,
                                 occurred_at, url, state, attempts, next_attempt_at, give_up_at, last_error,
                                 expires_at)
SELECT made.id, r.chatbot_id, r.id, %(event)s, r.status, r.hold_reason, r.result,
       CASE r.status WHEN 'failed' THEN r.error_code ELSE '' END,
       {occurred_at},
       r.callback_url, 'waiting', 0, statement_timestamp(),
       statement_timestamp() + make_interval(secs => %(tried)s), '',
       statement_timestamp() + make_interval(secs => %(kept)s)
  FROM unnest(%(ids)s::uuid[], %(request_ids)s::uuid[]) AS made(id, request_id)
  JOIN compliance_compliancerequest r ON r.id = made.request_id
  JOIN chatbots_chatbot c ON c.id = r.chatbot_id
 WHERE (r.callback_url <> '' OR c.callback_url <> '')
   AND (%(event)s = '' OR r.status IN ('accepted', 'processing', 'on_hold', 'failed'))
    ON CONFLICT (request_id, deadline_event, occurred_at) WHERE NOT (deadline_event = '') DO NOTHING
"""
_REACHED_AT = """CASE r.status WHEN 'completed' THEN r.completed_at WHEN 'failed' THEN r.failed_at
                     WHEN 'on_hold' THEN r.held_at WHEN 'rejected' THEN r.rejected_at
                     WHEN 'cancelled' THEN r.cancelled_at END"""
# When each event of a deadline has occurred; by default, when the request has reached its state.
OCCURRED_AT = {
    DeadlineEvent.EXTENDED: "r.extended_at",
    DeadlineEvent.DUE_SOON: f"r.due_at - interval '{DUE_SOON_WITHIN.days} days'",
    DeadlineEvent.OVERDUE: "r.due_at",
}


def announce(request_ids: Collection[UUID], *, event: DeadlineEvent | None = None) -> None:
    """Queue callbacks for requests that have just reached a state, in the caller's transaction.

    With `event`, for this event of their deadlines instead: once for each deadline.
    """
    if request_ids and execute(
        _ANNOUNCE.format(occurred_at=OCCURRED_AT[event] if event else _REACHED_AT),
        {
            "event": event or "",
            "ids": array(uuid7() for _ in request_ids),
            "request_ids": array(request_ids),
            "tried": TRIED_FOR.total_seconds(),
            "kept": settings.CALLBACK_DAYS.total_seconds(),
        },
    ):
        notify.after_commit(notify.enqueue_callbacks)


def log(event: str, rows: Iterable[tuple[UUID, int, changelog.Data]]) -> None:
    """Write an entry of a worker for each (request, chatbot, data), in the caller's transaction."""
    changelog.record_all(
        changelog.entry(event, chatbot_id=chatbot_id, request_id=request_id, actor="worker", data=data)
        for request_id, chatbot_id, data in rows
    )
