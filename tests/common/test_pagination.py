"""Pages by cursor: each row once despite concurrent changes, and an opaque, verified cursor."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from rest_framework.request import Request

from chatbots.models import Chatbot
from common.pagination import CursorPages, PageQuery
from common.problems import Problem
from common.query import read_query
from conversations.models import Conversation
from tests.factories import NOON, ConversationFactory

pytestmark = pytest.mark.django_db


class Newest(CursorPages):
    ordering = ("-started_at", "-id")


class Oldest(CursorPages):
    ordering = ("id",)


def page(url: str, shape: type[CursorPages] = Newest) -> dict[str, Any]:
    request = Request(RequestFactory().get(url))
    pages = shape(read_query(request, PageQuery))
    rows = pages.paginate_queryset(Conversation.objects.all(), request)
    answer: dict[str, Any] = pages.get_paginated_response([row.pk for row in rows]).data
    assert list(answer) == ["results", "next", "previous"]
    return answer


def follow_pages(
    url: str | None, shape: type[CursorPages] = Newest, *, towards: str = "next"
) -> Iterator[dict[str, Any]]:
    while url:
        answer = page(url, shape)
        yield answer
        url = answer[towards]


@pytest.fixture
def numbers(chatbot: Chatbot) -> list[int]:
    """Twelve rows newest first, seven of them at the same instant."""
    starts = [NOON - timedelta(minutes=max(0, n - 6)) for n in range(12)]
    rows = [ConversationFactory.create(chatbot=chatbot, started_at=at) for at in starts]
    return [row.pk for row in sorted(rows, key=lambda row: (row.started_at, row.pk), reverse=True)]


def test_paging_both_ways_returns_each_row_once_also_at_equal_instants(numbers: list[int]) -> None:
    for limit in (1, 2, 5, 11, 12, 13):
        forth = list(follow_pages(f"/list?limit={limit}"))
        assert [one for answer in forth for one in answer["results"]] == numbers
        assert forth[0]["previous"] is None
        assert {len(answer["results"]) for answer in forth[:-1]} <= {limit}
        back = list(follow_pages(forth[-1]["previous"], towards="previous"))
        seen = [one for answer in reversed(back) for one in answer["results"]]
        assert seen + forth[-1]["results"] == numbers
        if back:
            assert page(back[-1]["next"])["results"] == numbers[len(back[-1]["results"]) :][:limit]


def test_ascending_order_works_too(numbers: list[int]) -> None:
    forth = list(follow_pages("/list?limit=5", Oldest))
    assert [one for answer in forth for one in answer["results"]] == sorted(numbers)
    assert page(forth[2]["previous"], Oldest)["results"] == sorted(numbers)[5:10]


def test_added_or_removed_rows_do_not_shift_pages(chatbot: Chatbot, numbers: list[int]) -> None:
    first = page("/list?limit=3")
    # Rows already shown, the row that the cursor names, and a later row.
    Conversation.objects.filter(pk__in=[*numbers[:3], numbers[4]]).delete()
    ConversationFactory.create(chatbot=chatbot, started_at=NOON + timedelta(days=1))
    rest = [one for answer in follow_pages(first["next"]) for one in answer["results"]]
    assert rest == [numbers[3], *numbers[5:]]


def test_a_link_keeps_the_other_parameters_and_shows_no_place(numbers: list[int]) -> None:
    link = urlsplit(page("/list?limit=3")["next"])
    parameters = parse_qs(link.query)
    assert (link.scheme, link.netloc, link.path) == ("http", "testserver", "/list")
    assert parameters["limit"] == ["3"]
    assert "2026" not in parameters["cursor"][0]
    assert page("/list?limit=3")["next"] != link.geturl()  # encrypted again: equal positions are not recognisable


def test_a_page_is_one_statement_and_counts_nothing(numbers: list[int]) -> None:
    url = page("/list?limit=3")["next"]
    with CaptureQueriesContext(
        connection,
    ) as queries:
        page(url)
    [statement] = queries.captured_queries
    assert "COUNT" not in statement["sql"]
    assert "LIMIT 4" in statement["sql"]
    assert "ROW(" in statement["sql"]


def test_an_empty_list_is_one_page(chatbot: Chatbot) -> None:
    assert page("/list") == {"results": [], "next": None, "previous": None}


def refused(url: str, shape: type[CursorPages] = Newest) -> None:
    with pytest.raises(Problem) as caught:
        page(url, shape)
    assert (caught.value.status_code, caught.value.code) == (400, "invalid")
    assert [(error.pointer, error.code) for error in caught.value.errors] == [("/cursor", "invalid")]


def test_a_cursor_is_for_its_own_call_alone(numbers: list[int]) -> None:
    cursor = parse_qs(urlsplit(page("/list?limit=3")["next"]).query)["cursor"][0]
    refused("/another?" + urlencode({"cursor": cursor}))
    refused("/list?" + urlencode({"cursor": cursor}), Oldest)
    refused("/list?" + urlencode({"cursor": cursor[:-5]}))
    assert page("/list?" + urlencode({"cursor": cursor, "limit": 1}))["results"] == numbers[3:4]
