"""The callback addresses that requests and chatbots may have."""

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from pytest_django import Settings

from chatbots.models import ApiKey, ChangeLogEntry, Chatbot
from chatbots.operations.keys import create_callback_secret
from common import network_guard
from compliance.models import ComplianceRequest
from tests.calls import ALICE, SigningCaller, TokenCaller, pointers, problem
from tests.commands import report
from tests.common.test_network_guard import PUBLIC, resolve_to
from tests.console.settings.saving import assert_refused, assert_saved, rules_of, save, shown
from tests.patches import failing
from tests.people import member

URL = "https://hooks.example.com/privacy-5813"


def forbid_name_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_guard, "addresses_of", failing(AssertionError("the name service was asked")))


@pytest.mark.parametrize("path", ["data-deletion", "data-export"])
def test_a_requests_address_is_stored_without_resolving_it(chatbot, signing, monkeypatch, path) -> None:
    forbid_name_lookups(monkeypatch)
    answer = signing.post(path, ALICE | {"callback_url": "HTTPS://Hooks.Example.com:443/Privacy%20x"})
    assert answer.status_code == 200
    assert "callback" not in answer.text
    assert ComplianceRequest.objects.get().callback_url == "https://hooks.example.com/Privacy%20x"


@pytest.mark.usefixtures("nothing_listed")
def test_an_unusable_address_or_one_with_the_value_is_refused(chatbot, signing, monkeypatch) -> None:
    forbid_name_lookups(monkeypatch)
    for url in [
        *(
            "https://hooks.example.com/alice-77",
            "https://alice-77.example.com/",
            "https://hooks.example.com/%61lice-77",
        ),
        *("https://127.0.0.1/", "https://[::ffff:10.0.0.1]/", "https://169.254.169.254/latest"),
        *("", "hooks.example.com", "ftp://hooks.example.com/", "https://", "https:///x", "http://hooks.example.com/"),
        *("https://u:p@hooks.example.com/", "https://hooks.example.com/?a=1", "https://hooks.example.com/#a"),
        *("https://hooks.example.com:0/", "https://hooks.example.com:99999/", "https://hooks.exämple.com/"),
        *(" https://hooks.example.com/", "https://hooks.example.com/a b", "https://hooks.example.com/%zz"),
        *("https://hooks.example.com/\n", "https://hooks.example.com\\@x/", "https://hooks_.-example.com/"),
        *("https://2130706433/", "https://[fe80::1%25a]/", f"https://hooks.example.com/{'x' * 500}"),
    ]:
        answer = signing.post("data-deletion", ALICE | {"callback_url": url})
        assert list(pointers(answer)) == ["/callback_url"]
        assert "alice" not in answer.text.lower()
        assert not ComplianceRequest.objects.exists()


def test_an_address_with_a_conversation_id_is_refused(chatbot: Chatbot, signing: SigningCaller) -> None:
    body = {"conversation_ids": ["c-1", "conv 2"], "callback_url": "https://hooks.example.com/conv%202"}
    assert list(pointers(signing.post("data-deletion", body))) == ["/callback_url"]
    answer = signing.post("data-deletion", body | {"callback_url": URL})
    assert answer.status_code == 200, answer.content


def test_plain_http_is_for_listed_networks(chatbot: Chatbot, signing: SigningCaller, settings: Settings) -> None:
    for url in ("http://127.0.0.1:9000/x", "http://receiver.internal/x"):
        assert signing.post("data-deletion", ALICE | {"callback_url": url}).status_code == 200
    assert pointers(signing.post("data-deletion", ALICE | {"callback_url": f"http://{PUBLIC}/x"}))


def test_without_a_signing_key_or_a_secret_no_address_is_taken(chatbot: Chatbot, neighbour: Chatbot) -> None:
    SigningCaller(neighbour)
    caller = TokenCaller(chatbot)
    body = ALICE | {"callback_url": URL}
    problem(caller.post("data-deletion", body), 409, "signing_key_missing")
    assert not ComplianceRequest.objects.exists()
    key = SigningCaller(chatbot).api_key
    assert caller.post("data-deletion", body).status_code == 200
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=key.created_at)
    problem(caller.post("data-export", body), 409, "signing_key_missing")
    create_callback_secret(chatbot=chatbot, actor="command")
    assert caller.post("data-export", body).status_code == 200


