"""Callbacks about deadlines: that requests are due soon, or overdue. An extension is announced where it is made.

The sweep queues each of them once for each deadline. It is not delivered if it does not hold any more: the person was
answered, the request has ended, or it was extended, which has other events.
"""

import time
from datetime import timedelta
from functools import cache

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from common.db import fetch, lock_until_commit
from compliance.deadlines import DUE_SOON_SQL, DUE_SOON_WITHIN, OPEN, OVERDUE_SQL
from compliance.models import Callback
from compliance.work.due import CAN_CONTINUE_SQL
from compliance.work.outbox import OCCURRED_AT, announce

Event = Callback.DeadlineEvent

# The event of a callback `c`, without its prefix.
EVENT_OF = "coalesce(nullif(c.deadline_event, ''), c.status)"

# An extension, as a state that was reached, is a fact.
STILL_HOLDS = Q(deadline_event__in=("", Event.EXTENDED)) | (
    Q(request__status__in=OPEN, request__answered_at=None, request__chatbot__closed_at=None)
    & (
        Q(deadline_event=Event.OVERDUE, request__due_at=F("occurred_at"))
        | Q(
            deadline_event=Event.DUE_SOON,
            request__due_at=F("occurred_at") + DUE_SOON_WITHIN,
            request__due_at__gt=Now(),
        )
    )
)

# What has been overdue for longer is not told: a receiver may be new. Nor what a removed callback has told.
_NEW_FOR = timedelta(days=7)
_AT_ONCE = 1_000
_SECONDS = 5.0
# One worker at a time.
_LOCK = 0x6463_6464  # "dcdd"

# By the index of requests that are not completed, whose condition is in it.
_NEW = """
SELECT new.id
  FROM chatbots_chatbot b
 CROSS JOIN LATERAL (
    SELECT r.id
      FROM unnest(ARRAY['failed', 'on_hold', 'accepted', 'processing']) AS open(status)
     CROSS JOIN LATERAL (
        SELECT * FROM compliance_compliancerequest r
         WHERE r.chatbot_id = b.id AND r.chatbot_id > 0 AND NOT (r.status = 'completed') AND r.status = open.status
     ) AS r
     WHERE {holds} AND {can_continue} AND {occurred_at} > statement_timestamp() - make_interval(secs => %(new)s)
       AND (r.callback_url <> '' OR b.callback_url <> '')
       AND NOT EXISTS (
           SELECT FROM compliance_callback c
            WHERE c.request_id = r.id AND c.deadline_event = '{event}' AND c.occurred_at = {occurred_at})
     LIMIT %(most)s
 ) AS new
 WHERE b.closed_at IS NULL
 LIMIT %(most)s
"""
_HOLDS = {Event.DUE_SOON: DUE_SOON_SQL, Event.OVERDUE: OVERDUE_SQL}


def announce_due() -> int:
    """Queue the callbacks that are missing, for some seconds at most, and return how many requests have got one."""
    end = time.monotonic() + _SECONDS
    announced = 0
    for event in _HOLDS:
        some = _AT_ONCE
        while some == _AT_ONCE and time.monotonic() < end:
            some = _announce_some(event)
            announced += some
    return announced


@transaction.atomic
def _announce_some(event: Event) -> int:
    lock_until_commit(_LOCK)
    new = min(_NEW_FOR, settings.CALLBACK_DAYS)
    found = [request_id for (request_id,) in fetch(_statement(event), {"new": new.total_seconds(), "most": _AT_ONCE})]
    announce(found, event=event)
    return len(found)


@cache
def _statement(event: Event) -> str:
    return _NEW.format(
        holds=_HOLDS[event], can_continue=CAN_CONTINUE_SQL, occurred_at=OCCURRED_AT[event], event=event.value
    )
