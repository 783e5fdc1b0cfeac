"""Make the extracts of given days here and now, beside whatever workers there are."""

import time
from datetime import date

from chatbots.models import Chatbot
from compliance.erasure import extracts
from conversations.extracts import days, leases, rebuilds
from conversations.models import DailyExtract

State = DailyExtract.State

# How long another worker that is at it is waited for, and how often it is looked.
PATIENCE_SECONDS = 600.0
LOOK_SECONDS = 0.5


def prepare(chatbot: Chatbot, first: date, last: date, *, again: bool = False) -> list[DailyExtract]:
    """Plan the days from `first` to `last`, and return their rows.

    What has failed or expired is set to be made again, with `again` also what is done in the hosted bucket.
    """
    days.plan(chatbot, first, last)
    rows = DailyExtract.objects.filter(chatbot=chatbot, day__range=(first, last)).order_by("day")
    states = [State.FAILED, State.EXPIRED, *([State.DONE] if again else [])]
    known = list(rows.values_list("day", flat=True))
    rebuilds.order(chatbot_id=chatbot.pk, days=known, states=states, actor="command")
    return list(rows)


def make_now(extract: DailyExtract) -> None:
    """Make the file of a day if it waits to be made, or wait for the worker that is at it.

    Call it outside any transaction. What became of it stands on its row. A day that changes meanwhile is made again.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while extract.state in {State.PENDING, State.STALE} and time.monotonic() < end:
        held = leases.take_one(extract.pk)
        if held:
            extracts.make(held)
        else:
            time.sleep(LOOK_SECONDS)
        extract.refresh_from_db()
        if held and extract.error_code:
            return
