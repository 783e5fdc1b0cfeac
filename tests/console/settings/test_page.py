"""The pages of settings: contents by role, number of queries; settings are saved with log entries or refused."""

import re
from operator import itemgetter
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
from tests.console.settings.saving import (
    PAGES,
    assert_refused,
    assert_saved,
    page_of,
    page_shown,
    recorded,
    rules_of,
    save,
    shown,
)
from tests.people import Role, client_of, member, staff

# Each action by its role, those of officers with form fields.
FOR_OFFICERS = {
    "compliance": {"on": "False"},
    "extracts": {"on": "True"},
    "retention": {"days": ""},
    "uci": {"uci": "plan", "understood": "on"},
    "assurance": {"export_assurance": "verified"},
    "variables": {"category": "custom", "name": "customer_id"},
    "bucket/check": {},
    "bucket/exports": {"csv_dialect": "excel_comma", "export_formats": ["csv", "html"]},
    "callbacks/test": {},
}
FOR_SUPERUSERS = (
    *("bucket", "credentials", "credentials/record", "credentials/{credential}/revoke", "rules", "keys"),
    *("keys/identity", "callbacks", "members", "keys/{prefix}/revoke", "keys/{prefix}/limit"),
)


def test_it_shows_a_member_all_but_secrets_and_only_the_controls_of_the_role(chatbot: Chatbot) -> None:
    client_s = ClientBucket("acme-files", "eu-west-3", access_key_id="AKIA1", secret="a-client-s-secret")
    set_bucket(chatbot=chatbot, client=client_s, actor="command")
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url="https://hooks.example.com/a-secret-path")
    new = create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="Our CRM", actor="command")
    factories.conversation_of(chatbot, "42", messages=0)

    stored = Bucket.objects.get(chatbot=chatbot).secret_encrypted
    readable = ("acme-files", "AKIA1", "Our CRM", new.api_key.prefix, "member_id", "https://hooks.example.com<")
    for role in Role:
        text = shown(member(chatbot, role), chatbot)
        for word in (
            *readable,
            "Current UCI",
            "User channel",
            "Custom",
            "1 conversation<",
            role.label,
            "s3:PutObject",
        ):
            assert word in text
        for secret in ("a-client-s-secret", "a-secret-path", str(new.secret), stored, new.api_key.secret_encrypted):
            assert secret not in text
        offered = set(re.findall(rf'action="{page_of(chatbot)}([a-z/]+)/"', text))
        assert offered == (set(FOR_OFFICERS) if role == Role.OFFICER else set())
        assert ('type="radio"' in text) == (role == Role.OFFICER)


def test_a_superuser_is_offered_every_action(admin_client: Client, chatbot: Chatbot, settings: Settings) -> None:
    settings.IAM_ACCESS_KEY_ID = "AKIAIAM"
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url="https://hooks.example.com/hook")
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
        assert checking.get(page_of(chatbot, action)).status_code == (200 if action in PAGES else 405)
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

    def asked() -> dict[str, int]:
        made = {}
        for page in ("", *PAGES):
            with CaptureQueriesContext(connection) as captured:
                shown(admin_client, chatbot, page)
            made[page] = len(captured)
        return made

    fill(range(3))
    few = asked()
    fill(range(3, 40))
    assert asked() == few
    assert max(few.values()) <= 10, few
    assert few["compliance"] == few[""], "its sections show the chatbot alone"


def test_it_counts_the_conversations_of_the_present_and_the_former_uci(admin_client, chatbot, neighbour, monkeypatch):
    monkeypatch.setattr(usage, "MAX_PER_UCI", 2)
    for value in ("1", "1", "2"):
        factories.conversation_of(chatbot, value, messages=0)
    designate_uci(chatbot=chatbot, name="plan", actor="command")
    for value in ("gold", "silver"):
        factories.conversation_of(chatbot, value, messages=0)
    factories.conversation_of(neighbour, "1", messages=0)

    counted = re.findall(r">((?:more than )?\d+ conversations)<", shown(admin_client, chatbot, "identity"))

    assert sorted(counted) == ["2 conversations", "more than 2 conversations"]


def test_the_sample_calls_are_for_this_chatbot(admin_client: Client, chatbot: Chatbot) -> None:
    def calls() -> str:
        page = page_of(chatbot, "compliance")
        text = admin_client.get(page, HTTP_HOST="testserver", secure=True).text
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


