"""Buckets in the admin."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from chatbots.bucket_operations import ClientBucket, set_bucket
from chatbots.buckets import ObjectStorage
from chatbots.buckets.places import bucket_secret_binding
from chatbots.models import Bucket, ChangeLogEntry, Chatbot, Membership
from chatbots.secrets import decrypt
from tests import factories

SECRET = "a-client-s-secret"
FILLED = {
    "hosting": "client",
    "bucket": "acme-files",
    "region": "eu-west-3",
    "prefix": "exports",
    "access_key_id": "AKIA1",
    "secret": SECRET,
}


def page_of(chatbot: Chatbot) -> str:
    return reverse("admin:chatbots_bucket_change", args=[chatbot.bucket.pk])


def secret_of(chatbot: Chatbot) -> str:
    stored = Bucket.objects.get(chatbot=chatbot).secret_encrypted
    return decrypt(stored, bound_to=bucket_secret_binding(chatbot.pk))


def check(client: Client, chatbot: Chatbot) -> str:
    data = {"action": "check_access", "_selected_action": [chatbot.bucket.pk]}
    return client.post(reverse("admin:chatbots_bucket_changelist"), data, follow=True).text


def test_it_sets_a_bucket_and_shows_no_secret(admin_client: Client, admin_user: User, chatbot: Chatbot) -> None:
    assert admin_client.post(page_of(chatbot), FILLED).status_code == 302
    bucket = Bucket.objects.get(chatbot=chatbot)
    assert (bucket.bucket, bucket.prefix, secret_of(chatbot)) == ("acme-files", "exports/", SECRET)
    assert ChangeLogEntry.objects.get(event="bucket.set").actor == f"user:{admin_user.pk}"
    shown = admin_client.get(page_of(chatbot)).text
    assert "acme-files" in shown
    assert SECRET not in shown
    assert bucket.secret_encrypted not in shown
    history = LogEntry.objects.values_list("change_message", "object_repr")
    assert SECRET not in str(list(history))


def test_it_keeps_the_secret_when_the_field_is_empty(admin_client: Client, chatbot: Chatbot) -> None:
    admin_client.post(page_of(chatbot), FILLED)
    assert admin_client.post(page_of(chatbot), FILLED | {"secret": "", "sse": "AES256"}).status_code == 302
    assert Bucket.objects.get(chatbot=chatbot).sse == "AES256"
    assert secret_of(chatbot) == SECRET


def test_it_goes_back_to_the_hosted_bucket(admin_client: Client, chatbot: Chatbot) -> None:
    admin_client.post(page_of(chatbot), FILLED)
    assert admin_client.post(page_of(chatbot), FILLED | {"hosting": "hosted"}).status_code == 302
    assert Bucket.objects.get(chatbot=chatbot).secret_encrypted == ""


@pytest.mark.parametrize(
    "change", [{"bucket": "Acme"}, {"secret": ""}, {"endpoint": "https://169.254.169.254"}, {"prefix": "taken"}]
)
def test_it_refuses_in_the_form_and_repeats_no_secret(
    admin_client: Client, chatbot: Chatbot, neighbour: Chatbot, settings: Settings, change: dict[str, str]
) -> None:
    settings.BUCKET_PRIVATE_NETWORKS = ()
    taken = ClientBucket("acme-files", "eu-west-3", prefix="taken", access_key_id="AKIA2", secret="some-secret")
    set_bucket(chatbot=neighbour, client=taken, actor="command")
    answer = admin_client.post(page_of(chatbot), FILLED | change)
    assert answer.status_code == 200
    assert "errorlist" in answer.text
    assert SECRET not in answer.text
    assert Bucket.objects.get(chatbot=chatbot).hosting == "hosted"


def test_it_makes_a_bucket_for_a_chatbot_that_has_none(admin_client: Client, chatbot: Chatbot) -> None:
    bare = factories.ChatbotFactory.create(slug="bare")
    page = reverse("admin:chatbots_bucket_add")
    shown = admin_client.get(page).text
    assert ">bare<" in shown
    assert ">acme<" not in shown
    assert admin_client.post(page, {"chatbot": bare.pk, "hosting": "hosted"}).status_code == 302
    assert Bucket.objects.get(chatbot=bare).hosting == "hosted"
    assert admin_client.post(page, {"chatbot": chatbot.pk, "hosting": "hosted"}).status_code == 200


def test_it_tells_the_outcome_of_a_check(
    admin_client: Client, chatbot: Chatbot, storage: ObjectStorage, settings: Settings
) -> None:
    assert "the bucket can be used" in check(admin_client, chatbot)
    settings.S3_BUCKET = "nobody-made-this"
    assert "storage_bucket_missing" in check(admin_client, chatbot)
    assert Bucket.objects.get(chatbot=chatbot).last_error.startswith("storage_bucket_missing")


@pytest.mark.parametrize("role", Membership.Role)
def test_it_lets_a_member_look_and_do_nothing(chatbot: Chatbot, role: Membership.Role) -> None:
    user = User.objects.create_user("staff", is_staff=True)
    Membership.objects.create(chatbot=chatbot, user=user, role=role)
    client = Client()
    client.force_login(user)
    shown = client.get(page_of(chatbot))
    assert shown.status_code == 200
    assert 'type="password"' not in shown.text
    assert client.post(page_of(chatbot), FILLED).status_code == 403
    assert client.get(reverse("admin:chatbots_bucket_add")).status_code == 403
    check(client, chatbot)
    assert Bucket.objects.get(chatbot=chatbot).last_checked_at is None


def test_it_wants_a_bucket_before_extracts(admin_client: Client) -> None:
    bare = factories.ChatbotFactory.create(slug="bare")
    page = reverse("admin:chatbots_chatbot_change", args=[bare.pk])
    counts = {f"{part}-{which}_FORMS": 0 for part in ("variables", "memberships") for which in ("TOTAL", "INITIAL")}
    filled = {"name": "Bare", "timezone": "UTC", "max_conversations_per_deletion": 1, "grace_minutes": 0}
    answer = admin_client.post(page, counts | filled | {"extracts_enabled": "on"})
    assert answer.status_code == 200
    assert "Extracts need a bucket" in answer.text
