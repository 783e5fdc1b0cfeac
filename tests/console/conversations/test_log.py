"""The log's page: one chatbot's conversations, its filters, and only the kept fields of closed ones."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from chatbots.models import Chatbot, Membership
from conversations import filtered_log
from conversations.models import Conversation
from tests.conversations.closing import DELETION, PLANTED, erase, mark, planted
from tests.factories import ConversationFactory
from tests.people import client_of, member, staff

LOG = reverse("console:conversations")


def page_of(conversation: Conversation) -> str:
    return reverse("console:conversation", args=[conversation.pk])


def recently(minutes: int = 0) -> datetime:
    return timezone.now() - timedelta(hours=1, minutes=minutes)


def links_of(answer: HttpResponse) -> list[str]:
    """The links to transcripts on a page, in order."""
    return re.findall(rf'href="({LOG}\d+/)"', answer.text)


def test_it_lists_the_last_48_hours_newest_first_with_what_each_has(chatbot: Chatbot) -> None:
    older = ConversationFactory.create(chatbot=chatbot, started_at=timezone.now() - timedelta(hours=47))
    newer = planted(
        chatbot, started_at=recently(), user_name="Ada <b>", has_agent_handover=True, has_file_upload=True
    )
    ConversationFactory.create(chatbot=chatbot, started_at=timezone.now() - timedelta(hours=49))

    answer = member(chatbot).get(LOG)

    assert links_of(answer) == [page_of(newer), page_of(older)]
    assert "no-store" in answer.headers["Cache-Control"]
    for shown in ("Ada &lt;b&gt;", "Anonymous User", "WhatsApp", "7.5", "Positive, 4", "Push", "Agent", "Files"):
        assert shown in answer.text
    assert "Comment" in answer.text
    assert f"{PLANTED} comment" not in answer.text


@pytest.mark.parametrize("close", [mark, erase])
def test_a_closed_conversation_is_not_linked_and_shows_kept_fields_and_its_request(
    chatbot: Chatbot, close: Callable[[Conversation], None]
) -> None:
    conversation = planted(chatbot, started_at=recently(), message_count=777_777)
    close(conversation)

    answer = member(chatbot).get(LOG)

    assert links_of(answer) == []
    assert PLANTED not in answer.text
    for shown in ("Deleted conversation", str(conversation.pk), str(DELETION), "7.5", "Positive, 4", "Push"):
        assert shown in answer.text
    assert ("Deletion in progress</span>" in answer.text) == (close is mark)
    for hidden in ("777777", "777,777", "Anonymous", f"{conversation.started_at:%H:%M:%S}", "Comment<"):
        assert hidden not in answer.text


def test_days_and_times_are_those_of_the_chatbots_zone(chatbot: Chatbot) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(timezone="Asia/Tokyo")
    conversation = ConversationFactory.create(
        chatbot=chatbot, started_at=datetime.fromisoformat("2026-10-31T15:30:00Z")
    )
    client = member(chatbot)

    answer = client.get(LOG, {"since": "2026-11-01", "until": "2026-11-01"})

    assert links_of(answer) == [page_of(conversation)]
    assert "2026-11-01 00:30" in answer.text
    assert "Asia/Tokyo" in answer.text
    assert links_of(client.get(LOG, {"until": "2026-10-31"})) == []


@pytest.mark.long(reason="a page for each filter", beyond=3)
@pytest.mark.parametrize(
    ("given", "fits"),
    [
        ({"channel": "whatsapp"}, True),
        ({"channel": "widget"}, False),
        ({"language": "fr"}, True),
        ({"language": "de"}, False),
        ({"score": "high", "csat": "positive", "handover": "no", "started": "bot", "uploads": "no"}, True),
        ({"started": "user"}, False),
        ({"uploads": "yes"}, False),
        ({"handover": "yes"}, False),
        ({"csat": "comment", "state": "live"}, True),
        ({"state": "deleted"}, False),
    ],
)
def test_filters_apply_and_active_ones_are_shown(chatbot: Chatbot, given: dict[str, str], fits: bool) -> None:
    conversation = planted(chatbot, started_at=recently(), language="fr")

    answer = member(chatbot).get(LOG, given)

    assert links_of(answer) == ([page_of(conversation)] if fits else [])
    assert answer.text.count("(remove)") == len(given)
    assert "Clear filters" in answer.text


def test_an_invalid_filter_is_reported_and_not_applied(chatbot: Chatbot) -> None:
    conversation = ConversationFactory.create(chatbot=chatbot, started_at=recently())
    given = {"channel": PLANTED, "language": PLANTED, "since": "0001-01-01", "until": "9999-12-31", "x": PLANTED}

    answer = member(chatbot).get(LOG, given)

    assert links_of(answer) == [page_of(conversation)]
    assert "were not applied" in answer.text
    assert PLANTED not in answer.text
    assert member(chatbot).get(LOG, {"cursor": PLANTED}).status_code == 404
    assert member(chatbot).get(LOG, {"cursor": "x" * 3_000}).status_code == 404


def test_an_empty_page_leads_to_the_last_day_with_conversations(chatbot: Chatbot) -> None:
    client = member(chatbot)
    assert "no conversations yet" in client.get(LOG).text
    ConversationFactory.create(chatbot=chatbot)  # on 1 November 2026 at noon

    answer = client.get(LOG, {"until": "2026-12-24", "since": "2026-12-24", "handover": "yes"})

    (link,) = re.findall(r'href="([^"]*)">Show 2026-11-01', answer.text)
    assert "handover=yes" in link
    assert "No conversations match these filters" in client.get(link.replace("&amp;", "&")).text


def test_pages_link_to_each_other_and_show_how_far_they_searched(
    chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtered_log, "PAGE_SIZE", 2)
    monkeypatch.setattr(filtered_log, "MAX_ENTRIES", 3)
    made = [
        ConversationFactory.create(chatbot=chatbot, started_at=recently(number), has_push=number > 3)
        for number in range(5)
    ]
    client = member(chatbot)

    def follow(answer: HttpResponse, label: str) -> HttpResponse:
        address = re.search(rf'href="([^"]*)"[^>]*>{label}</a>', answer.text)
        assert address
        return client.get(address[1].replace("&amp;", "&"))  # type: ignore[return-value]

    first = client.get(LOG)
    second = follow(first, "Older")
    assert links_of(second) == [page_of(made[2]), page_of(made[3])]
    assert links_of(follow(second, "Newer")) == [page_of(made[0]), page_of(made[1])]

    first = client.get(LOG, {"started": "bot"})
    assert "Searched back to" in first.text
    assert links_of(first) == []
    assert links_of(follow(first, "Search further")) == [page_of(made[4])]


def test_a_member_sees_their_chatbots_alone_and_can_switch_between_them(chatbot: Chatbot, neighbour: Chatbot) -> None:
    ours, theirs = (ConversationFactory.create(chatbot=one, started_at=recently()) for one in (chatbot, neighbour))
    user = staff(chatbot)
    client = client_of(user)

    answer = client.get(LOG)
    assert links_of(answer) == [page_of(ours)]
    assert neighbour.name not in answer.text
    for slug in (neighbour.slug, "nobodys"):
        assert client.get(LOG, {"chatbot": slug}).status_code == 404

    Membership.objects.create(chatbot=neighbour, user=user, role="viewer")
    client = client_of(user)
    assert neighbour.name in client.get(LOG).text
    assert links_of(client.get(LOG, {"chatbot": neighbour.slug})) == [page_of(theirs)]


def test_without_a_chatbot_the_page_explains_it(admin_client: Client) -> None:
    assert "no chatbots yet" in admin_client.get(LOG).text
