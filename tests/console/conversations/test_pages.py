"""The pages of the log and of a transcript: who sees them, filters, what is left of deleted ones, the change log."""

import re
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection, connections
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot, Membership
from console.conversations import transcript_page
from conversations import filtered_log, messages
from conversations.models import Conversation, Message
from tests.conversations.closing import DELETION, PLANTED, erase, mark, planted, stored_file
from tests.factories import (
    NOON,
    ConversationFactory,
    MessageFactory,
    VariableValueFactory,
    conversation_of,
    redaction_of,
)
from tests.patches import before
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
def test_a_closed_conversation_is_not_linked_and_shows_kept_fields_and_its_request(chatbot, close) -> None:
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


def test_filters_apply_and_active_ones_are_shown(chatbot: Chatbot) -> None:
    conversation, client = planted(chatbot, started_at=recently(), language="fr"), member(chatbot)
    filters: list[tuple[dict[str, str], bool]] = [
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
    ]
    for given, fits in filters:
        answer = client.get(LOG, given)
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


def test_an_empty_page_leads_to_the_last_day_with_conversations(chatbot: Chatbot, neighbour: Chatbot) -> None:
    client = member(chatbot)
    ConversationFactory.create(chatbot=neighbour, started_at=recently())
    assert "no conversations yet" in client.get(LOG).text
    ConversationFactory.create(chatbot=chatbot)  # on 1 November 2026 at noon

    answer = client.get(LOG, {"until": "2026-12-24", "since": "2026-12-24", "handover": "yes"})

    (link,) = re.findall(r'href="([^"]*)">Show 2026-11-01', answer.text)
    assert "handover=yes" in link
    assert "No conversations match these filters" in client.get(link.replace("&amp;", "&")).text


def test_pages_link_to_each_other_and_show_how_far_they_searched(chatbot, monkeypatch) -> None:
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


def opened() -> list[tuple[str, dict[str, int]]]:
    entries = ChangeLogEntry.objects.filter(event="conversation.opened").order_by("id")
    return [(entry.actor, entry.data) for entry in entries]


def words_of(answer: HttpResponse) -> str:
    """The text of the page: no tags, single spaces."""
    return " ".join(re.sub(r"<[^>]*>", "", answer.text).split())


def test_a_transcript_shows_messages_in_order_and_all_stored_fields(chatbot: Chatbot) -> None:
    conversation = planted(chatbot, language="fr", messages=1)
    Message.objects.filter(conversation=conversation).update(sent_at=NOON - timedelta(hours=1))
    messages = [
        ("user", "text", "<script>alert(1)</script>"),
        ("bot", "quick_reply", "שלום 😀"),
        ("agent", "event", "agent_joined"),
    ]
    for number, (sender, kind, text) in enumerate(messages):
        MessageFactory.create(
            conversation=conversation, sender=sender, kind=kind, text=text, sent_at=NOON + timedelta(hours=6 * number)
        )
    VariableValueFactory.create(conversation=conversation)
    user = staff(chatbot, Membership.Role.SUPPORT)

    answer = client_of(user).get(page_of(conversation))

    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    words = words_of(answer)
    spoken = (
        f"Sunday 2026-11-01 User, 11:00: {PLANTED} said {PLANTED}.jpg image/jpeg, 7 bytes "
        f"Download {PLANTED}.jpg User, 12:00: &lt;script&gt;alert(1)&lt;/script&gt; "
        "Bot, 18:00 Quick reply: שלום 😀 Monday 2026-11-02 Agent, 00:00 Event: agent_joined"
    )
    assert spoken in words
    for held in (f"{PLANTED} 0", f"{PLANTED} name", f"{PLANTED} comment", f"member_id{PLANTED} value 0", "plangold"):
        assert held in words.replace("member_id ", "member_id").replace("plan ", "plan")
    assert f"{PLANTED}.jpg" in words
    title = re.search("<title>(.*)</title>", answer.text)
    assert title
    assert PLANTED not in title[1]
    assert opened() == [(f"user:{user.pk}", {"conversation": conversation.pk})]
    assert PLANTED not in str(opened())


@pytest.mark.parametrize("close", [mark, erase])
def test_a_closed_conversation_returns_410_and_shows_nothing(chatbot, close) -> None:
    conversation = planted(chatbot)
    close(conversation)

    answer = member(chatbot).get(page_of(conversation))

    assert answer.status_code == 410
    assert PLANTED not in answer.text
    assert str(DELETION) in answer.text
    assert ("was deleted on" in words_of(answer)) == (close is erase)
    assert opened() == []