def test_an_officer_switches_compliance_and_extracts(chatbot: Chatbot) -> None:
    officer = staff(chatbot, Role.OFFICER)
    client = client_of(officer)

    assert_saved(save(client, chatbot, "compliance", on="False"), chatbot, "compliance")
    assert "Data compliance turned off" in shown(client, chatbot, "compliance")
    assert_saved(save(client, chatbot, "extracts", on="True"), chatbot, "extracts")

    chatbot.refresh_from_db()
    assert (chatbot.compliance_enabled, chatbot.extracts_enabled) == (False, True)
    assert recorded("chatbot.changed") == [
        {"setting": "compliance_enabled", "value": False},
        {"setting": "extracts_enabled", "value": True},
    ]
    assert set(ChangeLogEntry.objects.values_list("actor", flat=True)) == {f"user:{officer.pk}"}


def test_a_refused_form_stays_on_its_page(admin_client: Client) -> None:
    bare = factories.ChatbotFactory.create(slug="bare")
    refused = {
        "rules": "compliance",
        "uci": "identity",
        "variables": "identity",
        "assurance": "identity",
        "extracts": "bucket",
        "bucket/check": "bucket",
        "credentials/record": "bucket",
        "retention": "retention",
        "keys": "keys",
        "keys/identity": "keys",
        "callbacks": "callbacks",
        "callbacks/test": "callbacks",
        "members": "members",
    }
    for action, page in refused.items():
        answer = save(admin_client, bare, action, on="True", days="1")

        assert_refused(answer, "")
        assert page_shown(answer) == page, action


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
    assert "Former UCI" in shown(client, chatbot, "identity")


def test_an_officer_demands_verified_identities_of_exports(chatbot: Chatbot, neighbour: Chatbot) -> None:
    officer = staff(chatbot, Role.OFFICER)
    client = client_of(officer)
    assert "Identities in exports" in shown(client, chatbot, "identity")

    assert_saved(save(client, chatbot, "assurance", export_assurance="verified"), chatbot, "assurance")
    assert_refused(save(client, chatbot, "assurance", export_assurance="certain"), "Select a valid choice")
    assert_refused(save(client, chatbot, "assurance"), "This field is required")

    assert list(Chatbot.objects.order_by("pk").values_list("slug", "export_assurance")) == [
        (chatbot.slug, "verified"),
        (neighbour.slug, "any"),
    ]
    assert recorded("chatbot.changed") == [{"setting": "export_assurance", "value": "verified"}]
    assert "Verified only" in shown(member(chatbot, Role.VIEWER), chatbot, "identity")


def test_an_officer_chooses_the_presets_of_exports(chatbot: Chatbot, neighbour: Chatbot) -> None:
    client = client_of(staff(chatbot, Role.OFFICER))
    formats = ["html", "csv"]
    saved = save(client, chatbot, "bucket/exports", csv_dialect="excel_comma", export_formats=formats)
    assert_saved(saved, chatbot, "bucket")
    refused = save(client, chatbot, "bucket/exports", csv_dialect="tabs", export_formats=formats)
    assert_refused(refused, "Select a valid choice")
    assert_refused(save(client, chatbot, "bucket/exports"), "This field is required")

    presets = {one.slug: (one.csv_dialect, one.export_formats) for one in Chatbot.objects.all()}
    assert presets == {chatbot.slug: ("excel_comma", "csv html"), neighbour.slug: ("standard", "csv")}
    assert sorted(recorded("chatbot.changed"), key=itemgetter("setting")) == [
        {"setting": "csv_dialect", "value": "excel_comma"},
        {"setting": "export_formats", "value": "csv html"},
    ]
    viewed = shown(member(chatbot, Role.VIEWER), chatbot, "bucket")
    assert "Excel, separated by commas" in viewed
    assert "CSV, pages" in viewed


def test_an_unsuitable_variable_is_refused_as_uci(chatbot: Chatbot, neighbour: Chatbot) -> None:
    factories.VariableFactory.create(chatbot=chatbot, name="browser", category="system", is_uci=False)
    factories.VariableFactory.create(chatbot=neighbour, name="of_the_neighbour", is_uci=False)
    client = client_of(staff(chatbot, Role.OFFICER))

    for uci in ("browser", "of_the_neighbour", ""):
        assert_refused(save(client, chatbot, "uci", uci=uci, understood="on"), "Unique Chatter Identifier")
    assert factories.uci_of(chatbot).name == "member_id"
    assert 'value="browser"' not in shown(client, chatbot, "identity")


