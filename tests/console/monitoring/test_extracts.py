"""The daily extracts in the console: the state of each day, and who may rebuild days."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.test import Client
from django.urls import reverse
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot, Membership
from conversations.models import DailyExtract
from tests.people import client_of, member, staff

Role = Membership.Role
State = DailyExtract.State

DAY = date(2026, 11, 1)


def extract(chatbot: Chatbot, day: date = DAY, **fields: Any) -> DailyExtract:
    """A day whose hosted file is done."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    whole = {
        "starts_at": midnight,
        "ends_at": midnight + timedelta(days=1),
        "state": State.DONE,
        "made_version": 1,
        "key": f"acme/daily_conversations_extracts/{day}.csv",
        "rows": 1_234,
        "bytes": 5_000,
        "sha256": "cd" * 32,
        "finished_at": timezone.now(),
        "expires_at": timezone.now() + timedelta(days=40),
    }
    return DailyExtract.objects.create(chatbot=chatbot, day=day, **(whole | fields))


def failed(chatbot: Chatbot, day: date = DAY, **fields: Any) -> DailyExtract:
    error = {"error_code": "storage_access_denied", "error_detail": "Grant s3:PutObject."}
    return extract(chatbot, day, state=State.FAILED, key=None, made_version=None, **error, **fields)


def listed(client: Client, **parameters: str) -> str:
    answer = client.get(reverse("console:extracts"), parameters)
    assert answer.status_code == 200
    return answer.text


def days_of(text: str) -> list[str]:
    return re.findall(r'<th scope="row" class="first"><time datetime="([^"]+)"', text)


def test_days_are_listed_newest_first_with_their_results(chatbot: Chatbot, neighbour: Chatbot) -> None:
    extract(chatbot)
    failed(chatbot, DAY + timedelta(days=2))
    extract(chatbot, DAY + timedelta(days=1), hosting="client", bucket="acme-privacy", key="days/secret-place.csv")
    extract(neighbour, DAY + timedelta(days=3))
    client = member(chatbot)

    text = listed(client)

    assert days_of(text) == ["2026-11-03", "2026-11-02", "2026-11-01"]
    for expected in ("storage_access_denied", "Grant s3:PutObject.", "1,234", "cd" * 32, "acme-privacy"):
        assert expected in text
    assert "secret-place" not in text
    assert "Rebuild selected days" not in text
    assert days_of(listed(client, state="failed")) == ["2026-11-03"]
    assert days_of(listed(client, state="lost")) == []
    assert client.get(reverse("console:extracts"), {"chatbot": "neighbour"}).status_code == 404


def test_officers_have_days_rebuilt_in_their_own_chatbots(chatbot: Chatbot, neighbour: Chatbot) -> None:
    path = reverse("console:extracts_again")
    ours, theirs = extract(chatbot), extract(neighbour)
    clients = extract(chatbot, DAY + timedelta(days=1), hosting="client", bucket="acme-privacy")
    broken = failed(chatbot, DAY + timedelta(days=2))
    user = staff(chatbot, Role.OFFICER)
    Membership.objects.create(chatbot=neighbour, user=user, role=Role.SUPPORT)
    client = client_of(user)
    offered = re.findall(r'name="selected" value="(\d+)"', listed(client))
    assert offered == [str(broken.pk), str(ours.pk)]

    assert client.get(path).status_code == 405
    assert member(chatbot, Role.SUPPORT).post(path, {"selected": [ours.pk]}).status_code == 403
    assert member(neighbour, Role.OFFICER).post(path, {"selected": [ours.pk]}).status_code == 404
    assert client.post(path, {"selected": [ours.pk, theirs.pk]}).status_code == 403
    assert client.post(path, {"selected": ["1 OR 1"]}).status_code == 404
    assert not ChangeLogEntry.objects.exists()

    selected = {"selected": [ours.pk, clients.pk, broken.pk], "back": reverse("console:extracts") + "?state="}
    page = client.post(path, selected, follow=True).text

    assert "2 days will be rebuilt" in page
    assert "1 skipped" in page
    assert dict(DailyExtract.objects.values_list("pk", "state")) == {
        ours.pk: State.STALE,
        theirs.pk: State.DONE,
        clients.pk: State.DONE,
        broken.pk: State.PENDING,
    }
    entries = ChangeLogEntry.objects.filter(event="extract.ordered", actor=f"user:{user.pk}")
    assert {one.data["day"] for one in entries} == {"2026-11-01", "2026-11-03"}
    assert "Select days first." in client.post(path, {}, follow=True).text


def test_it_pages_without_counting_and_asks_as_much_for_many_days_as_for_few(
    chatbot: Chatbot, neighbour: Chatbot, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    user = staff(chatbot, Role.OFFICER)
    Membership.objects.create(chatbot=neighbour, user=user, role=Role.VIEWER)
    client, asked = client_of(user), []
    for first, last in ((0, 10), (10, 120)):
        for number in range(first, last):
            extract(chatbot, DAY - timedelta(days=number))
        with django_assert_max_num_queries(9) as queries:
            text = listed(client)
        asked.append(len(queries))
        assert not [one for one in queries if "COUNT" in one["sql"] or "OFFSET" in one["sql"]]
    assert asked[0] == asked[1]
    seen = days_of(text)
    while older := re.search(r'href="([^"]+)" rel="next"', text):
        text = client.get(older.group(1).replace("&amp;", "&")).text
        seen += days_of(text)
    assert len(seen) == len(set(seen)) == 120
