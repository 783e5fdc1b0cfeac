"""A transcript's page: shown to permitted users, recorded in the change log, never shown for closed conversations."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
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
from conversations import messages
from conversations.models import Conversation, Message
from tests.conversations.closing import DELETION, PLANTED, erase, mark, planted, stored_file
from tests.factories import NOON, MessageFactory, VariableValueFactory, conversation_of
from tests.people import client_of, member, staff


def page_of(conversation: Conversation) -> str:
    return reverse("console:conversation", args=[conversation.pk])


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
        f"Sunday 1 November 2026 User, 11:00: {PLANTED} said {PLANTED}.jpg image/jpeg, 7 bytes "
        f"Download {PLANTED}.jpg User, 12:00: &lt;script&gt;alert(1)&lt;/script&gt; "
        "Bot, 18:00 Quick reply: שלום 😀 Monday 2 November 2026 Agent, 00:00 Event: agent_joined"
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
def test_a_closed_conversation_returns_410_and_shows_nothing(
    chatbot: Chatbot, close: Callable[[Conversation], None]
) -> None:
    conversation = planted(chatbot)
    close(conversation)

    answer = member(chatbot).get(page_of(conversation))

    assert answer.status_code == 410
    assert PLANTED not in answer.text
    assert str(DELETION) in answer.text
    assert ("was deleted on" in words_of(answer)) == (close is erase)
    assert opened() == []


def test_a_mark_between_the_query_and_the_lock_closes_the_transcript(
    chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = planted(chatbot)
    opened_as_it_is = messages.logged_view

    def marked_first(given: Conversation, *, actor: str) -> Any:
        Conversation.objects.filter(pk=given.pk).update(deletion_request_id=uuid4())
        return opened_as_it_is(given, actor=actor)

    monkeypatch.setattr(messages, "logged_view", marked_first)
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


def test_each_page_of_a_long_transcript_is_recorded_in_the_change_log(
    chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_it_takes_as_many_queries_for_many_messages_as_for_few(admin_client: Client, chatbot: Chatbot) -> None:
    conversation = conversation_of(chatbot, "42", messages=1)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert admin_client.get(page_of(conversation)).status_code == 200
        return len(captured)

    few = queries()
    Message.objects.bulk_create(
        MessageFactory.build(conversation=conversation, chatbot=chatbot, external_id=f"more {number}")
        for number in range(1_000)
    )
    for number in range(20):
        stored_file(conversation, object_key=f"uploads/more/{number}")
    assert queries() == few
    assert few <= 16