def test_a_bare_chatbot_says_what_is_missing_and_its_first_uci_requires_no_confirmation(admin_client: Client) -> None:
    bare = factories.ChatbotFactory.create(slug="bare")
    text = shown(admin_client, bare, "", "identity")
    for gap in ("No UCI designated", "No bucket: exports cannot be filed", "No key for the API", "No variables yet"):
        assert gap in text
    for page in ("identity", "keys", "members"):
        text = shown(admin_client, bare, page)
        marked = re.findall(
            r'/bare/(\w+)/"[^>]*>[^<]*<svg class="icon" role="img" aria-label="needs attention"', text
        )
        assert marked == ["identity", "bucket", "keys"]
        assert ("No UCI designated" in text, "No key for the API" in text) == (page == "identity", page == "keys")

    made = save(admin_client, bare, "variables", category="custom", name="Kunden Nr")
    assert_saved(made, bare, "uci")
    assert_saved(save(admin_client, bare, "uci", uci="Kunden Nr"), bare, "uci")

    assert factories.uci_of(bare).name == "Kunden Nr"
    assert recorded("variable.created") == [{"variable": "Kunden Nr", "category": "custom"}]


def test_a_variable_is_refused_at_its_field_with_the_dialog_open(admin_client: Client, chatbot: Chatbot) -> None:
    for category, name, message in (
        ("user_channel", "Plan B", "lower-case letters, digits and underscores"),
        ("custom", " edge", "no space at either end"),
        ("custom", "plan", "is a user_channel variable already"),
        ("custom", "", "This field is required"),
        ("system", "browser", "Select a valid choice"),
    ):
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


def test_a_deadline_is_a_rule_or_a_number_of_days(admin_client: Client, chatbot: Chatbot) -> None:
    for change, stored, text in (
        ({"deadline": "ccpa", "deadline_days": ""}, "ccpa", "45 days (CCPA)"),
        ({"deadline": "days", "deadline_days": 20}, "20", "20 days"),
        ({"deadline": "days", "deadline_days": 21}, "21", "21 days"),
        ({"deadline": "gdpr", "deadline_days": 21}, "gdpr", "One month (GDPR)"),
    ):
        assert_saved(save(admin_client, chatbot, "rules", **rules_of(chatbot, **change)), chatbot, "rules")
        chatbot.refresh_from_db()
        assert chatbot.deadline == stored
        assert text in shown(member(chatbot, Role.VIEWER), chatbot, "compliance")
    assert recorded("chatbot.changed")[-1] == {"setting": "deadline", "value": "gdpr"}
    answer = save(admin_client, chatbot, "rules", **rules_of(chatbot, deadline="days", deadline_days=""))
    assert_refused(answer, "Enter the number of days.")


def test_a_setting_changed_by_another_user_is_not_overwritten(admin_client: Client, chatbot: Chatbot) -> None:
    before = shown(admin_client, chatbot, "compliance")
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


def test_a_bad_setting_is_refused_at_its_field(admin_client: Client, chatbot: Chatbot) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"timezone": "Mars/Olympus"}, "Unknown time zone"),
        ({"timezone": "Europe/Pariss"}, "Did you mean Europe/Paris?"),
        ({"name": ""}, "This field is required"),
        ({"grace_minutes": -1}, "greater than or equal to 0"),
        ({"max_conversations_per_deletion": 2**40}, "less than or equal to"),
        ({"callback_url": "ftp://hooks.example.com/"}, "Use a URL such as"),
        ({"deadline_days": 366, "deadline": "days"}, "less than or equal to 365"),
    ]
    for change, message in wrong:
        answer = save(admin_client, chatbot, "rules", **rules_of(chatbot, **change))

        assert_refused(answer, message.replace("'", "&#x27;"))
        field = next(iter(change))
        assert f'id="rules_{field}_error"' in answer.text
        assert 'aria-invalid="true"' in answer.text
        assert f'href="#rules_{field}"' in answer.text
    assert not ChangeLogEntry.objects.filter(event="chatbot.changed").exists()


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
    assert "Cannot log in" in shown(admin_client, chatbot, "members")
    assert_refused(save(admin_client, chatbot, "members", user=leaver.pk, role="support"), "active staff")
    assert_saved(save(admin_client, chatbot, "members", user=leaver.pk, role=""), chatbot, "members")
    assert not Membership.objects.exists()
