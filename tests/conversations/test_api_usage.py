"""Conversations by month and channel; deleted ones still count."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from conversations.models import Conversation
from tests.calls import TokenCaller, pointers
from tests.conversations.closing import mark
from tests.factories import ConversationFactory, conversation_of, deletion_of

CHANNELS = ["widget", "whatsapp", "messenger", "wechat", "messaging_api", "other"]


@pytest.fixture
def caller(chatbot: Chatbot) -> TokenCaller:
    return TokenCaller(chatbot, scopes=["conversations:read"])


def counted(caller: TokenCaller, query: str = "?from=2026-10&to=2026-12") -> dict[str, Any]:
    response = caller.get(f"usage{query}")
    assert response.status_code == 200
    months = response.json()["months"]
    for month in months:
        assert [channel["channel"] for channel in month["channels"]] == CHANNELS
        for name in ("conversations", "deleted"):
            assert month[name] == sum(channel[name] for channel in month["channels"])
    return {
        month["month"]: {
            channel["channel"]: (channel["conversations"], channel["deleted"])
            for channel in month["channels"]
            if channel["conversations"]
        }
        for month in months
    }


def begun(chatbot: Chatbot, instant: str, **fields: Any) -> Conversation:
    return conversation_of(chatbot, "42", started_at=datetime.fromisoformat(f"{instant}Z"), **fields)


def test_each_month_of_the_range_counts_what_began_in_it(
    chatbot: Chatbot, neighbour: Chatbot, caller: TokenCaller
) -> None:
    begun(chatbot, "2026-09-30T23:59:59.999999")
    begun(chatbot, "2026-10-01T00:00:00")
    begun(chatbot, "2026-10-31T23:59:59.999999")
    mark(begun(chatbot, "2026-10-02T00:00:00"))
    begun(chatbot, "2026-12-31T23:59:00", channel="other")
    begun(chatbot, "2027-01-01T00:00:00")
    begun(neighbour, "2026-10-05T00:00:00")
    with CaptureQueriesContext(connection) as queries:
        found = counted(caller)
    assert found == {"2026-10": {"widget": (3, 1)}, "2026-11": {}, "2026-12": {"other": (1, 0)}}
    assert len([one for one in queries if "conversations_conversation" in one["sql"]]) == 1
    answer = caller.get("usage?from=2026-10&to=2026-10").json()
    assert answer == {
        "from": "2026-10",
        "to": "2026-10",
        "months": [
            {
                "month": "2026-10",
                "channels": [
                    {
                        "channel": channel,
                        "conversations": 3 * (channel == "widget"),
                        "deleted": int(channel == "widget"),
                    }
                    for channel in CHANNELS
                ],
                "conversations": 3,
                "deleted": 1,
            }
        ],
    }


def test_months_are_utc_whatever_the_chatbots_time_zone(caller: TokenCaller, chatbot: Chatbot) -> None:
    Chatbot.objects.update(timezone="Pacific/Auckland")
    begun(chatbot, "2026-11-30T23:30:00")
    assert counted(caller)["2026-11"] == {"widget": (1, 0)}


def test_a_deletion_changes_no_number_but_the_deleted(
    chatbot: Chatbot, caller: TokenCaller, storage: ObjectStorage
) -> None:
    # The first and the last instant of a month: the kept day must be within it.
    begun(chatbot, "2026-10-31T23:59:59.999999")
    begun(chatbot, "2026-11-01T00:00:00", channel="whatsapp")
    conversation_of(chatbot, "43", started_at=datetime(2026, 11, 2, tzinfo=UTC))
    before = counted(caller)
    assert before["2026-11"] == {"whatsapp": (1, 0), "widget": (1, 0)}
    deletion_of(chatbot, "42")
    assert not worker.drain(seconds=60)
    assert Conversation.objects.filter(deleted_at__isnull=False).count() == 2
    assert counted(caller) == {
        "2026-10": {"widget": (1, 1)},
        "2026-11": {"whatsapp": (1, 1), "widget": (1, 0)},
        "2026-12": {},
    }


def test_without_a_range_it_counts_the_last_twelve_months(caller: TokenCaller, chatbot: Chatbot) -> None:
    now = datetime.now(UTC)
    ConversationFactory.create(chatbot=chatbot, started_at=now)
    months = counted(caller, "")
    assert len(months) == 12
    assert list(months)[-1] == f"{now:%Y-%m}"
    assert months[f"{now:%Y-%m}"] == {"widget": (1, 0)}
    assert next(iter(counted(caller, "?to=2026-03"))) == "2025-04"


@pytest.mark.long(reason="a call for each range", beyond=5)
@pytest.mark.parametrize(
    ("query", "at_fault"),
    [
        ("from=2026-11&to=2026-10", {"/from": "out_of_range"}),
        ("from=2020-01&to=2025-01", {"/from": "too_long"}),
        ("from=9998-01", {"/from": "out_of_range"}),
        *((f"from={month}", {"/from": "invalid"}) for month in ("", "2026", "2026-13", "2026-1", "2026-11-01", "x")),
        *((f"to={month}", {"/to": "invalid"}) for month in ("0001-01", "1969-12", "9999-12", "%00", "\uff12026-11")),
        ("month=2026-11", {"/month": "unknown_field"}),
    ],
)
def test_ranges_that_do_not_fit_are_refused(caller: TokenCaller, query: str, at_fault: dict[str, str]) -> None:
    assert pointers(caller.get(f"usage?{query}")) == at_fault


def test_sixty_months_and_the_ends_of_time_can_be_asked_for(caller: TokenCaller) -> None:
    assert len(counted(caller, "?from=2020-02&to=2025-01")) == 60
    assert len(counted(caller, "?from=9998-01&to=9998-12")) == 12
    assert len(counted(caller, "?to=1970-01")) == 12
