"""The day on which a person asked: every way of filing takes it, and the deadline counts from it."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from chatbots.models import Chatbot
from compliance.deadlines import DUE_SOON_SQL, IS_DUE_SOON, IS_OVERDUE, OVERDUE_SQL
from compliance.models import ComplianceRequest
from compliance.retention import policy
from console.requests.labels import due_mark
from conversations.models import Message
from tests.calls import ALICE, TokenCaller
from tests.commands import refused, run
from tests.console.filing_pages import Answer, Filer
from tests.factories import conversation_of, deletion_of
from tests.people import Role, client_of, staff

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
ZONE = "America/New_York"


@pytest.fixture
def chatbot(chatbot: Chatbot) -> Chatbot:
    Chatbot.objects.filter(pk=chatbot.pk).update(timezone=ZONE, deadline="30")
    chatbot.refresh_from_db()
    return chatbot


def ago(days: int) -> tuple[str, datetime]:
    """Return a date, and when it began in the chatbot's time zone, as PostgreSQL has it."""
    day = f"{timezone.now() - days * DAY:%Y-%m-%d}"
    at = ComplianceRequest.objects.raw(
        "SELECT gen_random_uuid() AS id, (%s::timestamp AT TIME ZONE %s) AS at", [day, ZONE]
    )[0]
    return day, at.at  # type: ignore[attr-defined]


def due_from(at: datetime) -> datetime:
    """Return the end of the day that is 30 days later in the chatbot's time zone."""
    zone = ZoneInfo(ZONE)
    return datetime.combine(at.astimezone(zone).date() + 30 * DAY, time(23, 59, 59), zone).astimezone(UTC)


def counts_from(at: datetime) -> None:
    """Check that each request was asked for then, and is due 30 days after that."""
    requests = list(ComplianceRequest.objects.all())
    assert requests
    assert {(one.requested_at, one.due_at) for one in requests} == {(at, due_from(at))}


def test_each_way_of_filing_takes_a_date_of_the_time_zone_and_the_rule_of_the_row(caller, chatbot) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(timezone="Asia/Tokyo", deadline="ccpa")
    caller.post("data-deletion", ALICE)  # a cached chatbot is not relied on
    ComplianceRequest.objects.all().delete()
    Chatbot.objects.filter(pk=chatbot.pk).update(timezone=ZONE, deadline="30")
    conversation = conversation_of(chatbot, "alice", messages=1)
    redaction = {"ids": [Message.objects.get(conversation=conversation).external_id], "reason": "other"}
    day, at = ago(20)
    asked = {"requested_at": day}

    answers = [caller.post(path, ALICE | asked).json() for path in ("data-deletion", "data-export")]
    items = [ALICE | {"action": "delete"} | one for one in (asked, asked, {"requested_at": "never"})]
    results = caller.post("requests/batch", {"requests": items}).json()["results"]
    path = f"conversations/{conversation.pk}/messages/redact"
    assert caller.post(path, redaction | asked).status_code == 200
    for command in ("request_deletion", "request_export"):
        run(command, chatbot.slug, "member_id", "bob", "--requested-at", day)
        wrong = refused(command, chatbot.slug, "member_id", "bob", "--requested-at", "x")
        assert "invalid: Must be a date such as" in str(wrong)

    counts_from(at)
    filed = ComplianceRequest.objects.order_by("kind").values_list("kind", "deadline")
    assert list(filed) == [("deletion", "30")] * 4 + [("export", "30")] * 2 + [("redaction", "30")]
    shown = tuple(f"{one:%Y-%m-%dT%H:%M:%S.%fZ}" for one in (at, due_from(at)))
    assert {(one["requested_at"], one["due_at"]) for one in answers} == {shown}
    assert [(one["error"] or {}).get("code") for one in results] == [None, None, "invalid"]
    assert results[-1]["error"]["errors"][0]["pointer"] == "/requested_at"

    policy.change_period(chatbot=chatbot, days=90, actor="user:1", confirmed=0)
    retention = ComplianceRequest.objects.get(kind="retention")
    assert retention.not_before
    assert (retention.deadline, retention.due_at) == ("30", due_from(retention.not_before))


def test_an_instant_is_taken_as_it_is(caller: TokenCaller) -> None:
    at = (timezone.now() - 2 * DAY).replace(microsecond=5)
    caller.post("data-deletion", ALICE | {"requested_at": f"{at + timedelta(hours=2):%Y-%m-%dT%H:%M:%S.%f}+02:00"})
    counts_from(at)


def test_without_it_the_deadline_counts_from_the_receipt(caller: TokenCaller) -> None:
    answer = caller.post("data-deletion", ALICE | {"requested_at": None}).json()
    assert answer["requested_at"] == answer["received_at"]
    request = ComplianceRequest.objects.get()
    assert (request.requested_at, request.due_at) == (None, due_from(request.received_at))


