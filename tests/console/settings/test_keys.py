"""Clients' credentials and identity keys in the settings: a secret is shown once, a private key never."""

import logging

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from chatbots.authentication import secret_binding
from chatbots.buckets.locations import storage_read_with
from chatbots.models import ApiKey, BucketCredential, ChangeLogEntry, Chatbot
from chatbots.operations.credentials import issue_bucket_credential
from chatbots.operations.keys import create_api_key
from common.crypto import decrypt
from common.storage import ObjectStorage, StorageError
from tests import factories
from tests.clients import use_bucket_at
from tests.console.settings.saving import assert_refused, assert_saved, recorded, save, shown
from tests.console.settings.test_secrets import traces
from tests.iam import names_of_users
from tests.people import Role, client_of, member, staff
from tests.tokens import private_key, private_pem, public_pem


def issue(client: Client, chatbot: Chatbot, label: str = "Data team"):
    return save(client, chatbot, "credentials", label=label)


def test_a_superuser_issues_and_revokes_them_and_the_secret_is_shown_once(
    admin_client: Client,
    admin_user: User,
    chatbot: Chatbot,
    iam_storage: ObjectStorage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    answer = issue(admin_client, chatbot)

    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    assert "shown once" in answer.text
    secret = answer.context["new"].secret
    assert answer.text.count(secret) == 1
    row = BucketCredential.objects.get()
    for told in (row.access_key_id, "s3://clients/acme/", f"--endpoint-url {iam_storage.endpoint_url}"):
        assert told in answer.text
    theirs = storage_read_with(access_key_id=row.access_key_id, secret=secret)
    assert theirs.read("acme/export.csv")
    assert secret not in traces(admin_client, chatbot, caplog)
    actor = f"user:{admin_user.pk}"
    assert (row.label, row.created_by, ChangeLogEntry.objects.get(event="bucket_credential.issued").actor) == (
        "Data team",
        actor,
        actor,
    )
    text = shown(admin_client, chatbot, "bucket")
    for told in (row.access_key_id, "Data team", f"by {admin_user.get_username()}"):
        assert told in text

    assert_refused(save(admin_client, chatbot, f"credentials/{row.pk}/revoke"), "Select this to revoke")
    assert theirs.read("acme/export.csv")
    assert_saved(save(admin_client, chatbot, f"credentials/{row.pk}/revoke", sure="on"), chatbot, "bucket")
    with pytest.raises(StorageError):
        theirs.read("acme/export.csv")
    assert names_of_users() == set()
    assert "Revoked or not issued: 1" in shown(admin_client, chatbot, "bucket")
    assert_refused(save(admin_client, chatbot, f"credentials/{row.pk}/revoke", sure="on"), "revoked already")


def test_a_third_one_is_refused_at_its_form(admin_client, chatbot, settings) -> None:
    settings.IAM_ACCESS_KEY_ID = "AKIAIAM"
    for place in (1, 2):
        factories.BucketCredentialFactory.create(chatbot=chatbot, place=place)
    assert_refused(issue(admin_client, chatbot), "There are 2 already")
    assert_refused(issue(admin_client, chatbot, label=""), "This field is required")


def test_an_officer_sees_them_and_changes_nothing(chatbot: Chatbot, settings: Settings) -> None:
    settings.IAM_ACCESS_KEY_ID = "AKIAIAM"
    row = factories.BucketCredentialFactory.create(chatbot=chatbot, label="Data team")
    client = client_of(staff(chatbot, Role.OFFICER))

    text = shown(client, chatbot, "bucket")

    assert row.access_key_id in text
    assert "Operator (command)" in text
    assert "/credentials/" not in text
    assert issue(client, chatbot).status_code == 403


@pytest.mark.long(reason="a key is issued and tried for each setting")
@pytest.mark.parametrize("setting", ["IAM_CONSOLE", "IAM_ACCESS_KEY_ID"])
def test_without_iam_in_the_console_it_says_what_to_do_and_records_keys(
    admin_client: Client, chatbot: Chatbot, iam_storage: ObjectStorage, settings: Settings, setting: str
) -> None:
    issued = issue_bucket_credential(chatbot=chatbot, label="Data team", actor="command").credential
    setattr(settings, setting, "")

    text = shown(admin_client, chatbot, "bucket")
    assert "manage.py issue_bucket_credentials acme" in text
    assert 'action="/admin/settings/acme/credentials/"' not in text
    assert_refused(issue(admin_client, chatbot), "does not issue credentials here")

    recorded = {"access_key_id": "AKIA1", "label": "By hand"}
    assert_refused(
        save(admin_client, chatbot, "credentials/record", label="x", access_key_id="a b"), "letters, digits"
    )
    assert_saved(save(admin_client, chatbot, "credentials/record", **recorded), chatbot, "bucket")
    assert "AKIA1" in shown(admin_client, chatbot, "bucket")
    for row in BucketCredential.objects.all():
        assert "removed in the storage" in revoking(shown(admin_client, chatbot, "bucket"), row)
        assert_saved(save(admin_client, chatbot, f"credentials/{row.pk}/revoke", sure="on"), chatbot, "bucket")
    assert names_of_users() == {issued.user_name} if setting == "IAM_CONSOLE" else True
    assert not BucketCredential.objects.filter(revoked_at__isnull=True).exists()


def revoking(text: str, row: BucketCredential) -> str:
    """The form that revokes credentials."""
    start = text.index(f"/credentials/{row.pk}/revoke/")
    return text[start : text.index("</form>", start)]


def test_interrupted_ones_say_so(admin_client: Client, chatbot: Chatbot) -> None:
    factories.BucketCredentialFactory.create(chatbot=chatbot, origin="issued", active_at=None, access_key_id="")
    text = shown(admin_client, chatbot, "bucket")
    assert "Being issued" in text
    assert "it was interrupted" in text


def test_a_client_s_own_bucket_has_none(admin_client: Client, chatbot: Chatbot) -> None:
    use_bucket_at(chatbot, "https://s3.example.com")
    assert 'id="credentials"' not in shown(admin_client, chatbot, "bucket")
    factories.BucketCredentialFactory.create(chatbot=chatbot)
    text = shown(admin_client, chatbot, "bucket")
    assert 'id="credentials"' in text
    assert "Issue credentials" not in text


HS256 = {"label": "Web shop", "algorithm": "HS256"}


def test_the_secret_is_shown_once_with_what_tokens_name(admin_client, admin_user, chatbot, caplog) -> None:
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


def test_a_private_key_is_refused_and_not_repeated(admin_client, chatbot, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    pem = private_pem(private_key("ES256"))

    answer = save(admin_client, chatbot, "keys/identity", label="Web shop", algorithm="ES256", public_key=pem)

    assert_refused(answer, "This is a private key")
    assert 'id="newidentitykey_public_key_error"' in answer.text
    left = answer.text + traces(admin_client, chatbot, caplog)
    for line in pem.splitlines()[1:-1]:
        assert line not in left
    assert not ApiKey.objects.exists()


def test_a_key_that_could_not_serve_is_refused_at_its_field(admin_client: Client, chatbot: Chatbot) -> None:
    for change, message in (
        ({"label": ""}, "This field is required"),
        ({"algorithm": "none"}, "Select a valid choice"),
        ({"algorithm": "ES256"}, "needs your public key"),
        ({"public_key": "x"}, "has a secret of ours"),
        ({"expires_on": "2020-01-01"}, "This is in the past"),
    ):
        assert_refused(save(admin_client, chatbot, "keys/identity", **HS256 | change), message)
    assert not ApiKey.objects.exists()


def test_members_see_what_tokens_name_and_no_controls_of_calls(admin_client: Client, chatbot: Chatbot) -> None:
    save(admin_client, chatbot, "keys/identity", **HS256)
    key = ApiKey.objects.get()

    for text in (shown(member(chatbot, Role.VIEWER), chatbot, "keys"), shown(admin_client, chatbot, "keys")):
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


def test_a_keys_limit_is_changed_and_the_key_revoked_after_confirmation(admin_client, chatbot, neighbour) -> None:
    new = create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="CRM", actor="command")
    prefix = new.api_key.prefix

    for limit in ("500", "500", ""):
        assert_saved(save(admin_client, chatbot, f"keys/{prefix}/limit", rate_limit=limit), chatbot, "keys")
    assert_refused(save(admin_client, chatbot, f"keys/{prefix}/limit", rate_limit="0"), "from 1 to 1,000,000")
    assert_refused(save(admin_client, chatbot, f"keys/{prefix}/revoke"), "Select this to revoke the key.")
    for action, data in ({"limit": {"rate_limit": "7"}, "revoke": {"sure": "on"}}).items():
        assert_refused(save(admin_client, neighbour, f"keys/{prefix}/{action}", **data), "There is no key")
    assert recorded("apikey.changed") == [{"prefix": prefix, "rate_limit": one} for one in (500, None)]

    assert_saved(save(admin_client, chatbot, f"keys/{prefix}/revoke", sure="on"), chatbot, "keys")
    assert recorded("apikey.revoked") == [{"prefix": prefix}]
    for action, data in ({"limit": {"rate_limit": "7"}, "revoke": {"sure": "on"}}).items():
        assert_refused(save(admin_client, chatbot, f"keys/{prefix}/{action}", **data), "This key is already revoked.")


def test_an_expired_key_is_shown_as_expired(admin_client: Client, chatbot: Chatbot) -> None:
    factories.ApiKeyFactory.create(chatbot=chatbot, expires_at=factories.NOON.replace(year=2020))

    text = shown(admin_client, chatbot, "keys")

    assert "Expired" in text
    assert "No active keys." in text
