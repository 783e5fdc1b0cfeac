"""The test callback that an officer sends from the settings."""

from collections.abc import Iterator

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from playwright.sync_api import expect

from chatbots.models import ChangeLogEntry, Chatbot
from chatbots.operations.keys import create_callback_secret
from tests.browser import browser, in_a_browser, is_easy_to_use, signed_in, stays_at_home
from tests.console.settings.saving import assert_refused, assert_saved, page_of, save, shown
from tests.people import Role, member, staff
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


@in_a_browser
def test_it_is_sent_with_ease(live_server, chatbot, receiver) -> None:
    create_callback_secret(chatbot=chatbot, actor="command")
    receiver.answers = [401]
    with browser() as chromium:
        watched = signed_in(chromium, live_server.url, staff(chatbot, Role.OFFICER), page_of(chatbot, "callbacks"))
        page = watched.page
        is_easy_to_use(page)
        page.locator("#callbacks").get_by_role("button", name=BUTTON).click()
        expect(page.locator(".messages")).to_contain_text("The receiver answered 401.")
        is_easy_to_use(page)
        stays_at_home(watched, live_server.url)