def test_a_mark_between_the_query_and_the_lock_closes_the_transcript(chatbot, monkeypatch) -> None:
    conversation = planted(chatbot)
    before(
        monkeypatch,
        messages,
        "logged_view",
        lambda given, **__: Conversation.objects.filter(pk=given.pk).update(deletion_request_id=uuid4()),
    )
    answer = member(chatbot).get(page_of(conversation))
    assert answer.status_code == 410
    assert PLANTED not in answer.text
    assert opened() == []


@pytest.mark.django_db(transaction=True)
def test_a_mark_waits_until_the_transcript_is_read(chatbot: Chatbot) -> None:
    conversation = planted(chatbot)
    other = connections.create_connection("default")
    with messages.logged_view(conversation, actor="user:1"), other.cursor() as cursor:
        cursor.execute("SET lock_timeout = '50ms'")
        with pytest.raises(Exception, match="lock timeout"):
            cursor.execute(
                "UPDATE conversations_conversation SET deletion_request_id = %s WHERE id = %s",
                [uuid4(), conversation.pk],
            )
    other.close()
    mark(conversation)
    with pytest.raises(messages.ConversationClosed), messages.logged_view(conversation, actor="user:1"):
        pass
    assert len(opened()) == 1


def test_a_transcript_outside_the_users_chatbots_is_not_found(chatbot: Chatbot, neighbour: Chatbot) -> None:
    theirs = planted(neighbour)
    client = member(chatbot)
    closed = planted(neighbour, 1)
    mark(closed)
    for number in (theirs.pk, closed.pk, 10**30):
        assert client.get(reverse("console:conversation", args=[number])).status_code == 404
    assert client.post(page_of(theirs)).status_code == 405
    assert "/login/" in Client().get(page_of(theirs)).headers["Location"]
    assert opened() == []


def test_each_page_of_a_long_transcript_is_recorded_in_the_change_log(chatbot, monkeypatch) -> None:
    monkeypatch.setattr(transcript_page, "MESSAGES", 2)
    conversation = conversation_of(chatbot, "42", messages=0)
    for number in range(5):
        MessageFactory.create(
            conversation=conversation, text=f"line {number}", sent_at=NOON + timedelta(minutes=number)
        )
    client = member(chatbot)

    def lines_of(answer: HttpResponse) -> list[str]:
        return re.findall(r"line \d", answer.text)

    first = client.get(page_of(conversation))
    assert lines_of(first) == ["line 0", "line 1"]
    later = re.search(r'href="([^"]*)" rel="next"', first.text)
    assert later
    assert lines_of(client.get(later[1])) == ["line 2", "line 3"]
    newest = client.get(page_of(conversation), {"at": "end"})
    assert lines_of(newest) == ["line 3", "line 4"]
    assert 'rel="next"' not in newest.text
    earlier = re.search(r'href="([^"]*)" rel="prev"', newest.text)
    assert earlier
    assert lines_of(client.get(earlier[1].replace("&amp;", "&"))) == ["line 1", "line 2"]
    assert len(opened()) == 4
    assert client.get(page_of(conversation), {"cursor": "x"}).status_code == 404
    assert len(opened()) == 4


def test_long_texts_are_folded_and_whole(chatbot: Chatbot) -> None:
    conversation = conversation_of(chatbot, "42", messages=0)
    text = "word " * 19_999 + "final"
    MessageFactory.create(conversation=conversation, text=text)
    answer = member(chatbot).get(page_of(conversation))
    assert "Show all 100000 characters" in answer.text
    shown = re.findall(r'<p class="text" dir="auto">([^<]*)</p>', answer.text)
    assert "".join(shown) == text
    assert len(shown[0]) < 2_000


def test_variables_that_have_expired_are_not_shown(chatbot: Chatbot) -> None:
    conversation = conversation_of(chatbot, "42")
    VariableValueFactory.create(
        conversation=conversation, value="platinum", expires_at=timezone.now() - timedelta(minutes=1)
    )
    assert "platinum" not in member(chatbot).get(page_of(conversation)).text


def test_a_transcript_takes_as_many_queries_for_many_messages_as_for_few(admin_client, chatbot) -> None:
    conversation = conversation_of(chatbot, "42", messages=1)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert admin_client.get(page_of(conversation)).status_code == 200
        return len(captured)

    few = queries()
    for _ in range(3):
        redaction_of(conversation)
    Message.objects.bulk_create(
        MessageFactory.build(conversation=conversation, chatbot=chatbot, external_id=f"more {number}")
        for number in range(1_000)
    )
    for number in range(20):
        stored_file(conversation, object_key=f"uploads/more/{number}")
    assert queries() == few
    assert few <= 16
