"""The list of chatbots, and creating one."""

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from chatbots.models import ApiKey, Bucket, ChangeLogEntry, Chatbot, Variable
from chatbots.operations.keys import create_api_key
from tests import factories
from tests.people import Role, member

LIST = "/admin/chatbots/"
NEW = "/admin/chatbots/new/"
FILLED = {
    "slug": "fresh",
    "name": "Fresh",
    "timezone": "Europe/Paris",
    "variable": "customer_id",
    "category": "custom",
    "enable_compliance": "on",
    "hosted_bucket": "on",
}


def test_it_shows_each_chatbot_with_what_it_lacks(admin_client: Client, chatbot: Chatbot) -> None:
    create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="CRM", actor="command")
    factories.ChatbotFactory.create(slug="bare", compliance_enabled=False)

    text = admin_client.get(f"{LIST}?q=acme").text
    assert "member_id" in text
    assert 'class="gaps"' not in text
    text = admin_client.get(f"{LIST}?q=bare").text
    for gap in ("No UCI designated", "No bucket: exports cannot be filed", "No key for the API"):
        assert gap in text

    Bucket.objects.filter(chatbot=chatbot).update(last_error="storage_access_denied: no")
    ApiKey.objects.update(expires_at=factories.NOON.replace(year=2020))
    text = admin_client.get(f"{LIST}?q=acme").text
    for gap in ("last check failed", "No key for the API"):
        assert gap in text
    factories.ApiKeyFactory.create(chatbot=chatbot)
    assert "No key for the API" not in admin_client.get(f"{LIST}?q=acme").text


def test_it_shows_a_member_only_their_chatbots(chatbot, neighbour) -> None:
    for role in Role:
        client = member(chatbot, role)

        for address in (LIST, f"{LIST}?q=neigh", f"{LIST}?q=%00"):
            text = client.get(address).text
            assert "neighbour" not in text.lower()
            assert NEW not in text
        assert "/admin/settings/acme/" in client.get(LIST).text
        assert client.get(NEW).status_code == client.post(NEW, FILLED).status_code == 403
        assert Chatbot.objects.count() == 2


def test_it_makes_as_many_queries_for_many_chatbots_as_for_few(admin_client: Client, chatbot: Chatbot) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert admin_client.get(LIST).status_code == 200
        return len(captured)

    few = asked()
    for number in range(60):
        factories.ready_chatbot(slug=f"more-{number}")

    assert asked() == few <= 4
    assert 'rel="next"' in admin_client.get(LIST).text


def test_a_superuser_sets_up_a_chatbot_for_requests(admin_client: Client, admin_user: User) -> None:
    assert 'value="Europe/Paris"' in admin_client.get(NEW).text

    answer = admin_client.post(NEW, FILLED)

    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/settings/fresh/")
    made = Chatbot.objects.get(slug="fresh")
    assert (made.name, made.timezone, made.compliance_enabled) == ("Fresh", "Europe/Paris", True)
    assert factories.uci_of(made).name == "customer_id"
    assert made.bucket.hosting == "hosted"
    entries = ChangeLogEntry.objects.filter(chatbot=made)
    assert {entry.actor for entry in entries} == {f"user:{admin_user.pk}"}
    assert {"chatbot.created", "variable.created", "bucket.set"} < {entry.event for entry in entries}


def test_a_chatbot_needs_neither_a_uci_nor_a_bucket_at_first(admin_client: Client) -> None:
    admin_client.post(
        NEW, {"slug": "fresh", "name": "Fresh", "timezone": "UTC", "variable": "", "category": "custom"}
    )

    made = Chatbot.objects.get()
    assert not made.compliance_enabled
    assert not Variable.objects.exists()
    assert not Bucket.objects.exists()


def test_errors_are_shown_at_the_field_and_nothing_is_created(admin_client: Client, chatbot: Chatbot) -> None:
    for change, message in (
        ({"slug": "acme"}, "There is a chatbot"),
        ({"slug": "uploads"}, "names a folder of the service"),
        ({"slug": "no slug"}, "valid"),
        ({"name": ""}, "This field is required"),
        ({"timezone": "Europe/Pariss"}, "Did you mean Europe/Paris?"),
        ({"variable": "No Good", "category": "user_channel"}, "lower-case letters"),
    ):
        answer = admin_client.post(NEW, FILLED | change)

        assert answer.status_code == 200
        assert "Not saved." in answer.text
        assert message in answer.text
    assert Chatbot.objects.count() == 1
