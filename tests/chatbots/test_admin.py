"""The change log in the admin."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from chatbots import operations
from chatbots.models import ChangeLogEntry, Chatbot
from tests.people import client_of, member

LIST = "admin:chatbots_changelogentry_changelist"


def test_it_shows_the_list_to_a_superuser(admin_client: Client, chatbot: Chatbot) -> None:
    operations.designate_uci(chatbot=chatbot, name="plan", actor="command")

    answer = admin_client.get(reverse(LIST))

    assert answer.status_code == 200
    assert "acme" in answer.text


def test_it_shows_a_member_only_their_chatbots(chatbot: Chatbot, neighbour: Chatbot) -> None:
    for one in (chatbot, neighbour):
        operations.designate_uci(chatbot=one, name="plan", actor="command")

    answer = member(chatbot).get(reverse(LIST))

    assert "acme" in answer.text
    assert "neighbour" not in answer.text.lower()


def test_it_shows_nothing_to_staff_without_a_membership(chatbot: Chatbot) -> None:
    client = client_of(User.objects.create_user("staff", is_staff=True))

    assert client.get(reverse(LIST)).status_code == 403


def test_it_opens_an_entry_of_the_change_log_but_changes_none(admin_client: Client, chatbot: Chatbot) -> None:
    operations.designate_uci(chatbot=chatbot, name="plan", actor="command")
    entry = ChangeLogEntry.objects.get(event="variable.designated_uci")
    page = reverse("admin:chatbots_changelogentry_change", args=[entry.pk])

    assert admin_client.get(page).status_code == 200
    assert admin_client.post(page, {"event": "other.event"}).status_code == 403
    assert admin_client.post(reverse("admin:chatbots_changelogentry_delete", args=[entry.pk])).status_code == 403


@pytest.mark.parametrize(
    "filters", ["chatbot=acme", "event=variable.designated_uci", "chatbot=%00", "event=none.such"]
)
def test_it_filters_and_bears_what_no_filter_offers(admin_client: Client, chatbot: Chatbot, filters: str) -> None:
    operations.designate_uci(chatbot=chatbot, name="plan", actor="command")

    answer = admin_client.get(reverse("admin:chatbots_changelogentry_changelist") + f"?{filters}")

    assert answer.status_code == 200
    found = "1 change log entry" in answer.text
    assert found == ("acme" in filters or "designated" in filters)
