"""The commands that set a chatbot up, as an operator and a script use them."""

import io
import json
import sys

import pytest
from django.core.management import CommandError

from chatbots.authentication import secret_binding
from chatbots.models import ApiKey, ChangeLogEntry, Chatbot, Variable
from common.crypto import decrypt
from tests.calls import ALICE, Caller, SigningCaller
from tests.commands import Ran, report, run
from tests.factories import ChatbotFactory

pytestmark = pytest.mark.django_db


def create_acme(*words: str) -> Ran:
    return run("create_chatbot", "acme", "--name", "Acme", *words)


def kept_secret() -> str:
    key = ApiKey.objects.get()
    return decrypt(key.secret_encrypted, bound_to=secret_binding(key.prefix))


def test_create_chatbot_prints_one_json_document():
    words = "--timezone Europe/Paris --variable custom:member_id --variable user_channel:plan --uci member_id"
    _, out, err = create_acme(
        *words.split(), "--enable-compliance", "--hosted-bucket", "--csv-dialect=excel_comma", "--json"
    )
    assert json.loads(out) == {
        "slug": "acme",
        "name": "Acme",
        "timezone": "Europe/Paris",
        "variables": ["custom:member_id", "user_channel:plan"],
        "uci": "member_id",
        "compliance_enabled": True,
        "hosted_bucket": True,
        "extracts_enabled": False,
        "export_assurance": "any",
        "csv_dialect": "excel_comma",
        "export_formats": "csv",
        "deadline": "gdpr",
        "callback_receiver": None,
    }
    assert err == ""
    assert Variable.objects.get(is_uci=True).name == "member_id"
    assert list(ChangeLogEntry.objects.order_by("id").values_list("event", flat=True)) == [
        *("chatbot.created", "variable.created", "variable.created", "variable.designated_uci", "bucket.set")
    ]


def test_create_chatbot_explains_errors() -> None:
    for words, advice in [
        (["--uci", "member_id"], "uci: The UCI 'member_id' is not among the variables"),
        (["--variable", "member_id"], "CATEGORY:NAME"),
    ]:
        with pytest.raises(CommandError, match=advice):
            create_acme(*words)
        assert not Chatbot.objects.exists()


def test_a_message_without_a_field_is_printed_alone():
    with pytest.raises(CommandError, match=r"\AThis slug names a folder"):
        run("create_chatbot", "uploads", "--name", "Acme")


def test_create_api_key_gives_a_token_that_can_call():
    create_acme("--variable", "custom:member_id", "--uci", "member_id", "--enable-compliance")
    _, out, err = run(
        *("create_api_key", "acme", "--type", "token", "--label", "backend", "--scope", "deletions:write", "--json"),
        *("--rate-limit", "50"),
    )
    made = json.loads(out)
    assert made.keys() == {"type", "prefix", "secret", "chatbot", "label", "scopes", "rate_limit"}
    assert (made["type"], made["chatbot"], made["scopes"]) == ("token", "acme", ["deletions:write"])
    assert err == ""
    answer = Caller(Chatbot.objects.get()).post("data-deletion", ALICE, Authorization=f"Bearer {made['secret']}")
    assert (answer.status_code, answer.headers["RateLimit-Limit"]) == (200, "50")


def test_create_api_key_gives_a_signing_secret_that_can_sign():
    create_acme("--variable", "custom:member_id", "--uci", "member_id", "--enable-compliance")
    _, out, err = run("create_api_key", "acme", "--type", "signing", "--label", "CRM")
    assert "not shown again" in err
    caller = SigningCaller(Chatbot.objects.get(), secret="another secret")
    caller.secret = out.splitlines()[-1]
    assert caller.post("data-deletion", ALICE).status_code == 200


def test_create_api_key_takes_over_a_secret_from_a_file(tmp_path):
    create_acme()
    file = tmp_path / "secret"
    file.write_text("a_secure_secret\r\n")
    _, out, err = run(
        *("create_api_key", "acme", "--type", "signing", "--label", "CRM", "--secret-file", str(file), "--json")
    )
    assert json.loads(out)["secret"] is None
    assert kept_secret() == "a_secure_secret"
    assert "a_secure_secret" not in out + err