def test_the_commands_take_an_address(chatbot: Chatbot, signing: SigningCaller) -> None:
    for command in ("request_deletion", "request_export"):
        call_command(command, "acme", "member_id", "42", "--callback-url", URL)
    assert {request.callback_url for request in ComplianceRequest.objects.all()} == {URL}
    with pytest.raises(CommandError, match="must not contain"):
        call_command("request_deletion", "acme", "member_id", "5813", "--callback-url", URL)


def test_database_constraints_hold_the_rules_of_callbacks(chatbot: Chatbot) -> None:
    for url in ("https://u@hooks.example.com/", "https://hooks.example.com/?q", "https://hooks.example.com", "x"):
        with pytest.raises(IntegrityError), transaction.atomic():
            Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=url)


def test_a_chatbots_address_is_resolved_and_never_logged(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolve_to(monkeypatch, PUBLIC)
    shown = report("set_chatbot", "acme", "--callback-url", "https://Hooks.Example.com/secret")
    assert asked == ["hooks.example.com"]
    assert shown["callback_receiver"] == "https://hooks.example.com"
    assert "secret" not in str(shown)
    assert Chatbot.objects.get(pk=chatbot.pk).callback_url == "https://hooks.example.com/secret"
    assert ChangeLogEntry.objects.get().data == {"setting": "callback_url"}

    call_command("set_chatbot", "acme", "--callback-url", "")
    assert Chatbot.objects.get(pk=chatbot.pk).callback_url == ""
    made = report("create_chatbot", "other", "--name", "Other", "--callback-url", "https://hooks.example.com/x")
    assert made["callback_receiver"] == "https://hooks.example.com"


@pytest.mark.usefixtures("nothing_listed")
def test_a_chatbots_address_in_a_private_network_is_refused(chatbot, monkeypatch) -> None:
    resolve_to(monkeypatch, "10.0.0.1")
    with pytest.raises(CommandError, match="CALLBACK_PRIVATE_NETWORKS"):
        call_command("set_chatbot", "acme", "--callback-url", "https://hooks.example.com/")
    monkeypatch.undo()
    with pytest.raises(CommandError, match="does not resolve"):
        call_command("set_chatbot", "acme", "--callback-url", "https://nobody.invalid/")


def test_the_console_sets_it_and_shows_members_its_host_alone(admin_client, chatbot, monkeypatch) -> None:
    resolve_to(monkeypatch, PUBLIC)
    save(admin_client, chatbot, "rules", **rules_of(chatbot, callback_url="https://hooks.example.com/secret"))
    chatbot.refresh_from_db()
    assert chatbot.callback_url == "https://hooks.example.com/secret"
    monkeypatch.undo()
    # Unchanged, so not resolved.
    forbid_name_lookups(monkeypatch)
    assert_saved(save(admin_client, chatbot, "rules", **rules_of(chatbot, grace_minutes=5)), chatbot, "rules")
    wrong = rules_of(chatbot, callback_url="https://u@hooks.example.com/")
    assert_refused(save(admin_client, chatbot, "rules", **wrong), "no login")

    text = shown(member(chatbot), chatbot)
    assert "https://hooks.example.com" in text
    assert "hooks.example.com/secret" not in text


def test_a_preview_refuses_the_same_addresses_as_filing(chatbot: Chatbot) -> None:
    caller = TokenCaller(chatbot)
    problem(caller.post("preview", ALICE | {"callback_url": URL}), 409, "signing_key_missing")
    SigningCaller(chatbot)
    assert caller.post("preview", ALICE | {"callback_url": URL}).status_code == 200
    assert pointers(caller.post("preview", ALICE | {"callback_url": "https://x.example.com/alice-77"}))
