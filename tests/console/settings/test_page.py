"""User data settings: contents by role, and number of queries."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from chatbots.models import ApiKey, Bucket, ChangeLogEntry, Chatbot, Membership, Variable
from chatbots.operations.buckets import ClientBucket, set_bucket
from chatbots.operations.chatbots import change_chatbot, designate_uci
from chatbots.operations.keys import create_api_key
from conversations import usage
from tests import factories
from tests.console.settings.saving import page_of, save, shown
from tests.people import Role, member

# Each action by its role, those of officers with form fields.
FOR_OFFICERS = {
    "compliance": {"on": "False"},
    "extracts": {"on": "True"},
    "retention": {"days": ""},
    "uci": {"uci": "plan", "understood": "on"},
    "assurance": {"export_assurance": "verified"},
    "variables": {"category": "custom", "name": "customer_id"},
    "bucket/check": {},
}
FOR_SUPERUSERS = (
    *("bucket", "credentials", "credentials/record", "credentials/{credential}/revoke", "rules", "keys"),
    *("keys/identity", "callbacks", "members", "keys/{prefix}/revoke", "keys/{prefix}/limit"),
)


@pytest.mark.long(reason="a page for each role", beyond=1)
@pytest.mark.parametrize("role", Role)
def test_it_shows_a_member_all_but_secrets_and_only_the_controls_of_the_role(chatbot: Chatbot, role: Role) -> None:
    client_s = ClientBucket("acme-files", "eu-west-3", access_key_id="AKIA1", secret="a-client-s-secret")
    set_bucket(chatbot=chatbot, client=client_s, actor="command")
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url="https://hooks.example.com/a-secret-path")
    new = create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="Our CRM", actor="command")
    factories.conversation_of(chatbot, "42", messages=0)

    text = shown(member(chatbot, role), chatbot)

    for readable in ("acme-files", "AKIA1", "Our CRM", new.api_key.prefix, "member_id", "https://hooks.example.com<"):
        assert readable in text
    for word in ("Current UCI", "User channel", "Custom", "1 conversation<", role.label, "s3:PutObject"):
        assert word in text
    stored = Bucket.objects.get(chatbot=chatbot).secret_encrypted
    for secret in ("a-client-s-secret", "a-secret-path", str(new.secret), stored, new.api_key.secret_encrypted):
        assert secret not in text
    offered = set(re.findall(rf'action="{page_of(chatbot)}([a-z/]+)/"', text))
    assert offered == (set(FOR_OFFICERS) if role == Role.OFFICER else set())
    assert ('type="radio"' in text) == (role == Role.OFFICER)


def test_a_superuser_is_offered_every_action(admin_client: Client, chatbot: Chatbot, settings: Settings) -> None:
    settings.IAM_ACCESS_KEY_ID = "AKIAIAM"
    new = create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="CRM", actor="command")
    named = {
        "prefix": new.api_key.prefix,
        "credential": factories.BucketCredentialFactory.create(chatbot=chatbot).pk,
    }
    text = shown(admin_client, chatbot)

    assert 'href="/admin/chatbots/" aria-current="page"' in text
    for action in (*FOR_OFFICERS, *FOR_SUPERUSERS):
        assert f'action="{page_of(chatbot)}{action.format(**named)}/"' in text


def test_actions_require_a_post_a_login_and_a_csrf_token(chatbot: Chatbot, admin_user: User) -> None:
    checking = Client(enforce_csrf_checks=True)
    checking.force_login(admin_user)

    for action, data in FOR_OFFICERS.items():
        assert checking.get(f"{page_of(chatbot)}{action}/").status_code == 405
        assert save(checking, chatbot, action, **data).status_code == 403
        assert save(Client(), chatbot, action, **data).status_code == 302  # to the login
    assert not ChangeLogEntry.objects.filter(chatbot=chatbot).exists()


@pytest.mark.long(reason="many rows are stored")
def test_it_makes_as_many_queries_for_many_rows_as_for_few(admin_client: Client, chatbot: Chatbot) -> None:
    def fill(numbers: range) -> None:
        for n in numbers:
            Variable.objects.create(chatbot=chatbot, name=f"v{n}", category="custom", was_uci=n % 5 == 0)
            factories.ApiKeyFactory.create(chatbot=chatbot, prefix=f"key-{n}", label="CRM")
            factories.BucketCredentialFactory.create(chatbot=chatbot, revoked_at=timezone.now())
            user = User.objects.create_user(f"staff-{n}", is_staff=True)
            Membership.objects.create(chatbot=chatbot, user=user, role="viewer")
            factories.conversation_of(chatbot, f"value {n}", messages=0)

    def asked() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            shown(admin_client, chatbot)
        return len(captured)

    fill(range(3))
    few = asked()
    fill(range(3, 40))

    assert asked() == few <= 16


def test_it_counts_the_conversations_of_the_present_and_the_former_uci(admin_client, chatbot, neighbour, monkeypatch):
    monkeypatch.setattr(usage, "MAX_PER_UCI", 2)
    for value in ("1", "1", "2"):
        factories.conversation_of(chatbot, value, messages=0)
    designate_uci(chatbot=chatbot, name="plan", actor="command")
    for value in ("gold", "silver"):
        factories.conversation_of(chatbot, value, messages=0)
    factories.conversation_of(neighbour, "1", messages=0)

    counted = re.findall(r">((?:more than )?\d+ conversations)<", shown(admin_client, chatbot))

    assert sorted(counted) == ["2 conversations", "more than 2 conversations"]


def test_the_sample_calls_are_for_this_chatbot(admin_client: Client, chatbot: Chatbot) -> None:
    def calls() -> str:
        text = admin_client.get(page_of(chatbot), HTTP_HOST="testserver", secure=True).text
        return text[text.index('id="calls"') :]

    text = calls()
    for path in ("data-deletion", "data-export"):
        assert f"https://testserver/api/v1/chatbots/acme/{path}" in text
    assert "&quot;unique_chatter_identifier_key&quot;: &quot;member_id&quot;" in text
    assert "&lt;the value of member_id&gt;" in text
    assert "&quot;action&quot;" not in text

    change_chatbot(chatbot=chatbot, changes={"require_action": True}, actor="command")
    text = calls()
    for action in ("delete", "export"):
        assert f"&quot;action&quot;: &quot;{action}&quot;" in text


def test_it_says_what_is_missing(admin_client: Client) -> None:
    bare: Any = factories.ChatbotFactory.create(slug="bare")

    text = shown(admin_client, bare)

    for gap in ("No UCI designated", "No bucket: exports cannot be filed", "No signing key"):
        assert gap in text
    assert "No variables yet" in text
