"""SECRET_KEY changes while staff work: what the old key signed stays valid as long as it is a fallback."""

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from chatbots.models import Chatbot
from tests.codes import log_in, set_up
from tests.console.settings.saving import assert_saved, save

PAGE = "/admin/password_change/"
OLD, NEW = "old " * 20, "new " * 20


@pytest.fixture
def client(user: User, settings: Settings) -> Client:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = OLD, []
    client = Client()
    log_in(client, user)
    return client


def test_staff_stay_logged_in(client: Client, settings: Settings) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]
    assert client.get(PAGE).status_code == 200
    # One page was enough to make it a session of the new key.
    settings.SECRET_KEY_FALLBACKS = []
    assert client.get(PAGE).status_code == 200


def test_without_the_fallback_they_are_logged_out(client: Client, settings: Settings) -> None:
    settings.SECRET_KEY = NEW
    assert client.get(PAGE).status_code == 302


def test_processes_with_the_old_and_the_new_key_serve_the_same_session(client: Client, settings: Settings) -> None:
    before = client.cookies["sessionid"].value
    for _ in range(2):
        # A call that the browser sent at the same time, still with the cookie of before.
        other = Client(headers={"cookie": f"sessionid={before}"})
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]
        assert client.get(PAGE).status_code == other.get(PAGE).status_code == 200
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = OLD, [NEW]
        assert client.get(PAGE).status_code == other.get(PAGE).status_code == 200


def test_another_password_ends_the_session_whatever_key_bound_it(client, user, settings) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]
    user.set_password("another password of many words")
    user.save()
    assert client.get(PAGE).status_code == 302


def test_a_log_in_that_waits_for_its_code_can_be_finished(user: User, settings: Settings) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = OLD, []
    app, client = set_up(user), Client()
    log_in(client, user)

    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]

    assert client.post("/admin/login/code/", {"code": app.next_code()})["Location"] == "/admin/"
    assert client.get(PAGE).status_code == 200


def test_a_form_that_shows_a_signed_number_can_be_sent(client: Client, chatbot: Chatbot, settings: Settings) -> None:
    page = save(client, chatbot, "retention", days="90")
    [token] = re.findall(r'name="shown" value="([^"]+)"', page.text)

    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]

    assert_saved(save(client, chatbot, "retention", days="90", shown=token, confirmed="0"), chatbot, "retention")


def test_own_code_signs_by_django_which_knows_the_fallbacks(settings: Settings) -> None:
    packages = ("accounts", "chatbots", "common", "compliance", "console", "conversations")
    for package in packages:
        for path in Path(settings.BASE_DIR, package).rglob("*.py"):
            assert not re.search(r"settings\.SECRET_KEY\b|salted_hmac|Signer\(key=", path.read_text()), path
