"""Which messages are late for their day's extract when clocks differ."""

from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from chatbots.models import Chatbot
from conversations.intake import store
from tests.conversations.documents import message, parsed
from tests.extracting import extract_of, planned

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("delay", [timedelta(minutes=10), timedelta(days=1)])
def test_a_clock_that_is_behind_by_less_than_half_of_the_delay_hides_no_late_message(
    chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch, delay: timedelta
) -> None:
    """The message is from the day's last second, and arrives as soon as the day can have been read."""
    monkeypatch.setattr(settings, "EXTRACT_DELAY", delay)
    [day] = planned(chatbot)
    last_second = (day.ends_at - SECOND).isoformat()
    began = day.ends_at + delay

    def slow_clock() -> datetime:
        return began - delay / 2 + SECOND

    monkeypatch.setattr(timezone, "now", slow_clock)  # a test cannot set the machine's clock
    store(chatbot=chatbot, documents=[parsed(messages=[message(sent_at=last_second)])])

    assert extract_of(chatbot).version == day.version + 1
