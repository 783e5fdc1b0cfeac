"""Due: the open requests by the day by which they must be answered."""

import re
from datetime import date, datetime, time, timedelta
from html import unescape
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from chatbots.models import Chatbot, Membership
from compliance.models import ComplianceRequest
from compliance.work import due
from console.requests import due_page
from tests.console.made import VALUE, completed, failed, held, waiting
from tests.people import Role, client_of, member, staff

DUE = "/admin/due/"
DAY = timedelta(days=1)
# Clocks go forward in Paris; a Sunday, the last day of week 13.
SUNDAY = date(2031, 3, 30)


def end_of(day: date, zone: str) -> datetime:
    return datetime.combine(day, time(23, 59, 59), ZoneInfo(zone))


def weeks(client: Client, **filters: str) -> dict[str, list[str]]:
    """The ids on the page, by the names of the weeks."""
    answer = client.get(DUE, filters)
    assert answer.status_code == 200
    return {week.name: [str(row.request.pk) for row in week.rows] for week in answer.context["weeks"]}


def ids(*requests: ComplianceRequest) -> list[str]:
    return [str(request.pk) for request in requests]


def zoned(chatbot: Chatbot, zone: str) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(timezone=zone)


def test_it_shows_open_requests_the_overdue_first_then_by_week(chatbot, neighbour, admin_client) -> None:
    now = timezone.now()
    zoned(chatbot, "Europe/Paris")
    in_a_week = waiting(chatbot, due_at=end_of(SUNDAY + DAY, "Europe/Paris"), reference="TICKET-7")
    on_sunday = held(chatbot, due_at=end_of(SUNDAY, "Europe/Paris"))
    late, later = failed(chatbot, due_at=now - DAY), waiting(chatbot, due_at=now - 5 * DAY)
    completed(chatbot, due_at=now - DAY)
    waiting(chatbot, due_at=now - DAY, answered_at=now)
    failed(chatbot, due_at=now - DAY, uci_value=None)  # cannot be retried any more
    theirs = waiting(neighbour, due_at=now - DAY)

    ours = {"overdue": ids(later, late), "week-2031-13": ids(on_sunday), "week-2031-14": ids(in_a_week)}
    assert weeks(member(chatbot)) == ours
    assert weeks(admin_client, chatbot="acme") == ours
    assert weeks(admin_client)["overdue"] == ids(later, late, theirs)
    text = re.sub(r"<.*?>", "", unescape(member(chatbot).get(DUE).text))
    left = (SUNDAY - timezone.localdate(timezone=ZoneInfo("Europe/Paris"))).days
    for expected in (
        "Days are in Europe/Paris.",
        "Week 13, 2031-03-24 to 2031-03-30",
        "Sun 2031-03-30",
        f"in {left:,} days",
        "5 days late",
        "Waits for an officer: over the guard",
        "Waits for a retry: storage_unavailable",
        "Waits for a worker",
        "TICKET-7",
    ):
        assert expected in text
    assert VALUE not in text


def test_each_day_is_one_of_the_requests_chatbot(chatbot: Chatbot, neighbour: Chatbot) -> None:
    """In UTC, both are due within half a day, the one in Auckland on another day than there."""
    zoned(chatbot, "Pacific/Auckland")
    zoned(neighbour, "America/Los_Angeles")
    user = staff(chatbot)
    Membership.objects.create(chatbot=neighbour, user=user, role=Role.VIEWER)
    early = waiting(chatbot, due_at=end_of(SUNDAY, "Pacific/Auckland"))
    late = waiting(neighbour, due_at=end_of(SUNDAY, "America/Los_Angeles"))
    next_one = waiting(chatbot, due_at=end_of(SUNDAY + DAY, "Pacific/Auckland"))
    client = client_of(user)

    assert weeks(client) == {"week-2031-13": ids(early, late), "week-2031-14": ids(next_one)}
    text = client.get(DUE).text
    assert "Days are in the time zone of each chatbot." in text
    assert (text.count("Sun 2031-03-30"), text.count("Mon 2031-03-31")) == (2, 1)
    assert ("Pacific/Auckland" in text, "America/Los_Angeles" in text) == (True, True)
    found = client.get("/admin/requests/", {"due_from": "2031-03-30", "due_to": "2031-03-30"}).context["page"].rows
    assert {str(one.pk) for one in found} == {*ids(early, late)}


def test_a_long_week_leads_to_the_list_of_all_of_it(chatbot: Chatbot, monkeypatch) -> None:
    monkeypatch.setattr(due_page, "MOST_ROWS", 2)
    monkeypatch.setattr(due_page, "MOST_WEEKS", 1)
    now = timezone.now()
    late = [waiting(chatbot, due_at=now - number * DAY) for number in (3, 2, 1)]
    # Overdue and not, on the same day.
    at_once = [waiting(chatbot, due_at=now + timedelta(seconds=number)) for number in (600, 601, 602)]
    much_later = waiting(chatbot, due_at=end_of(SUNDAY, "UTC"))
    client = member(chatbot)

    shown = client.get(DUE).context["weeks"]

    assert [(week.number, week.others) for week in shown] == [(3, 1), (3, 1), (1, 1)]
    assert [row.request.pk for week in shown for row in week.rows] == [one.pk for one in (*late[:2], *at_once[:2])], (
        "those that are due first"
    )
    assert "1 more: list all 3" in client.get(DUE).text
    for week, expected in zip(shown, (late, at_once, [much_later]), strict=True):
        found = client.get(week.list_url).context["page"].rows
        assert {one.pk for one in found} == {one.pk for one in expected}, week.list_url


def test_the_dashboard_leads_to_it_and_nothing_due_is_said(chatbot: Chatbot) -> None:
    client = member(chatbot)
    assert "Nothing is due" in client.get(DUE).text
    waiting(chatbot, due_at=timezone.now() - DAY)
    [url] = re.findall(r'href="([^"]*)">\s*<p class="label">Overdue<', client.get("/admin/").text)
    address = urlsplit(unescape(url))
    assert (address.path, f'id="{address.fragment}"' in client.get(url).text) == (DUE, True)


def test_answered_requests_hide_no_other(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "_MOST_READ", 4)
    monkeypatch.setattr(due, "_FEWEST", 2)
    now = timezone.now()
    for _ in range(2):
        held(chatbot, due_at=now - timedelta(days=40), answered_at=now)
    late = held(chatbot, due_at=now - timedelta(days=1))
    found = due.by_deadline([chatbot.pk])
    assert ([one.id for one in found.requests], found.is_whole) == ([late.pk], True)
