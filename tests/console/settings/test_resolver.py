"""The resolver in the settings, and the call that an officer tries."""

from collections.abc import Iterator

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from playwright.sync_api import expect
from pytest_django.live_server_helper import LiveServer

from chatbots.models import ChangeLogEntry, Chatbot
from chatbots.operations.chatbots import designate_uci
from compliance.lookups import trial
from compliance.lookups.queue import look_up
from conversations.models import Conversation, IdentityLookup
from tests import hostile
from tests.browser import browser, in_a_browser, is_easy_to_use, signed_in, stays_at_home
from tests.hostile import behaving
from tests.looking_up import begin, resolver_of, send, with_resolver
from tests.people import Role, staff
from tests.receivers import Receiver, receiving

SETTINGS = "/admin/settings/acme/"
PAGE = f"{SETTINGS}identity/"


@pytest.fixture
def receiver(chatbot: Chatbot) -> Iterator[Receiver]:
    with receiving(body=b'{"value": "alice-77"}') as one:
        with_resolver(chatbot, one.url("/who-5813"))
        yield one


def shown(client: Client) -> str:
    text = client.get(PAGE).content.decode()
    start = text.index('id="resolver"')
    return text[start : text.index("</section>", start)]


def tried(client: Client, value: str = "token-5813") -> str:
    response = client.post(f"{SETTINGS}resolver/try/", {"value_0": value})
    if response.status_code == 302:
        return " ".join(str(message) for message in get_messages(response.wsgi_request))
    return response.content.decode()


def test_it_shows_state_and_last_error(chatbot: Chatbot, receiver: Receiver, officer: Client) -> None:
    receiver.answers = [404, 500]
    begin(chatbot, "c-1")
    look_up()
    begin(chatbot, "c-2")
    look_up()
    text = shown(officer)
    assert "On</span>" in text
    assert "Not known there: 1" in text
    assert "neither 200 nor 404" in text
    assert "Failing since" in text
    for secret in ("5813", "127.0.0.1", "c-1"):
        assert secret not in text
    designate_uci(chatbot=chatbot, name="plan", actor="test")
    text = shown(officer)
    assert "Another variable has become the UCI" in text or "no custom variable" in text
    assert "Try it" not in text


def test_without_a_resolver_it_says_so(chatbot: Chatbot, officer: Client) -> None:
    assert "None</span>" in shown(officer)
    assert "Try it" not in shown(officer)
    assert "is off" in tried(officer)


@pytest.mark.long(reason="a page for each outcome", beyond=2)
@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b'{"value": "alice-77"}', "Answered with a value."),
        (200, b'{"value": null}', "Answered null: not known."),
        (404, b"", "Answered 404: not known."),
        (500, b"alice-77", "Answered 500."),
        (200, b"alice-77", "Answered 200, but not with JSON."),
        (200, b'{"value": 77}', "Answered 200, with neither a string nor null at the pointer."),
    ],
)
def test_an_officer_tries_it_and_sees_the_outcome_in_words(receiver, officer, status, body, words) -> None:
    receiver.answers, receiver.body = [status], body
    assert tried(officer) == words
    [received] = receiver.received
    assert received.payload == {
        "type": "identity.lookup",
        "conversation_id": trial.CONVERSATION_ID,
        "variables": {"session": "token-5813"},
    }
    entries = list(ChangeLogEntry.objects.filter(event__startswith="resolver.t").order_by("pk"))
    assert [entry.event for entry in entries] == ["resolver.tried", "resolver.trial_ended"]
    assert all(entry.actor.startswith("user:") for entry in entries)
    assert "5813" not in str([entry.data for entry in entries])
    assert "alice" not in str([entry.data for entry in entries])
    assert not IdentityLookup.objects.exists()
    assert not Conversation.objects.exists()


def test_no_answer_in_time_is_said_too(chatbot: Chatbot, officer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.outbound.LOOKUP_SECONDS", 0.3)
    with behaving(hostile.says_nothing) as server:
        with_resolver(chatbot, server.url() + "/who")
        assert tried(officer) == "No answer in 5 seconds."


def test_a_private_address_is_refused(chatbot, receiver, officer, settings) -> None:
    settings.CALLBACK_PRIVATE_NETWORKS = ()
    assert tried(officer).startswith("Address refused")
    assert receiver.received == []


def test_it_can_be_tried_only_so_often(chatbot, neighbour, receiver, officer) -> None:
    for owner in (chatbot, neighbour):
        ChangeLogEntry.objects.bulk_create(
            ChangeLogEntry(chatbot=owner, event="resolver.tried", actor="test", data={})
            for _ in range(trial.MOST_AN_HOUR - 1)
        )
    assert tried(officer) == "Answered with a value."
    assert "10 times an hour" in tried(officer)
    assert len(receiver.received) == 1


def test_a_variable_that_was_added_since_is_asked_for(chatbot: Chatbot, receiver: Receiver, officer: Client) -> None:
    with_resolver(chatbot, receiver.url(), send=["session", "plan"])
    assert "This field is required" in tried(officer)
    assert resolver_of(chatbot).called_at is None
    assert receiver.received == []


@in_a_browser
def test_it_is_tried_with_ease(live_server: LiveServer, chatbot: Chatbot, receiver: Receiver) -> None:
    send(chatbot, "c-1")
    receiver.answers = [500, 200]
    look_up()
    with browser() as chromium:
        watched = signed_in(chromium, live_server.url, staff(chatbot, Role.OFFICER), PAGE)
        page = watched.page
        section = page.locator("#resolver")
        expect(section).to_contain_text("Failing since")
        section.locator("summary", has_text="Try it").click()
        is_easy_to_use(page)
        section.get_by_label("session").fill("token-5813")
        section.get_by_role("button", name="Try it").click()
        expect(section.locator(".messages")).to_contain_text("Answered with a value.")
        assert "alice-77" not in page.content()
        assert "5813" not in page.content()
        stays_at_home(watched, live_server.url)