def test_a_clock_that_is_a_little_ahead_counts_as_now(caller: TokenCaller) -> None:
    caller.post("data-deletion", ALICE | {"requested_at": f"{timezone.now() + timedelta(minutes=4):%FT%TZ}"})
    request = ComplianceRequest.objects.get()
    assert request.requested_at is not None
    assert request.requested_at <= request.received_at


def test_the_day_365_days_ago_is_taken_whatever_the_hour(caller: TokenCaller) -> None:
    oldest = timezone.localdate(timezone=ZoneInfo(ZONE)) - 365 * DAY
    assert caller.post("data-deletion", ALICE | {"requested_at": f"{oldest}"}).status_code == 200
    before = caller.post("data-deletion", ALICE | {"requested_at": f"{oldest - DAY}"})
    assert before.json()["errors"][0]["detail"] == "Must be at most 365 days ago."


def refused_days() -> list[tuple[str, str]]:
    now = datetime.now(UTC)
    return [
        (f"{now + 2 * DAY:%Y-%m-%d}", "Must not be in the future."),
        (f"{now + timedelta(minutes=6):%FT%TZ}", "Must not be in the future."),
        (f"{now - 367 * DAY:%Y-%m-%d}", "Must be at most 365 days ago."),
        *((text, "Must be a date such as") for text in ("20261130", "2026-11-31", "2026-11-30T10:00:00", "soon")),
        *((text, "Must be a date such as") for text in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59")),
    ]


@pytest.mark.parametrize("path", ["data-deletion", "data-export", "preview"])
def test_what_is_no_day_on_which_anybody_can_have_asked_is_refused(caller: TokenCaller, path: str) -> None:
    for text, detail in refused_days():
        response = caller.post(path, ALICE | {"requested_at": text})
        assert response.status_code == 400, text
        [error] = response.json()["errors"]
        assert (error["pointer"], error["code"]) == ("/requested_at", "invalid")
        assert error["detail"].startswith(detail), text
    empty = caller.post(path, ALICE | {"requested_at": ""})
    assert (empty.status_code, empty.json()["errors"][0]["pointer"]) == (400, "/requested_at")
    assert not ComplianceRequest.objects.exists()


def test_an_equal_export_of_another_day_does_not_answer(caller: TokenCaller) -> None:
    """Its deadline would be another."""
    days = [ago(days)[0] for days in (3, 2)]
    answers = [caller.post("data-export", ALICE | {"requested_at": day}).json() for day in (*days, days[1])]
    assert [answer["existing"] for answer in answers] == [False, False, True]
    items = [ALICE | {"action": "export", "requested_at": ago(days)[0]} for days in (5, 4, 5)]
    results = caller.post("requests/batch", {"requests": items}).json()["results"]
    assert [result["existing"] for result in results] == [False, False, True]


def test_the_console_takes_it_for_one_and_for_many(chatbot: Chatbot) -> None:
    client = client_of(staff(chatbot, Role.SUPPORT))
    conversation_of(chatbot, "alice")
    day, at = ago(3)
    one, many = Filer(client, chatbot), Filer(client, chatbot, "many/")
    for filer, preview in (
        (one, one.preview(action="export", requested_at=day)),
        (many, many.preview_many("bob", "carol", action="export", requested_at=day)),
    ):
        assert f"asked on {day}" in preview.text
        filer.confirm(preview)
    assert ComplianceRequest.objects.count() == 3
    counts_from(at)
    request = ComplianceRequest.objects.first()
    assert request
    assert f"Person asked on {day}" in Answer(client.get(f"/admin/requests/{request.pk}/")).text


def test_the_console_says_at_the_field_why_a_day_is_refused(chatbot: Chatbot) -> None:
    filer = Filer(client_of(staff(chatbot, Role.SUPPORT)), chatbot)
    answer = filer.preview(requested_at=f"{timezone.now() + 2 * DAY:%Y-%m-%d}")
    assert "Must not be in the future." in answer.text
    assert not answer.is_preview
    edited = filer.post(filer.preview(requested_at=ago(3)[0]).form("edit"))
    assert f'value="{ago(3)[0]}"' in edited.html


@pytest.mark.parametrize(
    ("days", "is_soon", "is_overdue"), [(26, False, False), (28, True, False), (31, False, True)]
)
def test_what_was_asked_long_ago_is_due_soon_at_once(chatbot, days, is_soon, is_overdue) -> None:
    asked = timezone.now() - days * DAY
    deletion_of(chatbot, "alice", requested_at=asked, due_at=asked + 30 * DAY)
    requests = ComplianceRequest.objects
    assert [requests.filter(one).exists() for one in (IS_DUE_SOON, IS_OVERDUE)] == [is_soon, is_overdue]
    statement = "SELECT r.* FROM compliance_compliancerequest r WHERE {}"
    found = [bool(requests.raw(statement.format(one))) for one in (DUE_SOON_SQL, OVERDUE_SQL)]
    assert found == [is_soon, is_overdue]
    assert due_mark(requests.get()) == ("soon" if is_soon else "overdue" if is_overdue else "")
