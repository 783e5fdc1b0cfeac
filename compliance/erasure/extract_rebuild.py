"""Build the extracts of given days in this process, beside any workers."""

import time
from datetime import date

from chatbots.models import Chatbot
from compliance.erasure import extracts
from conversations.extracts import days, leases, rebuilds
from conversations.models import DailyExtract

State = DailyExtract.State

# How long to wait for another worker that is building the extract, and how often to check.
PATIENCE_SECONDS = 600.0
LOOK_SECONDS = 0.5


def prepare(chatbot: Chatbot, first: date, last: date, *, again: bool = False) -> list[DailyExtract]:
    """Plan the days from `first` to `last`, and return their extracts.

    Failed and expired ones are to be built again; with `again`, finished ones in the hosted bucket too.
    """
    days.plan(chatbot, first, last)
    rows = DailyExtract.objects.filter(chatbot=chatbot, day__range=(first, last)).order_by("day")
    states = [State.FAILED, State.EXPIRED, *([State.DONE] if again else [])]
    known = list(rows.values_list("day", flat=True))
    rebuilds.order(chatbot_id=chatbot.pk, days=known, states=states, actor="command")
    return list(rows)


def make_now(extract: DailyExtract) -> None:
    """Build an extract that is due, or wait for the worker that builds it. A day that changes meanwhile is rebuilt.

    Call it outside any transaction. The outcome is on the row.
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
