"""The conversations log and the usage over HTTP: pages, filters, look-ups; kept fields only of deleted ones."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chatbots.models import Chatbot
from compliance import worker
from conversations import log
from conversations.models import Conversation
from tests.calls import TokenCaller, pointers, problem, results_of
from tests.conversations.closing import DELETION, PLANTED, erase, mark, planted
from tests.factories import NOON, ConversationFactory, IdentityFactory, conversation_of, deletion_of

CALLS = ("conversations", "conversations/{number}", "conversations/lookup")


@pytest.fixture
def caller(chatbot: Chatbot) -> TokenCaller:
    return TokenCaller(chatbot, scopes=["conversations:read"])


def listed(caller: TokenCaller, query: str = "", **parameters: Any) -> list[int]:
    path = f"conversations?{query or urlencode(parameters)}"
    return [one["number"] for results in results_of(caller, path) for one in results]


def looked_up(caller: TokenCaller, *ids: str) -> list[Any]:
    response = caller.post("conversations/lookup", {"ids": ids})
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["id"] for result in results] == list(ids)
    return [result["conversation"] for result in results]


def test_a_conversation_is_shown_whole_in_each_call(chatbot: Chatbot, caller: TokenCaller) -> None:
    conversation = planted(chatbot)
    IdentityFactory.create(conversation=conversation, value="second")
    shown = {
        "number": conversation.pk,
        "id": f"{PLANTED} 0",
        "deleted": False,
        "label": None,
        "deletion_request_id": None,
        "restricted": False,
        "channel": "whatsapp",
        "language": f"{PLANTED} language",
        "user_name": f"{PLANTED} name",
        "started_at": "2026-11-01T12:00:00.000000Z",
        "last_message_at": "2026-11-01T12:03:00.000000Z",
        "message_count": 2,
        "file_upload": False,
        "agent_handover": False,
        "push": True,
        "score": 7.5,
        "csat": {"score": 4, "vote": "positive", "comment": f"{PLANTED} comment", "comment_redacted": False},
        "unique_chatter_identifiers": [
            {"key": "member_id", "value": f"{PLANTED} value 0", "established_by": "custom"},
            {"key": "member_id", "value": "second", "established_by": "custom"},
        ],
    }
    response = caller.get("conversations")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json() == {"results": [shown], "next": None, "previous": None}
    assert caller.get(f"conversations/{conversation.pk}").json() == shown
    assert looked_up(caller, f"{PLANTED} 0") == [shown]


@pytest.mark.parametrize("close", [mark, erase])
def test_a_closed_conversation_returns_only_its_kept_fields(chatbot, caller, close) -> None:
    conversation = planted(chatbot)
    close(conversation)
    shown: dict[str, Any] = {
        "number": conversation.pk,
        "id": None,
        "deleted": True,
        "label": "Deleted conversation",
        "deletion_request_id": str(DELETION),
        "restricted": False,
        "channel": "whatsapp",
        "language": None,
        "user_name": None,
        "started_at": "2026-11-01T00:00:00.000000Z",
        "last_message_at": None,
        "message_count": None,
        "file_upload": False,
        "agent_handover": False,
        "push": True,
        "score": 7.5,
        "csat": {"score": 4, "vote": "positive", "comment": None, "comment_redacted": False},
        "unique_chatter_identifiers": [],
    }
    assert caller.get(f"conversations/{conversation.pk}").json() == shown
    for path in ("conversations", "conversations?deleted=true", "conversations?channel=whatsapp"):
        response = caller.get(path)
        assert response.json()["results"] == [shown]
        assert PLANTED not in response.content.decode()
    assert looked_up(caller, f"{PLANTED} 0") == [shown]
    if close is erase:
        Conversation.objects.update(external_id_digest=None)  # once the ledger's days are over
        assert looked_up(caller, f"{PLANTED} 0") == [None]


def test_the_log_is_newest_first_and_complete_also_among_equal_instants(chatbot, neighbour, caller) -> None:
    ConversationFactory.create(chatbot=neighbour)
    rows = [ConversationFactory.create(chatbot=chatbot, started_at=NOON - timedelta(days=n // 4)) for n in range(11)]
    newest_first = [row.pk for row in sorted(rows, key=lambda row: (row.started_at, row.pk), reverse=True)]
    for limit in (1, 3, 4, 200):
        assert listed(caller, limit=limit) == newest_first
    whole = caller.get("conversations?limit=11").json()
    assert (len(whole["results"]), whole["next"]) == (11, None)


def test_no_conversation_is_missed_when_some_are_erased_between_pages(chatbot: Chatbot, caller: TokenCaller) -> None:
    rows = [conversation_of(chatbot, "42", messages=0, started_at=NOON - timedelta(minutes=n)) for n in range(6)]
    pages = results_of(caller, "conversations?limit=2")
    seen = next(pages)
    for row in (rows[0], rows[3]):  # one already shown, one not yet
        erase(row)
    seen += [one for results in pages for one in results]
    assert [one["number"] for one in seen if not one["deleted"]] == [rows[n].pk for n in (0, 1, 2, 4, 5)]
    # Now at midnight of their day: the one already shown comes again, as deleted.
    assert [one["number"] for one in seen if one["deleted"]] == [rows[3].pk, rows[0].pk]


def test_it_is_filtered_by_time_channel_and_deletion(chatbot: Chatbot, caller: TokenCaller) -> None:
    old, middle, new = (
        conversation_of(chatbot, "42", messages=0, started_at=NOON + timedelta(hours=n), channel=channel)
        for n, channel in enumerate(("widget", "whatsapp", "widget"))
    )
    mark(new)
    assert listed(caller, started_after="2026-11-01T13:00:00Z") == [new.pk, middle.pk]
    assert listed(caller, started_before="2026-11-01T13:00:00Z") == [old.pk]
    assert listed(caller, started_after="2026-11-01T13:00:00+01:00", started_before="2026-11-01T12:00:01Z") == [
        old.pk
    ]
    assert listed(caller, started_after="2026-11-02T00:00:00Z") == []
    assert listed(caller, channel="widget") == [new.pk, old.pk]
    assert listed(caller, deleted="true") == [new.pk]
    assert listed(caller, deleted="false") == [middle.pk, old.pk]
    assert listed(caller, channel="widget", deleted="false", limit=1) == [old.pk]


def test_pages_and_look_ups_take_as_many_queries_for_one_as_for_many(chatbot: Chatbot, caller: TokenCaller) -> None:
    def queries() -> list[int]:
        counts = []
        for call in (
            lambda: caller.get("conversations?limit=200"),
            lambda: caller.get(f"conversations/{Conversation.objects.latest('id').pk}"),
            lambda: caller.post("conversations/lookup", {"ids": [f"{PLANTED} {n}" for n in range(30)]}),
        ):
            with CaptureQueriesContext(connection) as captured:
                assert call().status_code == 200
            counts.append(len(captured))
        return counts

    planted(chatbot)
    caller.get("conversations")  # the first call of a minute records the key's use
    few = queries()
    for number in range(1, 30):
        planted(chatbot, number, messages=1)
    assert queries() == few
    assert max(few) <= 5


def test_long_comments_end_a_page_early_and_a_look_up_asks_for_fewer(chatbot, caller, monkeypatch) -> None:
    rows = [ConversationFactory.create(chatbot=chatbot, csat_comment="x" * 100) for _ in range(5)]
    monkeypatch.setattr(log.LogPages, "most_bytes", 250)
    monkeypatch.setattr(log, "MAX_BYTES", 250)
    pages = list(results_of(caller, "conversations"))
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [one["number"] for page in pages for one in page] == [row.pk for row in reversed(rows)]
    assert len(looked_up(caller, rows[0].external_id, rows[1].external_id)) == 2
    problem(caller.post("conversations/lookup", {"ids": [row.external_id for row in rows]}), 413, "too_large")


def test_lookups_answer_in_order_including_repeated_and_unknown_ids(chatbot, neighbour, caller) -> None:
    first, second = (conversation_of(chatbot, "42", messages=0, external_id=one) for one in ("a", "b"))
    conversation_of(neighbour, "42", external_id="theirs")
    found = looked_up(caller, "b", "nobody's", "a", "b", "theirs", "a\0", "\U0001f600")
    assert [one and one["number"] for one in found] == [second.pk, None, first.pk, second.pk, None, None, None]


def test_invalid_lookups_are_refused(caller: TokenCaller) -> None:
    wrong: list[tuple[Any, dict[str, str]]] = [
        ({}, {"/ids": "missing"}),
        ([], {"": "wrong_type"}),
        ({"ids": []}, {"/ids": "too_short"}),
        ({"ids": ["x"] * 1_001}, {"/ids": "too_long"}),
        ({"ids": [5]}, {"/ids/0": "wrong_type"}),
        ({"ids": ["x", ""]}, {"/ids/1": "too_short"}),
        ({"ids": ["x" * 201]}, {"/ids/0": "too_long"}),
        ({"ids": ["\ud800"]}, {"/ids/0": "unpaired_surrogate"}),
        ({"ids": ["x"], "id": "x"}, {"/id": "unknown_field"}),
        ({"ids": ["x"], f"{PLANTED} name": 1}, {"": "unknown_field"}),
        (b"{", {}),
        (b'{"ids": ["a"], "ids": ["b"]}', {}),
    ]
    for body, at_fault in wrong:
        response = caller.post("conversations/lookup", body)
        assert pointers(response) == at_fault
        assert PLANTED not in response.content.decode()


def test_a_thousand_ids_are_looked_up_at_once(chatbot: Chatbot, caller: TokenCaller) -> None:
    ConversationFactory.create(chatbot=chatbot, external_id="id 999")
    found = looked_up(caller, *(f"id {n}" for n in range(1_000)))
    assert [one is not None for one in found] == [False] * 999 + [True]


def test_parameters_that_do_not_fit_are_refused(chatbot: Chatbot, caller: TokenCaller) -> None:
    for query, at_fault in (
        ("started_after=yesterday", {"/started_after": "invalid_time"}),
        ("started_before=2026-11-01T00:00:00", {"/started_before": "time_zone_missing"}),
        ("channel=pigeon", {"/channel": "unknown_value"}),
        ("channel=Widget", {"/channel": "unknown_value"}),
        ("deleted=yes", {"/deleted": "unknown_value"}),
        ("limit=201", {"/limit": "out_of_range"}),
        ("cursor=abc", {"/cursor": "invalid"}),
        ("cursor=", {"/cursor": "invalid"}),
        ("user_name=Ada", {"/user_name": "unknown_field"}),
        ("channel=widget&channel=widget", {"/channel": "repeated_field"}),
    ):
        assert pointers(caller.get(f"conversations?{query}")) == at_fault
    number = ConversationFactory.create(chatbot=chatbot).pk
    assert pointers(caller.get(f"conversations/{number}?deleted=true")) == {"/deleted": "unknown_field"}


CHANNELS = ["widget", "whatsapp", "messenger", "wechat", "messaging_api", "other"]


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


def test_each_month_of_the_range_counts_what_began_in_it(chatbot, neighbour, caller) -> None:
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


def test_a_deletion_changes_no_number_but_the_deleted(chatbot, caller, storage) -> None:
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


def test_ranges_that_do_not_fit_are_refused(caller: TokenCaller) -> None:
    for query, at_fault in (
        ("from=2026-11&to=2026-10", {"/from": "out_of_range"}),
        ("from=2020-01&to=2025-01", {"/from": "too_long"}),
        ("from=9998-01", {"/from": "out_of_range"}),
        *((f"from={month}", {"/from": "invalid"}) for month in ("", "2026", "2026-13", "2026-1", "2026-11-01", "x")),
        *((f"to={month}", {"/to": "invalid"}) for month in ("0001-01", "1969-12", "9999-12", "%00", "\uff12026-11")),
        ("month=2026-11", {"/month": "unknown_field"}),
    ):
        assert pointers(caller.get(f"usage?{query}")) == at_fault
    assert len(counted(caller, "?from=2020-02&to=2025-01")) == 60
    assert len(counted(caller, "?from=9998-01&to=9998-12")) == 12
    assert len(counted(caller, "?to=1970-01")) == 12
