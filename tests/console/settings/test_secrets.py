"""Secrets on the settings' page: a key's is shown once, a bucket's never."""

import logging
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.test import Client
from pytest_django import Settings

from chatbots.authentication import secret_binding
from chatbots.buckets import location_of
from chatbots.buckets.locations import bucket_secret_binding
from chatbots.models import ApiKey, Bucket, CallbackSecret, ChangeLogEntry, Chatbot
from chatbots.operations.buckets import ClientBucket, set_bucket
from common.crypto import decrypt
from common.storage import ObjectStorage
from compliance import worker
from tests import factories
from tests.calls import TokenCaller
from tests.clients import use_bucket_at
from tests.console.settings.saving import assert_refused, assert_saved, page_of, save, shown
from tests.hostile import behaving, drips_a_head
from tests.people import Role, client_of, staff

SECRET = "a-client-s-secret"
FILLED = {
    "hosting": "client",
    "bucket": "acme-files",
    "region": "eu-west-3",
    "prefix": "exports",
    "access_key_id": "AKIA1",
    "secret": SECRET,
}


def traces(client: Client, chatbot: Chatbot, caplog: pytest.LogCaptureFixture) -> str:
    """Everything left after a save: following pages, sessions, cookies, the admin's history, logs."""
    sessions = [session.get_decoded() for session in Session.objects.all()]
    history = list(LogEntry.objects.values_list("change_message", "object_repr"))
    entries = list(ChangeLogEntry.objects.values_list("data", flat=True))
    pages = [shown(client, chatbot), client.get("/admin/chatbots/").text]
    return f"{pages}{sessions}{client.cookies.output()}{history}{entries}{caplog.text}"


def secret_of(chatbot: Chatbot) -> str:
    stored = Bucket.objects.get(chatbot=chatbot).secret_encrypted
    return decrypt(stored, bound_to=bucket_secret_binding(chatbot.pk))


@pytest.mark.long(reason="the same for the other type of key", beyond=1)
@pytest.mark.parametrize("key_type", [ApiKey.Type.SIGNING, ApiKey.Type.TOKEN])
def test_the_secret_of_a_new_key_is_shown_once(admin_client, admin_user, chatbot, caplog, key_type) -> None:
    caplog.set_level(logging.DEBUG)
    scopes = ["conversations:read", "requests:read"] if key_type == "token" else []
    asked = {"type": key_type, "label": "Our CRM", "scopes": scopes, "expires_on": "2999-12-31", "rate_limit": "50"}

    answer = save(admin_client, chatbot, "keys", **asked)

    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    assert "shown once" in answer.text
    key = ApiKey.objects.get()
    assert (key.label, key.rate_limit, str(key.expires_at)) == ("Our CRM", 50, "3000-01-01 00:00:00+00:00")
    secret: str = answer.context["created"].secret
    assert answer.text.count(secret) == 1
    if key_type == "signing":
        assert decrypt(key.secret_encrypted, bound_to=secret_binding(key.prefix)) == secret
    else:
        caller = TokenCaller(chatbot)
        caller.token = secret
        assert caller.get("requests").status_code == 200
    assert (
        ChangeLogEntry.objects.get(event="apikey.created", data__prefix=key.prefix).actor == f"user:{admin_user.pk}"
    )
    left = traces(admin_client, chatbot, caplog)
    assert "Our CRM" in left
    assert secret not in left


def test_a_callback_secret_is_shown_once(admin_client, chatbot, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    assert "signed with the secret of the newest signing key" in shown(admin_client, chatbot, "callbacks")

    answer = save(admin_client, chatbot, "callbacks", overlap_hours="48")

    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    secret = answer.context["created"].secret
    assert answer.text.count(secret) == 1
    # The answer has the page's address: a link with an anchor would not leave it.
    assert answer.text.count(f'href="{page_of(chatbot, "callbacks")}"') == 2
    left = traces(admin_client, chatbot, caplog)
    assert "The old secret is also used until" in left
    for hidden in (secret, CallbackSecret.objects.get().secret_encrypted):
        assert hidden not in left

    assert_refused(save(admin_client, chatbot, "callbacks", overlap_hours="721"), "from 0 to 720")
    assert CallbackSecret.objects.count() == 1


def test_a_key_that_could_not_serve_is_refused_at_its_field(admin_client: Client, chatbot: Chatbot) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"label": ""}, "This field is required"),
        ({"type": "token"}, "Give a token key at least one of"),
        ({"scopes": ["requests:read"]}, "Give a signing key at least one of"),
        ({"expires_on": "2020-01-01"}, "This is in the past"),
        ({"expires_on": "9999-12-31"}, "less than or equal to"),
        ({"rate_limit": "1000001"}, "from 1 to 1,000,000"),
    ]
    for change, message in wrong:
        answer = save(admin_client, chatbot, "keys", **({"type": "signing", "label": "CRM"} | change))

        assert_refused(answer, message)
        [field] = change
        assert f'href="#newapikey_{field if field != "type" else "scopes"}' in answer.text
    assert not ApiKey.objects.exists()


def test_it_sets_a_bucket_and_shows_no_secret(admin_client, admin_user, chatbot, caplog) -> None:
    caplog.set_level(logging.DEBUG)

    assert_saved(save(admin_client, chatbot, "bucket", **FILLED), chatbot, "bucket")

    bucket = Bucket.objects.get(chatbot=chatbot)
    assert (bucket.bucket, bucket.prefix, secret_of(chatbot)) == ("acme-files", "exports/", SECRET)
    entry = ChangeLogEntry.objects.get(event="bucket.set")
    changed = "hosting,bucket,region,prefix,access_key_id,secret"
    assert entry.actor == f"user:{admin_user.pk}"
    assert entry.data == {"hosting": "client", "access": "access_key", "sse": "", "changed": changed}
    left = traces(admin_client, chatbot, caplog)
    assert "acme-files" in left
    assert SECRET not in left
    assert bucket.secret_encrypted not in left


