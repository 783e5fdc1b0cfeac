"""Daily extracts and refused identities in the console: what is listed, and who may act on it."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot, Membership
from conversations.identification import GivenIdentity, identify
from conversations.models import Conversation, DailyExtract, RefusedIdentity
from tests.console.filing_pages import Answer, Filer
from tests.conversations.intakes import erase
from tests.factories import NOON, conversation_of
from tests.functional.scans import Watch
from tests.people import client_of, member, staff
from tests.places import asked_about

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


def test_it_pages_without_counting(chatbot, neighbour, django_assert_max_num_queries) -> None:
    user = staff(chatbot, Role.OFFICER)
    Membership.objects.create(chatbot=neighbour, user=user, role=Role.VIEWER)
    client = client_of(user)
    for number in range(60):
        extract(chatbot, DAY - timedelta(days=number))
    with django_assert_max_num_queries(10) as queries:
        text = listed(client)
    assert not [one for one in queries if "COUNT" in one["sql"] or "OFFSET" in one["sql"]]
    seen = days_of(text)
    while older := re.search(r'href="([^"]+)" rel="next"', text):
        text = client.get(older.group(1).replace("&amp;", "&")).text
        seen += days_of(text)
    assert len(seen) == len(set(seen)) == 60


PAGE = "/admin/refused-identities/"
ERASED, STRANGER = "jane.doe@example.org", "john.roe@example.org"


def refused(chatbot: Chatbot) -> tuple[Conversation, UUID]:
    """Name an erased chatter in a stranger's conversation; return it, and the request of the erasure."""
    request_id = erase(chatbot, ERASED, cutoff_at=NOON.replace(year=2027))
    conversation = conversation_of(chatbot, STRANGER, external_id="the-platforms-id")
    identify(chatbot=chatbot, identities=[GivenIdentity(id="the-platforms-id", key="member_id", value=ERASED)])
    return conversation, request_id


def tile(client: Client, query: str = "") -> str:
    """Return what the dashboard says of refused identities, or nothing."""
    text = Answer(client.get(f"/admin/{query}")).text
    return text.partition("Refused identities ")[2].partition(" of erased chatters")[0]


def test_an_officer_sees_the_conversation_the_erasure_and_how_the_value_came(chatbot: Chatbot) -> None:
    conversation, request_id = refused(chatbot)

    page = Answer(member(chatbot, Role.OFFICER).get(PAGE))

    assert reverse("console:conversation", args=[conversation.pk]) in page.links
    assert reverse("console:request", args=[request_id]) in page.links
    assert "Asserted by the client&#x27;s server" in page.html
    assert not any(value in page.html for value in (ERASED, STRANGER, "the-platforms-id"))


def test_the_dashboard_counts_them_for_officers_alone(chatbot: Chatbot, neighbour: Chatbot) -> None:
    officer, superuser = staff(chatbot, Role.OFFICER), staff(neighbour, Role.OFFICER)
    superuser.is_superuser = True
    superuser.save()
    assert tile(client_of(officer)) == "0"
    for one in (chatbot, neighbour):
        refused(one)

    assert tile(client_of(officer)) == "1"
    assert tile(client_of(superuser)) == "2"
    assert tile(client_of(superuser), "?chatbot=acme") == "1"
    assert tile(member(chatbot, Role.SUPPORT)) == ""
    Membership.objects.create(user=officer, chatbot=neighbour, role=Role.VIEWER)
    assert tile(client_of(officer)) == "1"
    assert tile(client_of(officer), "?chatbot=neighbour") == ""


