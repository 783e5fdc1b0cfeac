from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot, Membership
from compliance.models import ComplianceRequest
from tests import factories

LIST = "admin:compliance_compliancerequest_changelist"
VALUE = "jane.doe@example.org"

Role = Membership.Role
Status = ComplianceRequest.Status

HELD = {"status": Status.ON_HOLD, "hold_reason": "too_many_conversations"}
FAILED = {"status": Status.FAILED, "error_code": "storage_unavailable"}


def member(chatbot: Chatbot, role: Role) -> Client:
    user = User.objects.create_user("staff", is_staff=True)
    Membership.objects.create(chatbot=chatbot, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def held(chatbot: Chatbot) -> ComplianceRequest:
    return factories.deletion_of(chatbot, VALUE, held_at=timezone.now(), **HELD)


def failed(chatbot: Chatbot) -> ComplianceRequest:
    return factories.deletion_of(chatbot, VALUE, failed_at=timezone.now(), attempts=5, **FAILED)


def waiting(chatbot: Chatbot) -> ComplianceRequest:
    return factories.deletion_of(chatbot, VALUE)


def act(client: Client, action: str, *requests: ComplianceRequest) -> str:
    """Select requests, choose an action, and return the page that comes then."""
    selected = {"action": action, "_selected_action": [str(request.pk) for request in requests]}
    return client.post(reverse(LIST), selected, follow=True).text


def status_of(request: ComplianceRequest) -> str:
    return ComplianceRequest.objects.get(pk=request.pk).status


def page_of(request: ComplianceRequest) -> str:
    return reverse("admin:compliance_compliancerequest_change", args=[request.pk])


def test_it_lists_requests_and_opens_one_without_naming_the_chatter(admin_client: Client, chatbot: Chatbot) -> None:
    request = held(chatbot)

    listed, opened = admin_client.get(reverse(LIST)), admin_client.get(page_of(request))

    assert listed.status_code == opened.status_code == 200
    assert "More conversations than the chatbot&#x27;s guard allows" in listed.text
    for answer in (listed, opened):
        assert str(request.pk) in answer.text
        assert VALUE not in answer.text
    assert VALUE not in str(request)


@pytest.mark.parametrize(
    ("action", "make", "status"),
    [
        ("approve", held, Status.ACCEPTED),
        ("reject", held, Status.REJECTED),
        ("retry", failed, Status.ACCEPTED),
        ("cancel", waiting, Status.CANCELLED),
    ],
)
def test_it_acts_through_the_operation_in_the_name_of_the_user(
    admin_client: Client, chatbot: Chatbot, action: str, make: Callable[[Chatbot], ComplianceRequest], status: str
) -> None:
    request = make(chatbot)

    text = act(admin_client, action, request)

    assert "1 request: " in text
    assert status_of(request) == status
    entry = ChangeLogEntry.objects.get(request_id=request.pk)
    assert entry.actor == f"user:{User.objects.get().pk}"


def test_it_shows_why_an_operation_refused(admin_client: Client, chatbot: Chatbot) -> None:
    first, second, third = waiting(chatbot), waiting(chatbot), held(chatbot)

    text = act(admin_client, "approve", first, second, third)

    assert "2 requests: The request is accepted, not on hold." in text
    assert "1 request: approved" in text
    assert status_of(third) == Status.ACCEPTED


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (Role.VIEWER, set()),
        (Role.SUPPORT, {"retry", "cancel"}),
        (Role.OFFICER, {"approve", "reject", "retry", "cancel"}),
    ],
)
def test_it_offers_and_carries_out_what_the_role_allows(chatbot: Chatbot, role: Role, may: set[str]) -> None:
    client = member(chatbot, role)
    made = {"approve": held, "reject": held, "retry": failed, "cancel": waiting}
    requests = {action: make(chatbot) for action, make in made.items()}

    page = client.get(reverse(LIST)).text
    assert {action for action in made if f'value="{action}"' in page} == may

    before = {action: request.status for action, request in requests.items()}
    for action, request in requests.items():
        act(client, action, request)
        assert (status_of(request) != before[action]) == (action in may)


def test_it_acts_only_where_the_user_has_the_role(chatbot: Chatbot, neighbour: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    Membership.objects.create(chatbot=neighbour, user=User.objects.get(username="staff"), role=Role.VIEWER)
    ours, theirs = held(chatbot), held(neighbour)

    text = act(client, "approve", ours, theirs)

    assert "1 request: approved" in text
    assert "1 request: Your role in this chatbot does not allow it." in text
    assert (status_of(ours), status_of(theirs)) == (Status.ACCEPTED, Status.ON_HOLD)


def test_it_shows_and_acts_on_nothing_outside_the_scope(chatbot: Chatbot, neighbour: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    theirs = held(neighbour)

    text = act(client, "approve", theirs)

    assert status_of(theirs) == Status.ON_HOLD
    assert str(theirs.pk) not in text
    assert client.get(page_of(theirs)).status_code == 302  # as for one that does not exist


def test_it_changes_nothing_but_by_an_action(admin_client: Client, chatbot: Chatbot) -> None:
    request = held(chatbot)

    assert admin_client.post(page_of(request), {"status": "completed"}).status_code == 403
    delete = reverse("admin:compliance_compliancerequest_delete", args=[request.pk])
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    assert admin_client.get(reverse("admin:compliance_compliancerequest_add")).status_code == 403
    assert "delete_selected" not in admin_client.get(reverse(LIST)).text


def test_it_never_reads_the_value(admin_client: Client, chatbot: Chatbot) -> None:
    request = held(chatbot)

    with CaptureQueriesContext(connection) as queries:
        admin_client.get(reverse(LIST))
        admin_client.get(page_of(request))

    assert not [query for query in queries if "uci_value" in query["sql"]]
