"""Test calls of staff and clients: made at once, by the process that gets the request, so that nothing is queued.

Such a call ends within seconds, whatever the address does, and only few can be made.
"""

from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from time import monotonic
from typing import TypeVar

from django.db import transaction
from django.db.models.functions import Now

from chatbots import changelog, locks
from chatbots.models import ChangeLogEntry, Chatbot
from compliance.work.call_queue import Call

_Outcome = TypeVar("_Outcome")


def may_try(event: str, *, chatbot: Chatbot, actor: str, most: int, period: timedelta) -> bool:
    """Record a trial in the change log, or return False if the period already had `most` of this event."""
    with transaction.atomic():
        # One at a time, or several at once would each find room.
        locks.lock(chatbot.pk)
        tried = ChangeLogEntry.objects.filter(chatbot=chatbot, event=event, at__gt=Now() - period)
        if tried.count() >= most:
            return False
        changelog.record(event, chatbot_id=chatbot.pk, actor=actor)
        return True


def in_time(call: Call[_Outcome]) -> _Outcome:
    """Make the call; leave it to its thread once its time is over, since a name may still be being resolved."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="trial")
    try:
        running = thread.submit(call.run)
        wait([running], timeout=max(0.0, call.deadline - monotonic()))
        return running.result() if running.done() else call.partial_result()
    finally:
        thread.shutdown(wait=False)