def test_it_keeps_the_secret_when_the_field_is_empty(admin_client: Client, chatbot: Chatbot) -> None:
    save(admin_client, chatbot, "bucket", **FILLED)

    answer = save(admin_client, chatbot, "bucket", **FILLED | {"secret": "", "sse": "AES256"})

    assert_saved(answer, chatbot, "bucket")
    assert Bucket.objects.get(chatbot=chatbot).sse == "AES256"
    assert secret_of(chatbot) == SECRET
    assert ChangeLogEntry.objects.filter(event="bucket.set").latest("id").data["changed"] == "sse"
    another = save(admin_client, chatbot, "bucket", **FILLED | {"secret": "", "access_key_id": "AKIA2"})
    assert_refused(another, 'id="bucket_secret_error"')


def test_it_goes_back_to_the_hosted_bucket(admin_client: Client, chatbot: Chatbot) -> None:
    save(admin_client, chatbot, "bucket", **FILLED)

    assert_saved(save(admin_client, chatbot, "bucket", **FILLED | {"hosting": "hosted"}), chatbot, "bucket")

    bucket = Bucket.objects.get(chatbot=chatbot)
    assert (bucket.hosting, bucket.bucket, bucket.access_key_id, bucket.secret_encrypted) == ("hosted", "", "", "")
    assert location_of(bucket).is_hosted


def test_a_bucket_set_by_another_user_meanwhile_is_not_reset(admin_client: Client, chatbot: Chatbot) -> None:
    for filled in ({"hosting": "hosted"}, FILLED):
        page = shown(admin_client, chatbot, "bucket")
        seen = dict(re.findall(r'<input type="hidden" name="(initial-[a-z_]+)"(?: value="([^"]*)")?', page))
        assert {"initial-hosting", "initial-bucket", "initial-prefix"} <= seen.keys()
        assert "initial-secret" not in seen
        assert_saved(save(admin_client, chatbot, "bucket", **FILLED | seen | {"prefix": "new"}), chatbot, "bucket")

        answer = save(admin_client, chatbot, "bucket", **filled | seen)

        assert_refused(answer, "Another user has changed the bucket since you loaded this page.")
        assert Bucket.objects.get(chatbot=chatbot).prefix == "new/"
        save(admin_client, chatbot, "bucket", **FILLED)


def test_it_refuses_a_bucket_at_its_field_and_repeats_no_secret(admin_client, chatbot, neighbour, settings):
    settings.BUCKET_PRIVATE_NETWORKS = ()
    taken = ClientBucket("acme-files", "eu-west-3", prefix="taken", access_key_id="AKIA2", secret="some-secret")
    set_bucket(chatbot=neighbour, client=taken, actor="command")

    wrong = {"bucket": "Acme", "secret": "", "endpoint": "https://169.254.169.254", "prefix": "taken"}
    for field, value in wrong.items():
        answer = save(admin_client, chatbot, "bucket", **FILLED | {field: value})
        assert_refused(answer, f'id="bucket_{field}_error"')
        assert SECRET not in answer.text
    assert Bucket.objects.get(chatbot=chatbot).hosting == "hosted"


def test_a_bucket_is_created_for_a_chatbot_without_one(admin_client: Client) -> None:
    bare = factories.ChatbotFactory.create(slug="bare")

    assert_saved(save(admin_client, bare, "bucket", hosting="hosted"), bare, "bucket")

    assert Bucket.objects.get(chatbot=bare).hosting == "hosted"


def test_it_prints_the_policies_of_a_role(admin_client: Client, chatbot: Chatbot) -> None:
    role = {"access_key_id": "", "secret": "", "role_arn": "arn:aws:iam::123456789012:role/exports"}

    assert_saved(save(admin_client, chatbot, "bucket", **FILLED | role), chatbot, "bucket")

    text = shown(admin_client, chatbot, "bucket")
    assert "s3:AbortMultipartUpload" in text
    assert "sts:AssumeRole" in text
    assert Bucket.objects.get(chatbot=chatbot).external_id in text


def test_an_officer_sees_the_result_of_a_check(chatbot: Chatbot, storage: ObjectStorage, settings: Settings) -> None:
    client = client_of(staff(chatbot, Role.OFFICER))

    assert_saved(save(client, chatbot, "bucket/check"), chatbot, "bucket")
    assert "Waiting for a worker" in shown(client, chatbot, "bucket")
    worker.drain()
    text = shown(client, chatbot, "bucket")
    assert "The bucket can be used" in text
    assert "> OK</span>" in text

    settings.S3_BUCKET = "nobody-made-this"
    assert_saved(save(client, chatbot, "bucket/check"), chatbot, "bucket")
    worker.drain()
    text = shown(client, chatbot, "bucket")
    assert "storage_bucket_missing" in text
    assert client.get(f"{page_of(chatbot)}bucket/check/progress/").text.strip() in text
    assert Bucket.objects.get(chatbot=chatbot).last_error.startswith("storage_bucket_missing")


def test_requesting_a_check_calls_no_bucket(chatbot: Chatbot) -> None:
    client = client_of(staff(chatbot, Role.OFFICER))
    with behaving(drips_a_head) as server:
        use_bucket_at(chatbot, server.url())
        assert_saved(save(client, chatbot, "bucket/check"), chatbot, "bucket")
        assert "Waiting for a worker" in shown(client, chatbot, "bucket")
        assert server.connections == 0
