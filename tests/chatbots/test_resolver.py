"""Setting a chatbot's resolver, by command."""

import json
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import IntegrityError, transaction

from chatbots.models import ChangeLogEntry, Chatbot, Resolver, Variable
from chatbots.operations.chatbots import NewVariable, add_variable, designate_uci
from chatbots.operations.keys import create_callback_secret
from tests import commands

pytestmark = pytest.mark.django_db

URL = "http://127.0.0.1:9000/who-5813"


@pytest.fixture(autouse=True)
def _can_sign(chatbot: Chatbot) -> None:
    create_callback_secret(chatbot=chatbot, actor="test")
    for category, name in (("user_channel", "session"), ("custom", "order"), ("system", "browser")):
        add_variable(chatbot=chatbot, variable=NewVariable(category, name), actor="test")


def run(*words: str) -> str:
    return commands.run("set_resolver", "acme", *words).out


def entries() -> list[tuple[str, dict[str, Any]]]:
    about = ChangeLogEntry.objects.filter(event__startswith="resolver.").order_by("pk")
    return list(about.values_list("event", "data"))


def test_set_resolver_sets_and_removes_it(chatbot: Chatbot, neighbour: Chatbot) -> None:
    assert json.loads(run("--url", URL, "--send", "session", "order", "--session-token", "session", "--json")) == {
        "slug": "acme",
        "resolver": {
            "receiver": "http://127.0.0.1:9000",
            "send": ["session", "order"],
            "session_token": "session",
            "pointer": "/value",
        },
    }
    resolver = Resolver.objects.get()
    assert (resolver.chatbot, resolver.url, resolver.is_on) == (chatbot, URL, True)
    assert "not looked up" in run("--off")
    assert not Resolver.objects.exists()
    run("--off")
    assert entries() == [
        ("resolver.set", {"variables": "session, order", "session_token": "session"}),
        ("resolver.removed", {}),
    ]


def test_setting_it_again_replaces_it(chatbot: Chatbot) -> None:
    run("--url", URL, "--send", "plan", "--session-token", "plan")
    run("--url", URL + "/2", "--send", "plan", "--send", "order", "--pointer", "/a~1b/0")
    resolver = Resolver.objects.get()
    assert (resolver.url, resolver.pointer, resolver.session_token) == (URL + "/2", "/a~1b/0", None)
    assert list(resolver.sent().values()) == ["plan", "order"]


def test_what_cannot_be_is_refused_with_advice(chatbot: Chatbot) -> None:
    for words, advice in (
        ("--url ftp://example.com/x --send plan", "url"),
        ("--url https://example.com/x?secret=1 --send plan", "no query"),
        ("--url https://10.0.0.1/x --send plan", "private network"),
        (f"--url {URL}", "1 to 10 variables"),
        (f"--url {URL} --send nobody", "no variable 'nobody'"),
        (f"--url {URL} --send member_id", "is or was the UCI"),
        (f"--url {URL} --send browser", "system variable"),
        (f"--url {URL} --send plan --session-token session", "that is sent"),
        (f"--url {URL} --send order --session-token order", "user-channel"),
        (f"--url {URL} --send plan --pointer value", "JSON Pointer"),
        (f"--url {URL} --send plan --pointer /a~2b", "JSON Pointer"),
        (f"--url {URL} --off", "not allowed with"),
        ("--off --send plan", "--off alone"),
        ("--send plan", "required"),
    ):
        with pytest.raises(CommandError, match=advice):
            run(*words.split())
    assert not Resolver.objects.exists()


def test_look_ups_need_something_that_signs_them(chatbot: Chatbot) -> None:
    chatbot.callback_secrets.all().delete()
    with pytest.raises(CommandError, match="callback secret"):
        run("--url", URL, "--send", "plan")


def test_the_uci_must_be_a_custom_variable(chatbot: Chatbot) -> None:
    designate_uci(chatbot=chatbot, name="session", actor="test")
    with pytest.raises(CommandError, match="custom variable as the UCI"):
        run("--url", URL, "--send", "plan")


@pytest.mark.parametrize(("uci", "reason"), [("order", "uci_changed"), ("session", "uci_not_custom")])
def test_another_uci_turns_it_off(chatbot: Chatbot, uci: str, reason: str) -> None:
    run("--url", URL, "--send", "plan")
    designate_uci(chatbot=chatbot, name=uci, actor="test")
    assert Resolver.objects.get().off_reason == reason
    assert entries()[-1] == ("resolver.stopped", {"reason": reason})
    if uci == "order":
        run("--url", URL, "--send", "plan")
        assert Resolver.objects.get().is_on


def test_nothing_but_a_canonical_address_and_pointer_can_be_stored(chatbot: Chatbot) -> None:
    plan = Variable.objects.get(chatbot=chatbot, name="plan")
    good = {"chatbot": chatbot, "url": URL, "variable_ids": [plan.pk]}
    changes: list[dict[str, Any]] = [
        {"url": "https://a@b/"},
        {"url": ""},
        {"pointer": "a"},
        {"variable_ids": []},
        {"off_reason": "x"},
    ]
    for bad in changes:
        with pytest.raises(IntegrityError), transaction.atomic():
            Resolver.objects.create(**good | bad)


@pytest.mark.one_postgresql(reason="a foreign key that is dropped")
def test_a_session_token_is_a_variable_of_the_same_chatbot(chatbot: Chatbot, neighbour: Chatbot) -> None:
    theirs = Variable.objects.get(chatbot=neighbour, name="plan")
    with pytest.raises(IntegrityError):
        Resolver.objects.create(chatbot=chatbot, url=URL, variable_ids=[theirs.pk], session_token=theirs)
