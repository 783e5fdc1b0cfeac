"""The conversations log as staff browse it: what is found, in which order, and how far a page looks."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chatbots.models import Chatbot
from conversations import browsing
from conversations.browsing import Csat, Filters, Page, Score, State
from conversations.models import Conversation
from tests.conversations.closing import PLANTED, erase, mark, planted
from tests.factories import NOON, ConversationFactory

pytestmark = pytest.mark.django_db

Channel = Conversation.Channel


def page(chatbot: Chatbot, filters: Filters | None = None, **options: Any) -> Page:
    window = {"starts_at": NOON - timedelta(days=30), "ends_at": NOON + timedelta(days=30)}
    return browsing.read_page(chatbot=chatbot, filters=filters or Filters(), **window | options)


def numbers(page: Page) -> list[int]:
    return [row.number for row in page.rows]


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


def test_it_shows_one_chatbots_log_newest_first_within_the_window(chatbot: Chatbot, neighbour: Chatbot) -> None:
    middle, new, old, same = (
        ConversationFactory.create(chatbot=chatbot, started_at=at(minutes)).pk for minutes in (5, 9, 1, 5)
    )
    ConversationFactory.create(chatbot=neighbour)
    assert numbers(page(chatbot)) == [new, same, middle, old]
    assert numbers(page(chatbot, starts_at=at(5), ends_at=at(9))) == [same, middle]
    assert page(chatbot, starts_at=at(10)) == Page([], older=None, newer=None, looked_to=None)


@pytest.mark.parametrize(
    ("filters", "fitting", "other"),
    [
        (Filters(channel=Channel.WECHAT), {"channel": "wechat"}, {}),
        (Filters(language="pt"), {"language": "PT-br"}, {"language": "ptx"}),
        (Filters(score=Score.LOW), {"score": "3.9"}, {"score": "4.0"}),
        (Filters(score=Score.MIDDLE), {"score": "6.9"}, {"score": "7.0"}),
        (Filters(score=Score.HIGH), {"score": "10.0"}, {"score": "6.9"}),
        (Filters(score=Score.NONE), {"score": None}, {"score": "1.0"}),
        (Filters(has_agent_handover=True), {"has_agent_handover": True}, {}),
        (Filters(has_agent_handover=False), {}, {"has_agent_handover": True}),
        (Filters(has_push=True), {"has_push": True}, {}),
        (Filters(has_push=False), {}, {"has_push": True}),
        (Filters(has_file_upload=True), {"has_file_upload": True}, {}),
        (Filters(csat=Csat.NEGATIVE), {"csat_vote": "negative"}, {"csat_vote": "positive"}),
        (Filters(csat=Csat.LOW), {"csat_score": 3}, {"csat_score": 4}),
        (Filters(csat=Csat.MIDDLE), {"csat_score": 6}, {"csat_score": 3}),
        (Filters(csat=Csat.HIGH), {"csat_score": 7}, {}),
        (Filters(csat=Csat.COMMENT), {"csat_comment": "x"}, {"csat_score": 1}),
        (Filters(csat=Csat.NONE), {}, {"csat_score": 0}),
        (
            Filters(channel=Channel.OTHER, has_push=True, score=Score.HIGH),
            {"channel": "other", "has_push": True, "score": 9},
            {"channel": "other", "has_push": True, "score": 1},
        ),
    ],
    ids=lambda value: str(value.chosen) if isinstance(value, Filters) else "",
)
def test_it_filters(chatbot: Chatbot, filters: Filters, fitting: Any, other: Any) -> None:
    found = ConversationFactory.create(chatbot=chatbot, **fitting)
    ConversationFactory.create(chatbot=chatbot, **other)
    assert numbers(page(chatbot, filters)) == [found.pk]


@pytest.mark.parametrize("close", [mark, erase])
def test_of_a_closed_one_it_gives_what_is_kept_and_nothing_can_be_learnt_by_filters(
    chatbot: Chatbot, close: Any
) -> None:
    conversation = planted(chatbot, language="fr")
    filters = (Filters(language="fr"), Filters(csat=Csat.COMMENT))
    assert [numbers(page(chatbot, one)) for one in filters] == [[conversation.pk]] * 2
    close(conversation)
    assert [numbers(page(chatbot, one)) for one in filters] == [[], []]
    (row,) = page(chatbot).rows
    assert row == browsing.read_rows([conversation.pk], chatbot=chatbot)[0]
    assert row.is_closed
    assert PLANTED not in str(row)
    assert row.began_at == NOON.replace(hour=0)
    assert (row.user_name, row.message_count, row.has_comment) == (None, None, False)
    assert (row.channel, row.csat_score, row.csat_vote, row.has_push) == ("whatsapp", 4, "positive", True)


def test_it_tells_live_marked_and_deleted_apart(chatbot: Chatbot) -> None:
    rows = {state: planted(chatbot, number) for number, state in enumerate(State)}
    mark(rows[State.MARKED])
    erase(rows[State.DELETED])
    assert {state: numbers(page(chatbot, Filters(state=state))) for state in State} == {
        state: [row.pk] for state, row in rows.items()
    }


def _walk(chatbot: Chatbot, filters: Filters) -> list[Page]:
    pages = [page(chatbot, filters)]
    while pages[-1].older:
        pages.append(page(chatbot, filters, behind=pages[-1].older))
    return pages


def test_pages_follow_each_other_both_ways(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsing, "PAGE", 2)
    made = [ConversationFactory.create(chatbot=chatbot, started_at=at(number // 2)).pk for number in range(5)]
    pages = _walk(chatbot, Filters())
    assert [numbers(each) for each in pages] == [made[:2:-1], made[2:0:-1], made[:1]]
    assert pages[0].newer is None
    back = page(chatbot, behind=pages[2].newer, is_backwards=True)
    assert numbers(back) == made[2:0:-1]
    back = page(chatbot, behind=back.newer, is_backwards=True)
    assert (numbers(back), back.newer) == (made[:2:-1], None)
    assert numbers(page(chatbot, behind=back.older)) == made[2:0:-1]


def test_a_page_of_rare_ones_says_how_far_it_has_looked_and_the_next_goes_on_from_there(
    chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browsing, "MOST_LOOKED_AT", 4)
    monkeypatch.setattr(browsing, "PAGE", 2)
    rare = {2, 3, 9}  # the third and the fourth, counted from the newest of ten, and the oldest
    made = [
        ConversationFactory.create(chatbot=chatbot, started_at=at(-number), has_push=number in rare).pk
        for number in range(10)
    ]
    pages = _walk(chatbot, Filters(has_push=True))
    assert [numbers(each) for each in pages] == [[made[2], made[3]], [], [made[9]]]
    assert [each.looked_to for each in pages] == [at(-3), at(-7), None]
    back = page(chatbot, Filters(has_push=True), behind=pages[2].newer, is_backwards=True)
    assert (numbers(back), back.looked_to) == ([], at(-5))
    back = page(chatbot, Filters(has_push=True), behind=back.newer, is_backwards=True)
    assert numbers(back) == [made[2], made[3]]


def test_it_finds_the_newest_before_an_instant(chatbot: Chatbot, neighbour: Chatbot) -> None:
    ConversationFactory.create(chatbot=neighbour, started_at=at(3))
    assert browsing.newest_before(chatbot, at(9)) is None
    ConversationFactory.create(chatbot=chatbot, started_at=at(1))
    ConversationFactory.create(chatbot=chatbot, started_at=at(2))
    assert browsing.newest_before(chatbot, at(9)) == at(2)
    assert browsing.newest_before(chatbot, at(2)) == at(1)


def test_a_page_comes_from_one_statement(chatbot: Chatbot) -> None:
    planted(chatbot)
    for filters in (Filters(), Filters(state=State.DELETED), Filters(csat=Csat.COMMENT, has_push=True)):
        with CaptureQueriesContext(connection) as captured:
            page(chatbot, filters)
        assert len(captured) == 1
