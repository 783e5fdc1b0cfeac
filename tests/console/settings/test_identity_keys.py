"""Identity keys on the settings page: a secret is shown once, a private key never."""

import logging

import pytest
from django.contrib.auth.models import User
from django.test import Client

from chatbots.authentication import secret_binding
from chatbots.models import ApiKey, ChangeLogEntry, Chatbot
from common.crypto import decrypt
from tests.console.settings.saving import assert_refused, assert_saved, save, shown
from tests.console.settings.test_secrets import traces
from tests.people import Role, member
from tests.tokens import private_key, private_pem, public_pem

HS256 = {"label": "Web shop", "algorithm": "HS256"}


def test_the_secret_is_shown_once_with_what_tokens_name(
    admin_client: Client, admin_user: User, chatbot: Chatbot, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    answer = save(admin_client, chatbot, "keys/identity", **HS256, expires_on="2999-12-31")

    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    key = ApiKey.objects.get()
    secret = decrypt(key.secret_encrypted, bound_to=secret_binding(key.prefix))
    assert answer.text.count(secret) == 1
    assert str(key.expires_at) == "3000-01-01 00:00:00+00:00"
    for named in (key.prefix, "HS256", str(chatbot.public_id)):
        assert f"<code>{named}</code>" in answer.text
    assert ChangeLogEntry.objects.get(event="apikey.created").actor == f"user:{admin_user.pk}"
    left = traces(admin_client, chatbot, caplog)
    assert "Web shop" in left
    assert secret not in left


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a_public_key_is_pasted(admin_client: Client, chatbot: Chatbot, algorithm: str) -> None:
    pem = public_pem(private_key(algorithm))

    pasted = pem.replace("\n", "\r\n")  # as a browser sends it

    answer = save(admin_client, chatbot, "keys/identity", label="Web shop", algorithm=algorithm, public_key=pasted)

    assert answer.status_code == 200
    assert "shown once" not in answer.text
    assert (ApiKey.objects.get().algorithm, ApiKey.objects.get().public_key) == (algorithm, pem)


def test_a_private_key_is_refused_and_not_repeated(
    admin_client: Client, chatbot: Chatbot, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pem = private_pem(private_key("ES256"))

    answer = save(admin_client, chatbot, "keys/identity", label="Web shop", algorithm="ES256", public_key=pem)

    assert_refused(answer, "This is a private key")
    assert 'id="newidentitykey_public_key_error"' in answer.text
    left = answer.text + traces(admin_client, chatbot, caplog)
    for line in pem.splitlines()[1:-1]:
        assert line not in left
    assert not ApiKey.objects.exists()


@pytest.mark.long(reason="a page for each field", beyond=1)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": ""}, "This field is required"),
        ({"algorithm": "none"}, "Select a valid choice"),
        ({"algorithm": "ES256"}, "needs your public key"),
        ({"public_key": "x"}, "has a secret of ours"),
        ({"expires_on": "2020-01-01"}, "This is in the past"),
    ],
)
def test_a_key_that_could_not_serve_is_refused_at_its_field(
    admin_client: Client, chatbot: Chatbot, change: dict[str, str], message: str
) -> None:
    assert_refused(save(admin_client, chatbot, "keys/identity", **HS256 | change), message)
    assert not ApiKey.objects.exists()


def test_members_see_what_tokens_name_and_no_controls_of_calls(admin_client: Client, chatbot: Chatbot) -> None:
    save(admin_client, chatbot, "keys/identity", **HS256)
    key = ApiKey.objects.get()

    for text in (shown(member(chatbot, Role.VIEWER), chatbot), shown(admin_client, chatbot)):
        listed = text[text.index("Web shop") :]
        listed = listed[: listed.index("</li>")]
        for named in (key.prefix, "HS256", str(chatbot.public_id)):
            assert f"<code>{named}</code>" in listed
        assert "Rate limit" not in listed
        assert "Scopes" not in listed
        assert f"{key.prefix}/limit" not in text

    assert_refused(save(admin_client, chatbot, f"keys/{key.prefix}/limit", rate_limit="5"), "makes no calls")
    assert_saved(save(admin_client, chatbot, f"keys/{key.prefix}/revoke", sure="on"), chatbot, "keys")
    assert ApiKey.objects.get().revoked_at is not None
