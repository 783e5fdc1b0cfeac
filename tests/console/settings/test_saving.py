"""Saving a chatbot's settings with change-log entries, and refusals at their fields."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from chatbots.models import ApiKey, ChangeLogEntry, Chatbot, Membership, Variable
from chatbots.operations.chatbots import change_chatbot
from chatbots.operations.keys import create_api_key, revoke_api_key
from tests import factories
from tests.console.settings.saving import assert_refused, assert_saved, rules_of, save, shown
from tests.people import Role, client_of, staff


def recorded(event: str) -> list[Any]:
    return list(ChangeLogEntry.objects.filter(event=event).order_by("id").values_list("data", flat=True))


def test_an_officer_switches_compliance_and_extracts(chatbot: Chatbot) -> None:
    officer = staff(chatbot, Role.OFFICER)
    client = client_of(officer)

    assert_saved(save(client, chatbot, "compliance", on="False"), chatbot, "compliance")
    assert "Data compliance turned off" in shown(client, chatbot)
    assert_saved(save(client, chatbot, "extracts", on="True"), chatbot, "extracts")

    chatbot.refresh_from_db()
    assert (chatbot.compliance_enabled, chatbot.extracts_enabled) == (False, True)
    assert recorded("chatbot.changed") == [
        {"setting": "compliance_enabled", "value": False},
        {"setting": "extracts_enabled", "value": True},
    ]
    assert set(ChangeLogEntry.objects.values_list("actor", flat=True)) == {f"user:{officer.pk}"}


def test_extracts_require_a_bucket_first(admin_client: Client) -> None:
    bare = factories.ChatbotFactory.create(slug="bare")

    assert_refused(save(admin_client, bare, "extracts", on="True"), "Extracts need a bucket")
    assert_refused(save(admin_client, bare, "bucket/check"), "This chatbot has no bucket")


def test_changing_the_uci_requires_a_confirmation(chatbot: Chatbot) -> None:
    client = client_of(staff(chatbot, Role.OFFICER))

    assert_refused(save(client, chatbot, "uci", uci="plan"), "Select this to change the UCI.")
    assert factories.uci_of(chatbot).name == "member_id"
    assert_saved(save(client, chatbot, "uci", uci="member_id"), chatbot, "uci")  # unchanged: nothing to confirm
    assert recorded("variable.designated_uci") == []
    assert_saved(save(client, chatbot, "uci", uci="plan", understood="on"), chatbot, "uci")
    assert factories.uci_of(chatbot).name == "plan"
    assert recorded("variable.designated_uci") == [{"variable": "plan"}]
    assert "Former UCI" in shown(client, chatbot)


def test_an_officer_demands_verified_identities_of_exports(chatbot: Chatbot, neighbour: Chatbot) -> None:
    officer = staff(chatbot, Role.OFFICER)
    client = client_of(officer)
    assert "Identities in exports" in shown(client, chatbot)

    assert_saved(save(client, chatbot, "assurance", export_assurance="verified"), chatbot, "assurance")
    assert_refused(save(client, chatbot, "assurance", export_assurance="certain"), "Select a valid choice")
    assert_refused(save(client, chatbot, "assurance"), "This field is required")

    assert list(Chatbot.objects.order_by("pk").values_list("slug", "export_assurance")) == [
        (chatbot.slug, "verified"),
        (neighbour.slug, "any"),
    ]
    assert recorded("chatbot.changed") == [{"setting": "export_assurance", "value": "verified"}]
    assert "Verified only" in shown(client_of(staff(chatbot, Role.VIEWER)), chatbot)


@pytest.mark.long(reason="a page for each variable", beyond=1)
@pytest.mark.parametrize("uci", ["browser", "of_the_neighbour", ""])
def test_an_unsuitable_variable_is_refused_as_uci(chatbot: Chatbot, neighbour: Chatbot, uci: str) -> None:
    factories.VariableFactory.create(chatbot=chatbot, name="browser", category="system", is_uci=False)
    factories.VariableFactory.create(chatbot=neighbour, name="of_the_neighbour", is_uci=False)
    client = client_of(staff(chatbot, Role.OFFICER))

    assert_refused(save(client, chatbot, "uci", uci=uci, understood="on"), "Unique Chatter Identifier")
    assert factories.uci_of(chatbot).name == "member_id"
    assert 'value="browser"' not in shown(client, chatbot)


def test_the_first_uci_requires_no_confirmation(admin_client: Client) -> None:
    bare = factories.ChatbotFactory.create(slug="bare")

    made = save(admin_client, bare, "variables", category="custom", name="Kunden Nr")
    assert_saved(made, bare, "uci")
    assert_saved(save(admin_client, bare, "uci", uci="Kunden Nr"), bare, "uci")

    assert factories.uci_of(bare).name == "Kunden Nr"
    assert recorded("variable.created") == [{"variable": "Kunden Nr", "category": "custom"}]


@pytest.mark.long(reason="a page for each variable", beyond=1)
@pytest.mark.parametrize(
    ("category", "name", "message"),
    [
        ("user_channel", "Plan B", "lower-case letters, digits and underscores"),
        ("custom", " edge", "no space at either end"),
        ("custom", "plan", "is a user_channel variable already"),
        ("custom", "", "This field is required"),
        ("system", "browser", "Select a valid choice"),
    ],
)
def test_a_variable_is_refused_at_its_field_with_the_dialog_open(admin_client, chatbot, category, name, message):
    answer = save(admin_client, chatbot, "variables", category=category, name=name)

    assert_refused(answer, message)
    assert "data-stays" in answer.text
    assert Variable.objects.filter(chatbot=chatbot).count() == 2


def test_settings_are_saved_each_with_an_entry_in_the_change_log(admin_client: Client, chatbot: Chatbot) -> None:
    changes = {"four_eyes": "on", "name": "Acme care", "callback_url": "http://127.0.0.1:9/a-secret-path"}

    assert_saved(save(admin_client, chatbot, "rules", **rules_of(chatbot, **changes)), chatbot, "rules")

    chatbot.refresh_from_db()
    assert (chatbot.four_eyes, chatbot.name) == (True, "Acme care")
    assert chatbot.callback_url == "http://127.0.0.1:9/a-secret-path"
    found = sorted(recorded("chatbot.changed"), key=lambda data: data["setting"])
    assert found == [{"setting": "callback_url"}, {"setting": "four_eyes", "value": True}, {"setting": "name"}]


def test_a_setting_changed_by_another_user_is_not_overwritten(admin_client: Client, chatbot: Chatbot) -> None:
    before = shown(admin_client, chatbot)
    filled_in = rules_of(chatbot, name="Acme care")
    assert all(f'name="{name}"' in before for name in filled_in)
    change_chatbot(chatbot=chatbot, changes={"four_eyes": True, "grace_minutes": 60}, actor="command")

    assert_refused(save(admin_client, chatbot, "rules", **(filled_in | {"timezone": "Mars"})), "Unknown time zone")
    assert_saved(save(admin_client, chatbot, "rules", **filled_in), chatbot, "rules")

    chatbot.refresh_from_db()
    assert (chatbot.name, chatbot.four_eyes, chatbot.grace_minutes) == ("Acme care", True, 60)
    assert_saved(save(admin_client, chatbot, "rules", **rules_of(chatbot, four_eyes=False)), chatbot, "rules")
    chatbot.refresh_from_db()
    assert not chatbot.four_eyes


@pytest.mark.long(reason="a page for each setting", beyond=1)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timezone": "Mars/Olympus"}, "Unknown time zone"),
        ({"timezone": "Europe/Pariss"}, "Did you mean Europe/Paris?"),
        ({"name": ""}, "This field is required"),
        ({"grace_minutes": -1}, "greater than or equal to 0"),
        ({"max_conversations_per_deletion": 2**40}, "less than or equal to"),
        ({"callback_url": "ftp://hooks.example.com/"}, "Use a URL such as"),
    ],
)
def test_a_bad_setting_is_refused_at_its_field(admin_client, chatbot, change, message) -> None:
    answer = save(admin_client, chatbot, "rules", **rules_of(chatbot, **change))

    assert_refused(answer, message.replace("'", "&#x27;"))
    [field] = change
    assert f'id="rules_{field}_error"' in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert f'href="#rules_{field}"' in answer.text
    assert not ChangeLogEntry.objects.filter(event="chatbot.changed").exists()


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
    assert_refused(save(admin_client, chatbot, f"keys/{prefix}/revoke", sure="on"), "already revoked")
    assert "Revoked" in shown(admin_client, chatbot)


def test_an_expired_key_is_shown_as_expired(admin_client: Client, chatbot: Chatbot) -> None:
    factories.ApiKeyFactory.create(chatbot=chatbot, expires_at=factories.NOON.replace(year=2020))

    text = shown(admin_client, chatbot)

    assert "Expired" in text
    assert "No active keys." in text


def test_a_role_is_granted_changed_and_removed(admin_client: Client, chatbot: Chatbot) -> None:
    user = User.objects.create_user("sam", is_staff=True)

    for role in ("support", "officer", "officer", ""):
        assert_saved(save(admin_client, chatbot, "members", user=user.pk, role=role), chatbot, "members")
        assert [one.role for one in Membership.objects.filter(user=user, chatbot=chatbot)] == ([role] if role else [])

    assert recorded("membership.set") == [
        {"user": user.pk, "role": "support"},
        {"user": user.pk, "role": "officer"},
    ]
    assert recorded("membership.removed") == [{"user": user.pk}]


def test_a_role_is_for_active_staff_and_can_be_removed_from_former_staff(admin_client, chatbot) -> None:
    outsider = User.objects.create_user("eve")
    leaver = staff(chatbot, Role.OFFICER)
    User.objects.filter(pk=leaver.pk).update(is_active=False)

    for data in ({"user": outsider.pk, "role": "viewer"}, {"user": "nobody", "role": "viewer"}, {"user": ""}):
        assert_refused(save(admin_client, chatbot, "members", **data), "User")
    assert "Cannot log in" in shown(admin_client, chatbot)
    assert_refused(save(admin_client, chatbot, "members", user=leaver.pk, role="support"), "active staff")
    assert_saved(save(admin_client, chatbot, "members", user=leaver.pk, role=""), chatbot, "members")
    assert not Membership.objects.exists()


def test_a_concurrent_revocation_is_reported(admin_client: Client, chatbot: Chatbot) -> None:
    new = create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="CRM", actor="command")
    revoke_api_key(prefix=new.api_key.prefix, actor="command")

    answer = save(admin_client, chatbot, f"keys/{new.api_key.prefix}/limit", rate_limit="5")

    assert_refused(answer, "This key is already revoked.")
