"""The list of requests: scope, filters, number of queries; deciding on several at once."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot, Membership
from compliance.models import ComplianceRequest
from compliance.requests import queries
from tests import factories
from tests.console.made import VALUE, Status, completed, failed, held, status_of, waiting
from tests.people import Role, client_of, member, staff

LIST = "/admin/requests/"


def shown(client: Client, **filters: str) -> list[str]:
    """The ids on a page of the list, in order."""
    answer = client.get(f"{LIST}?{urlencode(filters)}")
    assert answer.status_code == 200
    return [str(one.pk) for one in answer.context["page"].rows]


def ids(*requests: ComplianceRequest) -> list[str]:
    return [str(request.pk) for request in requests]


def decide(
    client: Client, choice: str, *requests: ComplianceRequest, confirmed: bool = True, held_for: Sequence[str] = ()
) -> str:
    """Select requests and choose a decision; return the next page."""
    body = {"choice": choice, "selected": ids(*requests), "held_for": held_for}
    body |= {"confirmed": "yes"} if confirmed else {}
    answer = client.post(reverse("console:requests_decide"), body, follow=True)
    assert answer.status_code in (200, 403)
    return answer.text


def test_the_list_shows_the_users_requests_newest_first_without_personal_data(chatbot, neighbour, admin_client):
    ours = [waiting(chatbot), held(chatbot, reference="TICKET-7"), failed(chatbot), completed(chatbot)]
    theirs = [waiting(neighbour)]

    assert shown(member(chatbot)) == ids(*reversed(ours))
    assert shown(admin_client) == ids(*reversed([*ours, *theirs]))
    text = member(chatbot).get(LIST).text
    assert VALUE not in text
    for expected in (
        "Accepted",
        "On hold",
        "Over the guard",
        "Failed",
        "storage_unavailable",
        "Completed",
        "TICKET-7",
    ):
        assert expected in text


# Filters, and the indexes of the matching requests below; None for all.
FILTERS: list[tuple[dict[str, str], set[str] | None]] = [
    ({"view": "needs-attention"}, {"held", "failed", "overdue"}),
    ({"view": "needs-attention", "kind": "export"}, set()),
    ({"view": "needs-attention", "status": "failed"}, {"failed"}),
    ({"view": "needs-attention", "status": "completed"}, set()),
    ({"view": "in-progress"}, {"overdue", "soon", "export"}),
    ({"status": "completed"}, {"done"}),
    ({"hold_reason": "too_many_conversations"}, {"held"}),
    ({"hold_reason": "export_pending"}, set()),
    ({"hold_reason": "too_many_conversations", "status": "failed"}, set()),
    ({"due": "overdue"}, {"overdue"}),
    ({"due": "soon"}, {"soon", "held"}),
    ({"due": "soon", "status": "on_hold"}, {"held"}),
    ({"kind": "export"}, {"export"}),
    ({"origin": "console"}, {"held"}),
    ({"reference": "TICKET-7"}, {"failed"}),
    ({"received_from": "2026-01-01", "received_to": "2999-01-01"}, None),
    ({"received_to": "2026-01-01"}, set()),
    ({"received_to": "9999-12-31"}, None),
    ({"received_from": "9999-12-31"}, set()),
    ({"received_from": "0001-01-01"}, None),
    ({"received_to": "0001-01-01"}, set()),
]


def test_it_filters(chatbot: Chatbot) -> None:
    now = timezone.now()
    made = {
        "held": held(chatbot, origin="console", received_at=now - timedelta(days=3), due_at=now + timedelta(days=2)),
        "failed": failed(chatbot, reference="TICKET-7"),
        "forgotten": failed(chatbot, uci_value=None),
        "overdue": waiting(chatbot, due_at=now - timedelta(hours=1)),
        "soon": waiting(chatbot, received_at=now - timedelta(days=3), due_at=now + timedelta(days=2)),
        "export": factories.export_of(chatbot, VALUE),
        "done": completed(chatbot, due_at=now - timedelta(days=1)),
    }
    client = member(chatbot)
    for filters, fit in FILTERS:
        expected = set(made) if fit is None else fit
        assert set(shown(client, **filters)) == {str(made[name].pk) for name in expected}, filters


def test_days_are_in_the_chatbots_time_zone_as_on_the_dashboard(chatbot: Chatbot, neighbour: Chatbot) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(timezone="Asia/Tokyo")
    at = (timezone.now() - timedelta(days=2)).replace(hour=20, minute=0)  # there the next day has begun
    filed = waiting(chatbot, id=queries.first_id(at))
    ComplianceRequest.objects.filter(pk=filed.pk).update(received_at=at)
    utc, tokyo = at.date().isoformat(), (at + timedelta(days=1)).date().isoformat()
    user = staff(chatbot)

    counted = f"kind=deletion&amp;received_from={tokyo}&amp;received_to={tokyo}"
    assert counted in client_of(user).get("/admin/").text
    days = {day: {"received_from": day, "received_to": day} for day in (utc, tokyo)}
    assert shown(client_of(user), **days[tokyo]) == ids(filed)
    assert shown(client_of(user), **days[utc]) == []
    assert "Filed from (Asia/Tokyo)" in client_of(user).get(LIST).text

    Membership.objects.create(chatbot=neighbour, user=user, role=Role.VIEWER)
    assert shown(client_of(user), chatbot="acme", **days[tokyo]) == ids(filed)
    assert shown(client_of(user), **days[utc]) == ids(filed)
    assert "Filed from (UTC)" in client_of(user).get(LIST).text


def test_due_requests_are_marked_in_words(chatbot: Chatbot) -> None:
    waiting(chatbot, due_at=timezone.now() - timedelta(hours=1))
    now = timezone.now()
    waiting(chatbot, received_at=now - timedelta(days=3), due_at=now + timedelta(days=2))
    waiting(chatbot, due_at=now + timedelta(days=2))  # due soon from the start
    text = member(chatbot).get(LIST).text
    assert (text.count("Overdue</span>"), text.count("Due soon</span>")) == (1, 1)


def test_a_bad_filter_and_an_empty_list_are_explained(chatbot: Chatbot) -> None:
    client = member(chatbot)
    assert "No requests have been filed yet." in client.get(LIST).text
    assert "Nothing needs attention" in client.get(f"{LIST}?view=needs-attention").text
    waiting(chatbot)
    assert "No requests match these filters." in client.get(f"{LIST}?status=failed").text
    assert "by its reference for 90 days after it has ended" in client.get(f"{LIST}?reference=T-1").text
    assert "by its reference" not in client.get(f"{LIST}?status=failed").text
    assert client.get(f"{LIST}?view=nothing").status_code == 404
    refused = client.get(f"{LIST}?status=asleep&reference={VALUE.replace('@', '%40')}")
    assert "Some filters are invalid." in refused.text
    assert refused.context["page"].rows == []


@pytest.mark.long(reason="each list, with many rows", beyond=1)
@pytest.mark.parametrize("view", ["all", "needs-attention", "in-progress"])
def test_its_queries_do_not_grow_with_chatbots_and_requests(admin_client, chatbot, view) -> None:
    held(chatbot)
    waiting(chatbot, due_at=timezone.now() - timedelta(hours=1))
    address = f"{LIST}?view={view}"
    admin_client.get(address)
    with CaptureQueriesContext(connection) as few:
        assert admin_client.get(address).context["page"].rows
    others = [factories.ready_chatbot(slug=f"other-{number}") for number in range(5)]
    made = several(others, 12, **(HELD if view == "needs-attention" else {}))

    with CaptureQueriesContext(connection) as many:
        rows = admin_client.get(address).context["page"].rows

    assert ids(*rows) == ids(*reversed(made))[:50]
    assert len(many) == len(few) <= 9
    assert not [one for one in many if "count(" in one["sql"].lower()]


HELD = {"status": "on_hold", "hold_reason": "awaiting_approval", "held_at": Now()}


def several(chatbots: list[Chatbot], number: int, **fields: Any) -> list[ComplianceRequest]:
    """Requests of these chatbots in turn, as many of each."""
    owned = [fields | {"chatbot": one, "variable": factories.uci_of(one)} for one in chatbots] * number
    return ComplianceRequest.objects.bulk_create([factories.RequestFactory.build(**one) for one in owned])


def test_pages_follow_each_other_over_several_chatbots(admin_client: Client, chatbot: Chatbot, neighbour: Chatbot):
    made = several([chatbot, neighbour], 60, **HELD)
    newest = list(reversed(ids(*made)))

    first = admin_client.get(f"{LIST}?view=needs-attention")
    second = admin_client.get(first.context["page"].next_url)
    third = admin_client.get(second.context["page"].next_url)
    again = admin_client.get(third.context["page"].previous_url)

    pages = [[str(one.pk) for one in page.context["page"].rows] for page in (first, second, third, again)]
    assert pages == [newest[:50], newest[50:100], newest[100:], newest[50:100]]
    assert third.context["page"].next_url is None


@pytest.mark.parametrize(
    ("choice", "make", "status"),
    [("approve:expected_volume", held, Status.ACCEPTED), ("cancel:filed_by_mistake", waiting, Status.CANCELLED)],
)
def test_selected_requests_are_decided_after_a_confirmation(chatbot, choice, make, status) -> None:
    user = staff(chatbot, Role.OFFICER)
    selected, other = [make(chatbot), make(chatbot)], make(chatbot)
    before = status_of(other)

    asked = decide(client_of(user), choice, *selected, confirmed=False)
    assert [status_of(one) for one in selected] == [before] * 2
    assert all(str(one.pk) in asked for one in selected)
    text = decide(client_of(user), choice, *selected)

    assert "2 requests: " in text
    assert [status_of(one) for one in selected] == [status] * 2
    assert status_of(other) == before
    entries = ChangeLogEntry.objects.filter(request_id__in=[one.pk for one in selected]).exclude(
        event="request.shown"
    )
    assert [(entry.actor, entry.data) for entry in entries] == [
        (f"user:{user.pk}", {"reason": choice.partition(":")[2]})
    ] * 2


def test_refused_decisions_are_explained(chatbot: Chatbot) -> None:
    first, second, third = waiting(chatbot), waiting(chatbot), held(chatbot)

    text = decide(member(chatbot, Role.OFFICER), "approve:other", first, second, third)

    assert "2 requests: The request is accepted, not on hold." in text
    assert "1 request: approved" in text
    assert status_of(third) == Status.ACCEPTED


def test_only_requests_still_held_as_shown_are_approved(chatbot: Chatbot) -> None:
    same, other, fresh = held(chatbot), held(chatbot, "export_pending"), waiting(chatbot)
    shown = decide(member(chatbot, Role.OFFICER), "approve:other", same, other, fresh, confirmed=False)
    seen = [f"{same.pk}:too_many_conversations", f"{other.pk}:export_pending", f"{fresh.pk}:accepted"]
    assert all(f'name="held_for" value="{one}"' in shown for one in seen)
    for request in (other, fresh):
        again = {"status": "on_hold", "hold_reason": "awaiting_approval", "held_at": Now()}
        ComplianceRequest.objects.filter(pk=request.pk).update(**again)

    text = decide(member(chatbot, Role.OFFICER), "approve:other", same, other, fresh, held_for=seen)

    assert "1 request: approved" in text
    assert "2 requests: It is held for another reason by now." in text
    assert [status_of(one) for one in (same, other, fresh)] == [Status.ACCEPTED, Status.ON_HOLD, Status.ON_HOLD]


MADE: dict[str, Callable[[Chatbot], ComplianceRequest]] = {
    "approve": held,
    "reject": held,
    "retry": failed,
    "cancel": waiting,
}


def test_it_offers_and_carries_out_what_the_role_allows(chatbot: Chatbot) -> None:
    viewer, support, officer = (member(chatbot, role) for role in Role)
    made = {action: make(chatbot) for action, make in MADE.items()}
    allowed: list[tuple[Client, set[str]]] = [(viewer, set()), (support, {"retry", "cancel"}), (officer, set(MADE))]
    for client, may in allowed:
        page = client.get(LIST).text
        assert {action for action in MADE if f'value="{action}:other"' in page} == may
        assert ('name="selected"' in page) == bool(may)
    for action, request in made.items():
        before = status_of(request)
        too_little, enough = (viewer, support) if action in {"retry", "cancel"} else (support, officer)
        decide(too_little, f"{action}:other", request)
        assert status_of(request) == before
        decide(enough, f"{action}:other", request)
        assert status_of(request) != before


def test_decisions_require_the_role_in_the_requests_chatbot(chatbot, neighbour) -> None:
    user = staff(chatbot, Role.OFFICER)
    Membership.objects.create(chatbot=neighbour, user=user, role=Role.VIEWER)
    unseen = factories.ready_chatbot(slug="unseen")
    ours, theirs, hidden = held(chatbot), held(neighbour), held(unseen)

    text = decide(client_of(user), "approve:other", ours, theirs, hidden)

    assert "1 request: approved" in text
    assert "1 request: Your role in this chatbot does not allow it." in text
    assert [status_of(one) for one in (ours, theirs, hidden)] == [Status.ACCEPTED, Status.ON_HOLD, Status.ON_HOLD]
    assert str(hidden.pk) not in decide(client_of(user), "approve:other", theirs, hidden, confirmed=False)


def test_the_user_who_filed_cannot_approve_under_four_eyes(chatbot: Chatbot) -> None:
    Chatbot.objects.update(four_eyes=True)
    user = staff(chatbot, Role.OFFICER)
    own, anothers = held(chatbot, filed_by=f"user:{user.pk}"), held(chatbot)

    text = decide(client_of(user), "approve:other", own, anothers)

    assert "1 request: This chatbot requires four eyes" in text
    assert (status_of(own), status_of(anothers)) == (Status.ON_HOLD, Status.ACCEPTED)


def test_a_missing_choice_or_selection_is_reported(chatbot: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    request = held(chatbot)
    assert "Choose what to do with the selected requests." in decide(client, "", request)
    assert "Select requests first." in decide(client, "approve:other")
    for unknown in ("approve:cause_mended", "reject", "reject:"):
        assert "Select a valid choice." in decide(client, unknown, request)
    assert status_of(request) == Status.ON_HOLD
    assert client.get(reverse("console:requests_decide")).status_code == 405
    garbled = client.post(reverse("console:requests_decide"), {"choice": "approve:other", "selected": "x"})
    assert garbled.status_code == 404


def test_it_redirects_back_to_the_list_and_nowhere_else(chatbot: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    for asked, leads in (
        (f"{LIST}?view=needs-attention", f"{LIST}?view=needs-attention"),
        ("https://evil.example/admin/requests/", LIST),
        ("//evil.example", LIST),
        ("/admin/requests/../../evil", LIST),
        ("/admin/", LIST),
    ):
        body = {"choice": "cancel:other", "selected": ids(waiting(chatbot)), "confirmed": "yes", "back": asked}
        answer = client.post(reverse("console:requests_decide"), body)
        assert (answer.status_code, answer["Location"]) == (302, leads)


def test_the_list_never_reads_the_chatter_of_a_request(admin_client: Client, chatbot: Chatbot) -> None:
    held(chatbot)
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(f"{LIST}?view=needs-attention")
    assert not [one for one in queries if '"uci_value",' in one["sql"] or "_digests" in one["sql"].split("FROM")[0]]
