"""Setting up chatbots: stored values and refusals, which store nothing."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chatbots.authentication import token_digest
from chatbots.models import ApiKey, ChangeLogEntry, Chatbot, Variable
from chatbots.operations.chatbots import NewVariable, add_variable, change_chatbot, create_chatbot, designate_uci
from chatbots.operations.keys import create_api_key
from common.crypto import digest
from tests.factories import ApiKeyFactory, ChatbotFactory, VariableFactory

pytestmark = pytest.mark.django_db

MEMBER_ID = NewVariable("custom", "member_id")


def create(**changes: Any) -> Chatbot:
    return create_chatbot(**{"slug": "acme", "name": "Acme", "actor": "command"} | changes)


def refused(**changes: Any) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as caught:
        create(**changes)
    return caught.value.message_dict


def events() -> list[str]:
    return list(ChangeLogEntry.objects.order_by("id").values_list("event", flat=True))


def test_a_slug_of_another_folder_is_refused_in_any_case() -> None:
    """Some stores take both for one in a policy, so a client's credentials would read the other."""
    create(slug="taken")
    for slug in ("uploads", "erasure_ledger"):
        assert "names a folder" in str(refused(slug=slug))
    for slug in ("TAKEN", "Taken", "Uploads", "ERASURE_LEDGER"):
        assert "in case only" in str(refused(slug=slug))
    assert Chatbot.objects.count() == 1


def test_invalid_settings_are_refused_with_advice() -> None:
    ChatbotFactory.create(slug="taken")
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"slug": "taken"}, "slug", "Choose another slug"),
        ({"slug": "not a slug"}, "slug", "letters, numbers"),
        ({"slug": ""}, "slug", "blank"),
        ({"slug": "x" * 65}, "slug", "at most 64"),
        ({"name": ""}, "name", "blank"),
        ({"timezone": "Europe/Pariss"}, "timezone", "Europe/Paris?"),
        ({"timezone": "../../etc/passwd"}, "timezone", "IANA"),
        ({"timezone": ""}, "timezone", "blank"),
        ({"variables": [NewVariable("costum", "a")]}, "variables", "custom, user_channel, system"),
        ({"variables": [NewVariable("user_channel", "Plan")]}, "variables", "lower-case"),
        ({"variables": [NewVariable("user_channel", "plan\n")]}, "variables", "printable"),
        ({"variables": [NewVariable("custom", "")]}, "variables", "1 to 128"),
        ({"variables": [NewVariable("custom", " a")]}, "variables", "no space"),
        ({"variables": [NewVariable("custom", "a" * 129)]}, "variables", "1 to 128"),
        ({"variables": [MEMBER_ID, MEMBER_ID]}, "variables", "more than once"),
        ({"uci": "member_id"}, "uci", "custom:member_id"),
        ({"uci": "a", "variables": [NewVariable("system", "a")]}, "uci", "custom or user-channel"),
    ]
    for changes, field, advice in wrong:
        messages = refused(**changes)
        assert list(messages) == [field]
        assert advice in " ".join(messages[field])
    assert Chatbot.objects.count() == 1
    assert not ChangeLogEntry.objects.exists()


def test_all_errors_of_the_variables_are_returned_at_once():
    messages = refused(variables=[NewVariable("x", "a"), NewVariable("user_channel", "A")], uci="b")
    assert len(messages["variables"]) == 2
    assert len(messages["uci"]) == 1


def test_a_variable_of_another_chatbot_cannot_become_the_uci():
    chatbot = create()
    VariableFactory.create(name="member_id", is_uci=False)
    with pytest.raises(ValidationError, match="no such variable"):
        designate_uci(chatbot=chatbot, name="member_id", actor="user:1")


def test_a_system_variable_cannot_become_the_uci():
    chatbot = create(variables=[NewVariable("system", "locale")])
    with pytest.raises(ValidationError, match="system variable"):
        designate_uci(chatbot=chatbot, name="locale", actor="user:1")


def test_a_designated_uci_cannot_be_removed():
    create(variables=[MEMBER_ID], uci="member_id")
    with pytest.raises(IntegrityError):
        Variable.objects.all().delete()


def test_only_the_digest_of_a_token_is_stored():
    new = create_api_key(
        chatbot=create(), type=ApiKey.Type.TOKEN, label="backend", scopes=["requests:read"], actor="command"
    )
    kept = ApiKey.objects.get()
    assert new.secret.startswith(f"dca_{kept.prefix}_")
    assert bytes(kept.secret_sha256) == token_digest(new.secret)
    assert kept.secret_encrypted == ""
    assert new.secret not in str(kept.__dict__)
    entry = ChangeLogEntry.objects.get(event="apikey.created")
    assert entry.data == {"prefix": kept.prefix, "type": "token"}


