"""How chatters were identified, on the pages of requests and in previews."""

import pytest
from django.test import Client

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from console.templatetags.console import identified
from conversations.models import Identity
from tests.compliance.conftest import Drain
from tests.console.filing_pages import Filer
from tests.console.request_pages import text_of
from tests.factories import conversation_by, deletion_of, export_of
from tests.people import Role, member

Way = Identity.EstablishedBy

LEFT_OUT = "left out because the identity in them is weaker than this chatbot demands for exports"


@pytest.fixture
def support(chatbot: Chatbot) -> Client:
    for way in (Way.USER_CHANNEL, Way.USER_CHANNEL, Way.CUSTOM, Way.CUSTOM, Way.CUSTOM, Way.SIGNED):
        conversation_by(chatbot, {"alice": way})
    conversation_by(chatbot, {"bob": Way.CUSTOM})
    return member(chatbot, Role.SUPPORT)


def demand(chatbot: Chatbot, least: str) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(export_assurance=least)


def test_numbers_are_told_in_words_the_strongest_first() -> None:
    assert identified({"user_channel": 1, "platform": 3, "verified": 0}) == (
        "3 said by the platform, 1 claimed through the user channel"
    )
    assert identified({"user_channel": 0, "platform": 0, "verified": 1200}) == "1,200 verified by the client"
    assert identified({"user_channel": 0, "platform": 0, "verified": 0}) == identified(None) == ""


def test_a_preview_of_a_deletion_warns_of_what_was_only_claimed(chatbot: Chatbot, support: Client) -> None:
    demand(chatbot, "verified")
    text = Filer(support, chatbot).preview().text
    assert "In 2 of the conversations, the value came through the user channel only, where it can be forged." in text
    assert "1 verified by the client, 3 said by the platform, 2 claimed through the user channel" in text
    assert "left out" not in text
    of_bob = Filer(support, chatbot).preview("bob").text
    assert "1 said by the platform" in of_bob
    assert "claimed" not in of_bob


def test_a_preview_of_an_export_says_what_is_left_out(chatbot: Chatbot, support: Client) -> None:
    filer = Filer(support, chatbot)
    assert "weaker" not in filer.preview(action="export").text
    demand(chatbot, "verified")
    text = filer.preview(action="export").text
    assert f"5 conversations are {LEFT_OUT} (Verified only), or a" in text
    assert "can be forged" not in text
    of_bob = filer.preview("bob", action="export").text
    assert "1 conversation is left out" in of_bob
    assert "No data found" not in of_bob


def test_a_preview_of_an_export_warns_of_what_was_only_claimed_and_is_in_the_file(chatbot, support) -> None:
    conversation_by(chatbot, {"alice": Way.USER_CHANNEL, "carol": Way.SIGNED})
    warning = "of the conversations in the file, the value came through the user channel only"
    filer = Filer(support, chatbot)
    text = filer.preview(action="export").text
    assert f"In 2 {warning}, where it can be forged. Make sure that they are this person's." in text
    assert f"In 3 {warning}" in filer.preview(action="export", include_shared="on").text
    assert "can be forged" not in filer.preview("bob", action="export").text
    of_many = Filer(support, chatbot, "many/").preview_many("alice", "bob", action="export").text
    assert "2 only claimed" in of_many
    assert "Claimed values can be forged, and are in the files." in of_many


def test_a_preview_of_many_says_it_of_each_and_of_all(chatbot: Chatbot, support: Client) -> None:
    filer = Filer(support, chatbot, "many/")
    deletions = filer.preview_many("alice", "bob").text
    assert "1 verified by the client, 4 said by the platform, 2 claimed through the user channel" in deletions
    assert "2 only claimed" in deletions
    assert "can be forged, and are erased too" in deletions
    demand(chatbot, "verified")
    exports = filer.preview_many("alice", "bob", action="export").text
    assert "2 of the files leave out conversations" in exports
    assert "5 left out: weak identity" in exports
    assert "1 left out: weak identity" in exports
    assert "Values not found 0" in exports


@pytest.mark.django_db(transaction=True)
def test_a_requests_page_says_how_the_chatter_was_identified(chatbot: Chatbot, support: Client, drain: Drain) -> None:
    demand(chatbot, "platform")
    export, deletion = export_of(chatbot, "alice"), deletion_of(chatbot, "alice")
    empty = export_of(chatbot, "nobody")
    words = "1 verified by the client, 3 said by the platform, 2 claimed through the user channel"
    assert words not in text_of(support, deletion)
    drain()
    assert {one.status for one in ComplianceRequest.objects.all()} == {"completed"}
    of_export, of_deletion = text_of(support, export), text_of(support, deletion)
    assert words in of_export
    assert "2 conversations are not in the file" in of_export
    assert "messages. 2 conversations left out for a weak identity." in of_export
    assert words in of_deletion
    assert "not in the file" not in of_deletion
    assert "<dt>Identity</dt>" not in text_of(support, empty)


@pytest.mark.django_db(transaction=True)
def test_a_file_of_which_all_was_left_out_is_said_to_be_empty(chatbot, support, drain) -> None:
    demand(chatbot, "verified")
    request = export_of(chatbot, "bob")
    drain()
    text = text_of(support, request)
    assert "The file is empty: no identity is reliable enough." in text
    assert "1 conversation is not in the file" in text


def test_an_approval_says_what_was_only_claimed(chatbot: Chatbot, support: Client) -> None:
    held = deletion_of(
        chatbot, "alice", status="on_hold", hold_reason="awaiting_approval", held_at="2026-11-01T12:00Z"
    )
    assert "in 2 of them the value came through the user channel only" in text_of(member(chatbot, Role.OFFICER), held)
