"""Changing a chatbot afterwards, by command."""

import json

import pytest
from django.core.management import CommandError

from chatbots.models import ChangeLogEntry, Chatbot, Variable
from tests import commands
from tests.factories import ChatbotFactory

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    return commands.run("set_chatbot", "acme", *words).out


def test_set_chatbot_changes_only_the_named_settings(chatbot: Chatbot, neighbour: Chatbot) -> None:
    words = (
        "--name Care --timezone Europe/Paris --enable-extracts --disable-compliance --four-eyes --grace-minutes 15"
        " --token-names-conversation"
        " --export-assurance verified"
    )
    shown = json.loads(run(*words.split(), "--variable", "custom:customer", "--uci", "customer", "--json"))
    assert shown == {
        "slug": "acme",
        "name": "Care",
        "timezone": "Europe/Paris",
        "compliance_enabled": False,
        "extracts_enabled": True,
        "max_conversations_per_deletion": 1000,
        "four_eyes": True,
        "require_action": False,
        "token_names_conversation": True,
        "grace_minutes": 15,
        "export_assurance": "verified",
        "callback_receiver": None,
        "variables": ["custom:member_id", "user_channel:plan", "custom:customer"],
        "uci": "customer",
    }
    neighbour.refresh_from_db()
    assert (neighbour.extracts_enabled, neighbour.compliance_enabled) == (False, True)
    assert {entry.chatbot for entry in ChangeLogEntry.objects.all()} == {chatbot}


def test_set_chatbot_changes_nothing_when_repeated(chatbot: Chatbot) -> None:
    words = ("--enable-extracts", "--variable", "custom:customer", "--uci", "customer")
    run(*words)
    before = ChangeLogEntry.objects.count()
    assert run(*words) == "Changed the chatbot acme.\n"
    assert ChangeLogEntry.objects.count() == before


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--timezone", "Europe/Pariss"], "Europe/Paris"),
        (["--uci", "nobody"], "no such variable"),
        (["--variable", "user_channel:member_id"], "custom variable already"),
        (["--variable", "custom: x"], "no space"),
        (["--variable", "member_id"], "CATEGORY:NAME"),
        (["--grace-minutes", "-1"], "grace_minutes"),
        (["--enable-extracts", "--disable-extracts"], "not allowed with"),
    ],
)
def test_set_chatbot_saves_all_settings_or_none(chatbot: Chatbot, words: list[str], advice: str) -> None:
    with pytest.raises(CommandError, match=advice):
        run("--name", "Other", "--variable", "custom:new", *words)
    chatbot.refresh_from_db()
    assert chatbot.name == "Acme"
    assert not Variable.objects.filter(name="new").exists()
    assert not ChangeLogEntry.objects.exists()


def test_extracts_require_a_bucket() -> None:
    ChatbotFactory.create(slug="acme")
    with pytest.raises(CommandError, match="extracts_enabled: Extracts need a bucket"):
        run("--enable-extracts")
    with pytest.raises(CommandError, match="Extracts need a bucket"):
        commands.run("create_chatbot", "other", "--name", "Other", "--enable-extracts")


def test_a_new_chatbot_can_have_extracts_at_once() -> None:
    words = "create_chatbot acme --name Acme --hosted-bucket --enable-extracts"
    assert commands.report(*words.split())["extracts_enabled"] is True
    assert Chatbot.objects.get().extracts_enabled