def test_an_officer_sees_only_the_chatbots_of_that_role(chatbot: Chatbot, neighbour: Chatbot) -> None:
    ours, _ = refused(chatbot)
    theirs, _ = refused(neighbour)
    user = staff(chatbot, Role.OFFICER)
    Membership.objects.create(user=user, chatbot=neighbour, role=Role.SUPPORT)

    links = Answer(client_of(user).get(PAGE)).links

    assert reverse("console:conversation", args=[ours.pk]) in links
    assert reverse("console:conversation", args=[theirs.pk]) not in links
    assert client_of(user).get(f"{PAGE}?chatbot=neighbour").status_code == 403
    assert client_of(user).get(f"{PAGE}?chatbot=nobody").status_code == 404
    assert member(chatbot, Role.SUPPORT).get(PAGE).status_code == 403


def test_the_newest_are_first_wherever_their_chatbots_live(chatbot, neighbour, shards) -> None:
    conversations = [refused(one)[0] for one in (chatbot, neighbour)]
    conversations += [conversation_of(one) for one in (chatbot, neighbour)]
    for one in conversations[2:]:
        RefusedIdentity.objects.create(
            chatbot=one.chatbot, conversation=one, request_id=UUID(int=0), way="asserted", expires_at=NOON
        )
    officer = staff(chatbot, Role.OFFICER)
    Membership.objects.create(user=officer, chatbot=neighbour, role=Role.OFFICER)
    client = client_of(officer)
    shards([chatbot], [neighbour])

    with CaptureQueriesContext(connection) as captured:
        links = Answer(client.get(PAGE)).links

    paths = [reverse("console:conversation", args=[one.pk]) for one in conversations]
    assert [link for link in links if link in paths] == paths[::-1]
    assert asked_about(RefusedIdentity, captured, if_it_has="ARRAY(SELECT") == [[chatbot.pk], [neighbour.pk]]


def test_a_refusal_leads_to_a_deletion_of_the_conversation_alone(chatbot: Chatbot, filer: Filer) -> None:
    conversation, _ = refused(chatbot)
    row = {"conversation": conversation.pk, "action": "delete", "alone": "on"}
    html = Answer(member(chatbot, Role.OFFICER).get(PAGE)).html
    assert all(f'name="{name}" value="{value}"' in html for name, value in row.items())
    assert reverse("console:file_request", args=[chatbot.slug]) in html

    form = filer.post(row).form("preview")
    assert form["subject"] == [form["offered"][-1]]
    preview = filer.post(form)

    assert preview.is_preview
    assert "1 conversation by ID" in preview.text
    assert STRANGER not in preview.text


def test_the_list_has_pages_and_says_when_it_is_empty(chatbot: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    assert "No identity was refused" in Answer(client.get(PAGE)).text
    conversation, _ = refused(chatbot)
    one = RefusedIdentity.objects.values("chatbot_id", "conversation_id", "way", "expires_at").get()
    RefusedIdentity.objects.bulk_create(RefusedIdentity(**one, request_id=UUID(int=number)) for number in range(60))

    page = Answer(client.get(PAGE))

    link = reverse("console:conversation", args=[conversation.pk])
    assert page.links.count(link) == 50
    [older] = [each for each in page.links if "cursor=" in each]
    assert Answer(client.get(older)).links.count(link) == 11


@pytest.mark.one_postgresql(reason="plans")
def test_a_page_reads_the_newest_days_of_each_chatbot_alone(chatbot, neighbour, admin_client, monkeypatch) -> None:
    """PostgreSQL, which does not count whose they are, expects fewer than a page, and would sort all."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO conversations_dailyextract (chatbot_id, day, starts_at, ends_at, state, version, hosting,"
            " bucket, attempts, error_code, error_detail)"
            " SELECT id, day, day, day + 1, 'expired', 1, 'hosted', '', 0, '', ''"
            "   FROM chatbots_chatbot"
            "  CROSS JOIN LATERAL (SELECT current_date - n AS day FROM generate_series(1, 2000) AS n) AS d"
        )
        cursor.execute("ANALYZE conversations_dailyextract")
    watch = Watch(["conversations_dailyextract"], most_entries=500, monkeypatch=monkeypatch)
    with watch.step("the list"):
        assert len(days_of(listed(admin_client))) == 50
    assert not watch.findings, str(watch.findings[0])