def test_an_unusable_key_is_refused() -> None:
    chatbot = create()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"type": ApiKey.Type.TOKEN}, "scopes"),
        ({"type": ApiKey.Type.TOKEN, "scopes": ["everything"]}, "scopes"),
        ({"type": ApiKey.Type.SIGNING, "scopes": ["requests:read"]}, "scopes"),
        ({"type": ApiKey.Type.SIGNING, "label": ""}, "label"),
        ({"type": ApiKey.Type.SIGNING, "label": "x" * 101}, "label"),
        ({"type": ApiKey.Type.SIGNING, "taken_over_secret": ""}, "secret"),
        ({"type": ApiKey.Type.SIGNING, "taken_over_secret": "short"}, "secret"),
        ({"type": ApiKey.Type.SIGNING, "taken_over_secret": "two\nlines of it"}, "secret"),
        (
            {"type": ApiKey.Type.TOKEN, "scopes": ["requests:read"], "taken_over_secret": "a_secure_secret"},
            "secret",
        ),
    ]
    for changes, field in wrong:
        with pytest.raises(ValidationError) as caught:
            create_api_key(**{"chatbot": chatbot, "label": "CRM", "actor": "command"} | changes)
        assert list(caught.value.message_dict) == [field]
        assert changes.get("taken_over_secret") not in caught.value.message_dict[field]
    assert not ApiKey.objects.exists()
    assert events() == ["chatbot.created"]


def test_a_key_without_a_limit_asks_the_database_about_no_constraint(django_assert_max_num_queries) -> None:
    chatbot = create()
    with django_assert_max_num_queries(4):
        create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="CRM", actor="command")


def test_the_database_refuses_to_bring_a_revoked_key_back() -> None:
    key = ApiKeyFactory.create()
    ApiKey.objects.update(revoked_at=Now())
    with pytest.raises(IntegrityError, match="stays revoked"), transaction.atomic():
        ApiKey.objects.update(revoked_at=None)
    ApiKey.objects.filter(pk=key.pk).update(label="still mine")


def test_a_key_is_revoked_by_command(capsys: pytest.CaptureFixture[str]) -> None:
    new = create_api_key(chatbot=ChatbotFactory.create(), type=ApiKey.Type.SIGNING, label="CRM", actor="command")

    call_command("revoke_api_key", new.api_key.prefix)

    assert capsys.readouterr().out == f"Revoked the key {new.api_key.prefix} (CRM).\n"
    with pytest.raises(CommandError, match="already revoked"):
        call_command("revoke_api_key", new.api_key.prefix)


def test_unknown_settings_are_refused(chatbot: Chatbot) -> None:
    with pytest.raises(ValidationError, match="cannot be changed"):
        change_chatbot(chatbot=chatbot, changes={"slug": "other"}, actor="command")

    chatbot.refresh_from_db()
    assert chatbot.slug == "acme"


def test_every_way_to_create_a_chatbot_or_variable_gives_it_a_public_id() -> None:
    made = create_chatbot(slug="one", name="One", actor="command", variables=[NewVariable("custom", "member_id")])
    add_variable(chatbot=made, variable=NewVariable("custom", "email"), actor="command")
    call_command("create_chatbot", "two", "--name", "Two", "--variable", "custom:member_id")
    Chatbot.objects.bulk_create([Chatbot(slug="three", name="Three"), Chatbot(slug="four", name="Four")])

    ids = [row.public_id for model in (Chatbot, Variable) for row in model.objects.all()]

    assert {one.version for one in ids} == {7}
    assert len(set(ids)) == len(ids) == 7


@pytest.mark.parametrize("model", [Chatbot, Variable])
def test_the_database_refuses_to_change_a_public_id(chatbot: Chatbot, model: Any) -> None:
    with pytest.raises(IntegrityError, match="never changes"), transaction.atomic():
        model.objects.update(public_id=uuid7())
    model.objects.first().save()


def test_a_chatbot_with_an_old_number_has_no_digest_of_the_old_one(chatbot: Chatbot) -> None:
    number, before = chatbot.pk, chatbot.public_id
    chatbot.bucket.delete()
    Variable.objects.filter(chatbot=chatbot).update(is_uci=False)
    Variable.objects.filter(chatbot=chatbot).delete()
    chatbot.delete()

    again = Chatbot.objects.create(pk=number, slug="acme", name="Another")

    assert digest("conversation", again.public_id, "c-1") != digest("conversation", before, "c-1")
