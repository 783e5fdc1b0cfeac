"""The conversations log for staff: results, order, and how far a page searches."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chatbots.models import Chatbot
from conversations import filtered_log
from conversations.filtered_log import CsatFilter, LogFilters, LogPage, ScoreFilter, StateFilter
from conversations.models import Conversation
from tests.conversations.closing import erase, mark, planted
from tests.factories import NOON, ConversationFactory

Channel = Conversation.Channel


def page(chatbot: Chatbot, filters: LogFilters | None = None, **options: Any) -> LogPage:
    window = {"starts_at": NOON - timedelta(days=30), "ends_at": NOON + timedelta(days=30)}
    return filtered_log.read_page(chatbot=chatbot, filters=filters or LogFilters(), **window | options)


def numbers(page: LogPage) -> list[int]:
    return [row.number for row in page.rows]


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("filters", "fitting", "other"),
    [
        (LogFilters(channel=Channel.WECHAT), {"channel": "wechat"}, {}),
        (LogFilters(language="pt"), {"language": "PT-br"}, {"language": "ptx"}),
        (LogFilters(score=ScoreFilter.LOW), {"score": "3.9"}, {"score": "4.0"}),
        (LogFilters(score=ScoreFilter.MIDDLE), {"score": "6.9"}, {"score": "7.0"}),
        (LogFilters(score=ScoreFilter.HIGH), {"score": "10.0"}, {"score": "6.9"}),
        (LogFilters(score=ScoreFilter.NONE), {"score": None}, {"score": "1.0"}),
        (LogFilters(has_agent_handover=True), {"has_agent_handover": True}, {}),
        (LogFilters(has_agent_handover=False), {}, {"has_agent_handover": True}),
        (LogFilters(has_push=True), {"has_push": True}, {}),
        (LogFilters(has_push=False), {}, {"has_push": True}),
        (LogFilters(has_file_upload=True), {"has_file_upload": True}, {}),
        (LogFilters(csat=CsatFilter.NEGATIVE), {"csat_vote": "negative"}, {"csat_vote": "positive"}),
        (LogFilters(csat=CsatFilter.LOW), {"csat_score": 3}, {"csat_score": 4}),
        (LogFilters(csat=CsatFilter.MIDDLE), {"csat_score": 6}, {"csat_score": 3}),
        (LogFilters(csat=CsatFilter.HIGH), {"csat_score": 7}, {}),
        (LogFilters(csat=CsatFilter.COMMENT), {"csat_comment": "x"}, {"csat_score": 1}),
        (LogFilters(csat=CsatFilter.NONE), {}, {"csat_score": 0}),
        (
            LogFilters(channel=Channel.OTHER, has_push=True, score=ScoreFilter.HIGH),
            {"channel": "other", "has_push": True, "score": 9},
            {"channel": "other", "has_push": True, "score": 1},
        ),
    ],
    ids=lambda value: str(value.chosen) if isinstance(value, LogFilters) else "",
)
def test_it_filters(chatbot: Chatbot, filters: LogFilters, fitting: Any, other: Any) -> None:
    found = ConversationFactory.create(chatbot=chatbot, **fitting)
    ConversationFactory.create(chatbot=chatbot, **other)
    assert numbers(page(chatbot, filters)) == [found.pk]


def test_it_distinguishes_live_marked_and_deleted(chatbot: Chatbot) -> None:
    rows = {state: planted(chatbot, number, language="fr") for number, state in enumerate(StateFilter)}
    mark(rows[StateFilter.MARKED])
    erase(rows[StateFilter.DELETED])
    assert {state: numbers(page(chatbot, LogFilters(state=state))) for state in StateFilter} == {
        state: [row.pk] for state, row in rows.items()
    }
    # What is erased matches no filter, also while the mark alone is there.
    for erased in (LogFilters(language="fr"), LogFilters(csat=CsatFilter.COMMENT)):
        assert numbers(page(chatbot, erased)) == [rows[StateFilter.LIVE].pk]


def _all_pages(chatbot: Chatbot, filters: LogFilters) -> list[LogPage]:
    pages = [page(chatbot, filters)]
    while pages[-1].older:
        pages.append(page(chatbot, filters, behind=pages[-1].older))
    return pages


def test_pages_follow_each_other_both_ways(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filtered_log, "PAGE_SIZE", 2)
    made = [ConversationFactory.create(chatbot=chatbot, started_at=at(number // 2)).pk for number in range(5)]
    pages = _all_pages(chatbot, LogFilters())
    assert [numbers(each) for each in pages] == [made[:2:-1], made[2:0:-1], made[:1]]
    assert numbers(page(chatbot, starts_at=at(1), ends_at=at(2))) == made[3:1:-1]
    assert pages[0].newer is None
    back = page(chatbot, behind=pages[2].newer, is_backwards=True)
    assert numbers(back) == made[2:0:-1]
    back = page(chatbot, behind=back.newer, is_backwards=True)
    assert (numbers(back), back.newer) == (made[:2:-1], None)
    assert numbers(page(chatbot, behind=back.older)) == made[2:0:-1]


def test_a_page_of_rare_ones_reports_how_far_it_searched_and_the_next_starts_there(chatbot, monkeypatch) -> None:
    monkeypatch.setattr(filtered_log, "MAX_ENTRIES", 4)
    monkeypatch.setattr(filtered_log, "PAGE_SIZE", 2)
    rare = {2, 3, 9}  # the third and the fourth, counted from the newest of ten, and the oldest
    made = [
        ConversationFactory.create(chatbot=chatbot, started_at=at(-number), has_push=number in rare).pk
        for number in range(10)
    ]
    pages = _all_pages(chatbot, LogFilters(has_push=True))
    assert [numbers(each) for each in pages] == [[made[2], made[3]], [], [made[9]]]
    assert [each.searched_to for each in pages] == [at(-3), at(-7), None]
    back = page(chatbot, LogFilters(has_push=True), behind=pages[2].newer, is_backwards=True)
    assert (numbers(back), back.searched_to) == ([], at(-5))
    back = page(chatbot, LogFilters(has_push=True), behind=back.newer, is_backwards=True)
    assert numbers(back) == [made[2], made[3]]


def test_a_page_comes_from_one_statement(chatbot: Chatbot) -> None:
    planted(chatbot)
    for filters in (
        LogFilters(),
        LogFilters(state=StateFilter.DELETED),
        LogFilters(csat=CsatFilter.COMMENT, has_push=True),
    ):
        with CaptureQueriesContext(connection) as captured:
            page(chatbot, filters)
        assert sum("conversations_conversation" in query["sql"] for query in captured) == 1
