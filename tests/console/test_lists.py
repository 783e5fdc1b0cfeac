"""Paging of the console's lists."""

import pytest
from django.http import Http404
from django.test import RequestFactory

from chatbots.models import Chatbot
from console.common.lists import ListPage, paginate
from tests import factories


def page(address: str, **given: str) -> ListPage[Chatbot]:
    request = RequestFactory().get(address, given)
    return paginate(request, Chatbot.objects.all(), ordering=("name", "slug"), size=2)


@pytest.mark.django_db
def test_it_pages_both_ways_and_refuses_cursors_of_other_lists() -> None:
    for number in range(5):
        factories.ChatbotFactory.create(slug=f"bot-{number}")

    addresses: list[str | None] = ["/admin/chatbots/?q=bot"]
    seen, last = [], None
    while address := addresses[-1]:
        last = page(address)
        seen.append([chatbot.slug for chatbot in last.rows])
        addresses.append(last.next_url)

    assert seen == [["bot-0", "bot-1"], ["bot-2", "bot-3"], ["bot-4"]]
    assert "q=bot" in str(addresses[1])
    assert [one.slug for one in page(str(last.previous_url)).rows] == ["bot-2", "bot-3"]
    for cursor in ("nonsense", "x" * 3_000):
        with pytest.raises(Http404):
            page("/admin/chatbots/", cursor=cursor)
