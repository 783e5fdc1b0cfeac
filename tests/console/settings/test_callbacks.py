"""The test callback that an officer sends from the settings."""

from collections.abc import Iterator

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from chatbots.models import ChangeLogEntry, Chatbot
from chatbots.operations.keys import create_callback_secret
from tests.console.settings.saving import assert_refused, assert_saved, save, shown
from tests.people import Role, member
from tests.receivers import Receiver, receiving

BUTTON = "Send a test callback"


@pytest.fixture
def receiver(chatbot: Chatbot) -> Iterator[Receiver]:
    with receiving() as one:
        Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=one.url("/path-5813"))
        yield one


def tried(client: Client, chatbot: Chatbot) -> str:
    answer = save(client, chatbot, "callbacks/test")
    assert_saved(answer, chatbot, "callbacks")
    return [str(message) for message in get_messages(answer.wsgi_request)][-1]


def test_an_officer_sends_one_and_sees_the_outcome_in_words(chatbot, receiver, officer) -> None:
    create_callback_secret(chatbot=chatbot, actor="command")
    receiver.answers = [204, 500]
    assert BUTTON in shown(officer, chatbot, "callbacks")
    assert "Test callback delivered: the receiver answered 204 after" in tried(officer, chatbot)
    assert tried(officer, chatbot) == "Test callback not delivered. The receiver answered 500."
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url="http://127.0.0.1:9/path-5813")
    assert tried(officer, chatbot) == (
        "Test callback not delivered. The receiver did not answer in time, or closed the connection."
    )
    assert receiver.events == ["callback.test"] * 2
    entries = ChangeLogEntry.objects.filter(event="callback.test_ended").order_by("pk")
    assert [entry.data["outcome"] for entry in entries] == ["delivered", "bad_status", "no_answer"]
    assert all(entry.actor.startswith("user:") for entry in entries)
    assert "5813" not in shown(officer, chatbot, "callbacks")


def test_what_is_missing_is_said(chatbot, receiver, officer) -> None:
    assert_refused(save(officer, chatbot, "callbacks/test"), "Have a callback secret created first")
    assert BUTTON not in shown(member(chatbot, Role.SUPPORT), chatbot, "callbacks")
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url="")
    assert BUTTON not in shown(officer, chatbot, "callbacks")
    assert_refused(save(officer, chatbot, "callbacks/test"), "no callback URL")
    assert receiver.received == []