def test_create_api_key_takes_over_a_secret_from_standard_input(monkeypatch):
    create_acme()
    monkeypatch.setattr(sys, "stdin", io.StringIO("a secret with spaces \n"))
    out = run("create_api_key", "acme", "--type", "signing", "--label", "CRM", "--secret-file", "-").out
    assert kept_secret() == "a secret with spaces "
    assert "a secret" not in out


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["nobody", "--type", "token", "--label", "x"], "Known: acme"),
        (["acme", "--type", "token", "--label", "x"], "scopes: Give a token key at least one of"),
        (["acme", "--type", "token", "--label", "x", "--scope", "all"], "invalid choice"),
        (["acme", "--type", "signing", "--label", "x", "--secret-file", "/no/such/file"], "Cannot read the secret"),
    ],
)
def test_create_api_key_explains_errors(words, advice):
    create_acme()
    with pytest.raises(CommandError, match=advice):
        run("create_api_key", *words)
    assert not ApiKey.objects.exists()


def set_acme(*words: str) -> str:
    return run("set_chatbot", "acme", *words).out


def test_set_chatbot_changes_only_the_named_settings(chatbot: Chatbot, neighbour: Chatbot) -> None:
    words = (
        "--name Care --timezone Europe/Paris --enable-extracts --disable-compliance --four-eyes --grace-minutes 15"
        " --token-names-conversation"
        " --export-assurance verified --csv-dialect excel_semicolon --export-formats html,csv --deadline 21"
    )
    shown = json.loads(set_acme(*words.split(), "--variable", "custom:customer", "--uci", "customer", "--json"))
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
        "csv_dialect": "excel_semicolon",
        "export_formats": "csv html",
        "deadline": "21",
        "callback_receiver": None,
        "variables": ["custom:member_id", "user_channel:plan", "custom:customer"],
        "uci": "customer",
    }
    neighbour.refresh_from_db()
    assert (neighbour.extracts_enabled, neighbour.compliance_enabled) == (False, True)
    assert {entry.chatbot for entry in ChangeLogEntry.objects.all()} == {chatbot}


def test_set_chatbot_changes_nothing_when_repeated(chatbot: Chatbot) -> None:
    words = ("--enable-extracts", "--variable", "custom:customer", "--uci", "customer")
    set_acme(*words)
    before = ChangeLogEntry.objects.count()
    assert set_acme(*words) == "Changed the chatbot acme.\n"
    assert ChangeLogEntry.objects.count() == before


def test_set_chatbot_saves_all_settings_or_none(chatbot) -> None:
    for words, advice in [
        (["--timezone", "Europe/Pariss"], "Europe/Paris"),
        (["--uci", "nobody"], "no such variable"),
        (["--variable", "user_channel:member_id"], "custom variable already"),
        (["--grace-minutes", "-1"], "grace_minutes"),
        *((["--deadline", rule], "deadline: Use gdpr, ccpa, or a number") for rule in ("0", "366", "month", "030")),
        (["--enable-extracts", "--disable-extracts"], "not allowed with"),
    ]:
        with pytest.raises(CommandError, match=advice):
            set_acme("--name", "Other", "--variable", "custom:new", *words)
        chatbot.refresh_from_db()
        assert chatbot.name == "Acme"
        assert not Variable.objects.filter(name="new").exists()
        assert not ChangeLogEntry.objects.exists()


def test_extracts_require_a_bucket() -> None:
    ChatbotFactory.create(slug="acme")
    with pytest.raises(CommandError, match="extracts_enabled: Extracts need a bucket"):
        set_acme("--enable-extracts")
    with pytest.raises(CommandError, match="Extracts need a bucket"):
        run("create_chatbot", "other", "--name", "Other", "--enable-extracts")
    report("create_chatbot", "other", "--name", "Other", "--enable-extracts", "--hosted-bucket")
    assert Chatbot.objects.get(slug="other").extracts_enabled
