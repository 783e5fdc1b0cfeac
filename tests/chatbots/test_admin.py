import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from chatbots import operations
from chatbots.models import ApiKey, ChangeLogEntry, Chatbot, Membership
from tests import factories

PAGES = ["chatbot", "bucket", "apikey", "changelogentry"]


def member(chatbot: Chatbot, role: Membership.Role = Membership.Role.VIEWER) -> Client:
    """A browser in which a staff user with one role in one chatbot, and no permission of Django's, is logged in."""
    user = User.objects.create_user("staff", is_staff=True)
    Membership.objects.create(chatbot=chatbot, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def settings_of(chatbot: Chatbot, **changes: object) -> dict[str, object]:
    """What the browser sends for the page of a chatbot: switched-off checkboxes are not sent at all."""
    values = {name: getattr(chatbot, name) for name in operations.SETTINGS} | changes
    counts = {f"{part}-{which}_FORMS": 0 for part in ("variables", "memberships") for which in ("TOTAL", "INITIAL")}
    return counts | {name: value for name, value in values.items() if value is not False}


def page_of(chatbot: Chatbot) -> str:
    return reverse("admin:chatbots_chatbot_change", args=[chatbot.pk])


@pytest.mark.parametrize("page", PAGES)
def test_it_shows_every_list_to_a_superuser(admin_client: Client, chatbot: Chatbot, page: str) -> None:
    factories.ApiKeyFactory.create(chatbot=chatbot)
    operations.designate_uci(chatbot=chatbot, name="plan", actor="command")

    answer = admin_client.get(reverse(f"admin:chatbots_{page}_changelist"))

    assert answer.status_code == 200
    assert "acme" in answer.text


@pytest.mark.parametrize("page", PAGES)
def test_it_shows_a_member_only_their_chatbots(chatbot: Chatbot, neighbour: Chatbot, page: str) -> None:
    for one in (chatbot, neighbour):
        factories.ApiKeyFactory.create(chatbot=one)
        operations.designate_uci(chatbot=one, name="plan", actor="command")

    answer = member(chatbot).get(reverse(f"admin:chatbots_{page}_changelist"))

    assert "acme" in answer.text
    assert "neighbour" not in answer.text.lower()


def test_it_does_not_open_a_chatbot_outside_the_scope(chatbot: Chatbot, neighbour: Chatbot) -> None:
    client = member(chatbot)

    assert client.get(page_of(chatbot)).status_code == 200
    assert client.get(page_of(neighbour)).status_code == 302  # as for one that does not exist


def test_it_shows_nothing_to_staff_without_a_membership(chatbot: Chatbot) -> None:
    user = User.objects.create_user("staff", is_staff=True)
    client = Client()
    client.force_login(user)

    assert client.get(reverse("admin:chatbots_chatbot_changelist")).status_code == 403
    assert "Chatbots" not in client.get(reverse("admin:index")).text


def test_it_shows_no_secret_of_a_key(admin_client: Client, chatbot: Chatbot) -> None:
    new = operations.create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="CRM", actor="command")

    answer = admin_client.get(reverse("admin:chatbots_apikey_change", args=[new.api_key.pk]))

    assert answer.status_code == 200
    assert "CRM" in answer.text
    assert str(new.secret) not in answer.text
    assert new.api_key.secret_encrypted not in answer.text


def test_it_opens_an_entry_of_the_change_log_but_changes_none(admin_client: Client, chatbot: Chatbot) -> None:
    operations.designate_uci(chatbot=chatbot, name="plan", actor="command")
    entry = ChangeLogEntry.objects.get(event="variable.designated_uci")
    page = reverse("admin:chatbots_changelogentry_change", args=[entry.pk])

    assert admin_client.get(page).status_code == 200
    assert admin_client.post(page, {"event": "other.event"}).status_code == 403
    assert admin_client.post(reverse("admin:chatbots_changelogentry_delete", args=[entry.pk])).status_code == 403


def test_it_changes_settings_with_an_entry_in_the_change_log(
    admin_client: Client, admin_user: User, chatbot: Chatbot
) -> None:
    answer = admin_client.post(page_of(chatbot), settings_of(chatbot, four_eyes=True, name="Acme care"))

    assert answer.status_code == 302
    chatbot.refresh_from_db()
    assert (chatbot.four_eyes, chatbot.name) == (True, "Acme care")
    entries = ChangeLogEntry.objects.filter(event="chatbot.changed", chatbot=chatbot)
    assert {entry.actor for entry in entries} == {f"user:{admin_user.pk}"}
    assert [entry.data for entry in entries.order_by("data__setting")] == [
        {"setting": "four_eyes", "value": True},
        {"setting": "name"},
    ]


@pytest.mark.parametrize("change", [{"timezone": "Mars/Olympus"}, {"name": ""}, {"grace_minutes": -1}])
def test_it_refuses_a_bad_setting_in_the_form(
    admin_client: Client, chatbot: Chatbot, change: dict[str, object]
) -> None:
    answer = admin_client.post(page_of(chatbot), settings_of(chatbot, **change))

    assert answer.status_code == 200
    assert "errorlist" in answer.text
    assert not ChangeLogEntry.objects.filter(event="chatbot.changed").exists()


@pytest.mark.parametrize("role", Membership.Role)
def test_it_lets_no_member_change_a_chatbot(chatbot: Chatbot, role: Membership.Role) -> None:
    client = member(chatbot, role)

    assert client.post(page_of(chatbot), settings_of(chatbot, four_eyes=True)).status_code == 403
    assert "memberships-TOTAL_FORMS" not in client.get(page_of(chatbot)).text


def test_it_gives_changes_and_takes_a_membership(admin_client: Client, chatbot: Chatbot) -> None:
    user = User.objects.create_user("sam", is_staff=True)
    one = {"memberships-TOTAL_FORMS": 1, "memberships-0-user": user.pk, "memberships-0-chatbot": chatbot.pk}

    admin_client.post(page_of(chatbot), settings_of(chatbot) | one | {"memberships-0-role": "support"})
    membership = Membership.objects.get()
    assert (membership.user, membership.chatbot, membership.role) == (user, chatbot, "support")

    one |= {"memberships-INITIAL_FORMS": 1, "memberships-0-id": membership.pk}
    admin_client.post(page_of(chatbot), settings_of(chatbot) | one | {"memberships-0-role": "officer"})
    membership.refresh_from_db()
    assert membership.role == "officer"

    gone = {"memberships-0-role": "officer", "memberships-0-DELETE": "on"}
    admin_client.post(page_of(chatbot), settings_of(chatbot) | one | gone)
    assert not Membership.objects.exists()
    events = ChangeLogEntry.objects.filter(event__startswith="membership").order_by("id")
    assert list(events.values_list("event", "data")) == [
        ("membership.set", {"user": user.pk, "role": "support"}),
        ("membership.set", {"user": user.pk, "role": "officer"}),
        ("membership.removed", {"user": user.pk}),
    ]


@pytest.mark.parametrize(
    "filters", ["chatbot=acme", "event=variable.designated_uci", "chatbot=%00", "event=none.such"]
)
def test_it_filters_and_bears_what_no_filter_offers(admin_client: Client, chatbot: Chatbot, filters: str) -> None:
    operations.designate_uci(chatbot=chatbot, name="plan", actor="command")

    answer = admin_client.get(reverse("admin:chatbots_changelogentry_changelist") + f"?{filters}")

    assert answer.status_code == 200
    found = "1 change log entry" in answer.text
    assert found == ("acme" in filters or "designated" in filters)


def test_it_refuses_to_change_what_is_no_setting(chatbot: Chatbot) -> None:
    with pytest.raises(ValidationError, match="cannot be changed"):
        operations.change_settings(chatbot=chatbot, changes={"slug": "other"}, actor="command")

    chatbot.refresh_from_db()
    assert chatbot.slug == "acme"


def test_it_records_no_setting_that_stays_as_it_is(chatbot: Chatbot) -> None:
    operations.change_settings(chatbot=chatbot, changes={"timezone": chatbot.timezone}, actor="command")

    assert not ChangeLogEntry.objects.filter(event="chatbot.changed").exists()
