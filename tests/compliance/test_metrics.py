"""The metrics for Prometheus: values, authentication and failures."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from chatbots.models import Chatbot, SilentStorage
from common.db import execute
from compliance.errors import FAILURES
from compliance.metrics import queries, views
from compliance.models import Heartbeat, LegalHold, Mailbox, Notice, Occurrence
from compliance.work.health_codes import Code
from conversations.models import DailyExtract
from tests.clients import use_bucket_at
from tests.commands import report
from tests.factories import CallbackFactory, ClaimFactory, ExportFactory, deletion_of, export_of, of_conversations
from tests.functional.elsewhere import Elsewhere, uncommitted
from tests.functional.scans import Watch
from tests.holding import place, release
from tests.people import Role, staff

pytestmark = pytest.mark.usefixtures("no_tasks")

TOKEN = "a-token-of-the-tests"
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def _token(settings) -> None:
    settings.METRICS_TOKEN = TOKEN


def ask(query: str = "", token: str = TOKEN, **extra: str) -> Any:
    return Client(headers={"authorization": f"Bearer {token}", **extra}).get(f"/metrics{query}")


def series_of(query: str = "") -> dict[str, float]:
    """Return each series with its value, such as `dca_requests{kind="export",status="failed"}`."""
    response = ask(query)
    assert response.status_code == 200, response.content
    series = {}
    for family in text_string_to_metric_families(response.content.decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            series[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return series


def requests_series(query: str = "") -> dict[str, float]:
    """Return the series that are not 0, of requests only."""
    return {name: value for name, value in series_of(query).items() if value and "requests" in name}


def test_metrics_are_served_by_ip_address_over_plain_http_with_the_token(settings) -> None:
    settings.SECURE_SSL_REDIRECT = True

    answer = ask(host="10.11.12.13:8000")

    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert Client(headers={"authorization": f"Bearer {TOKEN}"}).post("/metrics").status_code == 405


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer another-token-of-tests", f"Basic {TOKEN}", "Bearer é"]
)
def test_metrics_require_the_token(header: str) -> None:
    answer = Client(headers={"authorization": header}).get("/metrics")

    assert (answer.status_code, answer.content) == (401, b"unauthorized\n")
    assert (answer["WWW-Authenticate"], answer["Cache-Control"]) == ("Bearer", "no-store")


def test_without_a_configured_token_metrics_are_not_found(settings) -> None:
    settings.METRICS_TOKEN = ""

    assert [ask(token=token).status_code for token in ("", TOKEN)] == [404, 404]


def test_requests_are_counted_by_kind_state_and_reason(chatbot: Chatbot, neighbour: Chatbot) -> None:
    now = timezone.now()
    deletion_of(chatbot, "1", due_at=now - MINUTE)
    deletion_of(chatbot, "2", waiting_for="extracts", received_at=now - 28 * DAY, due_at=now + 2 * DAY)
    export_of(neighbour, "3", status="on_hold", hold_reason="awaiting_approval", held_at=now)
    export_of(neighbour, "4", status="failed", failed_at=now, error_code="worker_lost")
    of_conversations(neighbour, "c-1", status="failed", failed_at=now, error_code="code of an earlier version")
    # It was due soon when it was filed.
    deletion_of(chatbot, "5", due_at=now + 2 * DAY)
    # Not open: ended, and failed for good.
    deletion_of(chatbot, None, status="completed", completed_at=now, result="done", due_at=now - DAY)
    deletion_of(chatbot, None, status="cancelled", cancelled_at=now, due_at=now - DAY)
    deletion_of(chatbot, None, status="failed", failed_at=now, error_code="worker_lost", due_at=now - DAY)

    assert requests_series() == {
        'dca_requests{kind="deletion",status="accepted"}': 3,
        'dca_requests{kind="export",status="on_hold"}': 1,
        'dca_requests{kind="export",status="failed"}': 1,
        'dca_requests{kind="deletion",status="failed"}': 1,
        'dca_requests_overdue{kind="deletion"}': 1,
        'dca_requests_due_soon{kind="deletion"}': 1,
        'dca_requests_requeued{kind="deletion",waiting_for="extracts"}': 1,
        'dca_requests_held{kind="export",reason="awaiting_approval"}': 1,
        'dca_requests_failed{code="worker_lost",kind="export"}': 1,
        'dca_requests_failed{code="other",kind="deletion"}': 1,
    }


def test_counting_ends_at_a_limit_and_sees_each_chatbot(chatbot, neighbour, monkeypatch) -> None:
    monkeypatch.setattr(queries, "_MOST_READ", 8)
    monkeypatch.setattr(queries, "_FEWEST", 3)
    now = timezone.now()
    for number in range(5):
        deletion_of(chatbot, str(number), due_at=now + DAY * (5 + number))
    for number in range(4):
        # The newest can be retried; those that cannot must not hide it.
        failed = {"status": "failed", "failed_at": now, "error_code": "worker_lost"}
        deletion_of(chatbot, "f" if number == 3 else None, **failed)
    deletion_of(neighbour, "1", due_at=now - DAY)

    series = requests_series()

    assert series['dca_requests{kind="deletion",status="accepted"}'] == 3 + 1
    assert series['dca_requests_overdue{kind="deletion"}'] == 1
    assert series['dca_requests_failed{code="worker_lost",kind="deletion"}'] == 1


def test_the_age_of_the_oldest_ready_request_is_shown_by_kind_and_lane(chatbot: Chatbot, neighbour: Chatbot) -> None:
    now = timezone.now()
    deletion_of(chatbot, "1", queued_at=now - 3 * MINUTE)
    deletion_of(neighbour, "1", queued_at=now - 5 * MINUTE)
    export_of(chatbot, "2", queued_at=now - 9 * MINUTE, lane="large")
    export_of(chatbot, "3", queued_at=now - 9 * MINUTE, not_before=now + MINUTE)
    deletion_of(chatbot, "4", queued_at=now - 7 * MINUTE, lane="client")

    series = series_of()

    assert 300 <= series['dca_oldest_waiting_seconds{kind="deletion",lane="normal"}'] < 360
    assert 540 <= series['dca_oldest_waiting_seconds{kind="export",lane="large"}'] < 600
    assert series['dca_oldest_waiting_seconds{kind="export",lane="normal"}'] == 0
    assert 420 <= series['dca_oldest_waiting_seconds{kind="deletion",lane="client"}'] < 480


def test_a_request_waiting_for_a_silent_bucket_is_not_ready(chatbot: Chatbot, neighbour: Chatbot) -> None:
    """It is counted as `bucket_silent` or `storage_silent`. `health` reports the same."""
    now = timezone.now()
    use_bucket_at(chatbot, "")
    silent = SilentStorage.objects.create(chatbot=chatbot, since=now - 9 * MINUTE, rests_until=now + MINUTE)
    export_of(chatbot, "1", queued_at=now - 9 * MINUTE)
    deletion_of(chatbot, "2", queued_at=now - 9 * MINUTE, lane="client")
    export_of(neighbour, "1", queued_at=now - 12 * MINUTE)
    deletion_of(neighbour, "2", queued_at=now - 3 * MINUTE)

    def oldest() -> dict[str, int]:
        waiting = {name: value for name, value in series_of().items() if "oldest_waiting" in name and value}
        return {name.partition("{")[2].rstrip("}"): int(value // 60) for name, value in waiting.items()}

    deletions = {'kind="deletion",lane="normal"': 3}
    assert oldest() == {'kind="export",lane="normal"': 12} | deletions
    silent.delete()
    deletions['kind="deletion",lane="client"'] = 9
    assert oldest() == {'kind="export",lane="normal"': 12} | deletions
    SilentStorage.objects.create(chatbot=None, since=now, rests_until=now + MINUTE)
    assert oldest() == {'kind="export",lane="normal"': 9} | deletions


def test_callbacks_extracts_files_and_mails_are_counted(chatbot: Chatbot, settings) -> None:
    settings.MAILS = True
    now = timezone.now()
    request = deletion_of(chatbot, "1")
    waits = {"request": request, "next_attempt_at": now - 4 * MINUTE}
    CallbackFactory.create(**waits, occurred_at=now)
    CallbackFactory.create(request=request, next_attempt_at=now + DAY, occurred_at=now - MINUTE)
    CallbackFactory.create(request=request, occurred_at=now - DAY, given_up=True)
    for number, state in enumerate(("pending", "stale", "stale", "failed", "expired")):
        DailyExtract.objects.create(
            chatbot=chatbot,
            day=now.date() - number * DAY,
            starts_at=now - DAY,
            ends_at=now,
            state=state,
            stale_at=now - 7 * MINUTE if state == "stale" else None,
            error_code="worker_lost" if state == "failed" else "",
        )
    ExportFactory.create(request=export_of(chatbot, "2"), key="a", expires_at=now - 3 * MINUTE)
    officer = staff(chatbot, Role.OFFICER)
    User.objects.filter(pk=officer.pk).update(email="officer@example.com")
    notice = Notice.objects.create(chatbot=chatbot, request=request, event="failed", occurred_at=now)
    Mailbox.objects.create(user=officer, attempts=2, last_notified_id=notice.pk - 1)

    series = series_of()

    assert (series['dca_callbacks{state="waiting"}'], series['dca_callbacks{state="given_up"}']) == (2, 1)
    assert 240 <= series["dca_callbacks_oldest_due_seconds"] < 300
    assert [series[f'dca_extracts{{state="{one}"}}'] for one in ("pending", "stale", "failed")] == [1, 2, 1]
    assert 420 <= series["dca_extracts_oldest_due_seconds"] < 480
    assert 180 <= series['dca_files_kept_too_long_seconds{kind="export"}'] < 240
    assert series['dca_files_kept_too_long_seconds{kind="extract"}'] == 0
    assert series["dca_mailboxes_failing"] == 1
    Mailbox.objects.update(last_notified_id=notice.pk)
    assert series_of()["dca_mailboxes_failing"] == 1, "without the digest of the day"
    Mailbox.objects.update(digest_on=now.date() + DAY)
    assert series_of()["dca_mailboxes_failing"] == 0


def test_legal_holds_are_counted_and_reported_once_they_are_due_for_review(chatbot, neighbour) -> None:
    holds = [
        place(bot, value)[0]
        for bot, value in ((chatbot, "42"), (chatbot, "43"), (neighbour, "42"), (neighbour, None))
    ]
    release(holds[0])
    names = ("dca_legal_holds_in_force", "dca_legal_holds_review_due")
    assert [series_of()[name] for name in names] == [3, 0]

    LegalHold.objects.update(review_at=timezone.now() - MINUTE)
    series = series_of()
    assert [series[name] for name in names] == [3, 3]
    assert series['dca_health_problem{code="holds_review_due"}'] == 1
    [due] = [one for one in report("health", code=1)["problems"] if one["code"] == "holds_review_due"]
    assert due["detail"].startswith("3 legal holds of acme, neighbour: the date is over")


def test_clusters_claims_and_problems_are_counted() -> None:
    now = timezone.now()
    for name, seen in (("one", now), ("two", now - 5 * MINUTE)):
        Heartbeat.objects.create(
            id=uuid4(), name=name, version="1", workers=2, started_at=now, seen_at=seen, worked_at=seen
        )
    ClaimFactory.create(expires_at=now + MINUTE)
    ClaimFactory.create(expires_at=now - 6 * MINUTE)
    Occurrence.objects.update_or_create(name=Occurrence.Name.SWEEP, defaults={"last_at": now - 2 * MINUTE})

    series = series_of()

    assert [series[f'dca_clusters{{condition="{one}"}}'] for one in ("alive", "stalled", "gone")] == [1, 0, 1]
    assert (series["dca_claims"], series["dca_claims_expired"], series["dca_tasks_waiting"]) == (2, 1, 0)
    assert 120 <= series["dca_sweep_age_seconds"] < 180
    problems = {code: series[f'dca_health_problem{{code="{code}"}}'] for code in Code}
    assert problems == {code: float(code in {Code.CLAIMS_EXPIRED, Code.CLUSTER_GONE}) for code in Code}


def test_a_chatbot_is_labelled_only_on_request(chatbot: Chatbot, neighbour: Chatbot) -> None:
    deletion_of(chatbot, "1")
    deletion_of(neighbour, "1")

    assert not any("chatbot" in name for name in series_of())
    assert requests_series("?chatbot=acme") == {
        'dca_chatbot_requests{chatbot="acme",kind="deletion",status="accepted"}': 1
    }
    assert all('chatbot="acme"' in name for name in series_of("?chatbot=acme"))
    assert ask("?chatbot=nobody").status_code == 404


def test_series_and_labels_are_the_same_whatever_there_is(chatbot: Chatbot) -> None:
    before = set(series_of())
    now = timezone.now()
    deletion_of(chatbot, "a person's value", status="failed", failed_at=now, error_code="worker_lost")
    text = ask().content.decode()

    assert set(series_of()) == before
    assert f'dca_requests_failed{{code="{next(iter(FAILURES))}",kind="export"}} 0.0' in text
    assert not any(word in text for word in ("a person's value", "acme", "python_", "process_"))
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation.endswith(".") and family.type == "gauge" for family in families)
    assert len(text) < 20_000


@pytest.fixture
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(views, "_PATIENCE_SECONDS", 0.05)
    return iter(())


@pytest.mark.usefixtures("_no_patience")
def test_one_scrape_runs_at_a_time() -> None:
    with views._one_at_a_time:
        assert ask().status_code == 503
    assert ask().status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_scrape_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_STATEMENT_SECONDS", 1)
    with uncommitted(lambda: execute("LOCK TABLE compliance_callback")):
        answer = ask()
    assert (answer.status_code, answer.content) == (503, b"unavailable\n")
    assert ask().status_code == 200
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchall() == [("0",)], "it binds scrapes alone"


@pytest.mark.django_db(transaction=True)
def test_without_a_database_it_is_unavailable() -> None:
    def asked() -> tuple[int, bytes]:
        # Only this thread's connection is broken.
        connections["default"].settings_dict = connection_settings | {"HOST": "127.0.0.1", "PORT": "9"}
        try:
            response = ask()
            return response.status_code, response.content
        finally:
            del connections["default"]

    connection_settings = connection.settings_dict
    assert Elsewhere(asked).end() == (503, b"unavailable\n")


@pytest.mark.one_postgresql(reason="plans")
def test_no_more_callbacks_are_read_than_are_counted(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # there are no such requests
        cursor.execute(
            "INSERT INTO compliance_callback (id, chatbot_id, request_id, status, result, error_code, occurred_at,"
            " url, state, attempts, next_attempt_at, give_up_at, expires_at, last_error)"
            " SELECT gen_random_uuid(), %s, gen_random_uuid(), 'completed', 'done', '', now(), 'http://127.0.0.1:9/',"
            "        'waiting', 1, now(), now(), now(), '' FROM generate_series(1, 10000)",
            [chatbot.pk],
        )
        cursor.execute("ANALYZE compliance_callback")
    watch = Watch(["compliance_callback"], most_entries=3_000, monkeypatch=monkeypatch)
    with watch.step("metrics"):
        queries.chatbot_stats([chatbot.pk])
    assert not watch.findings, str(watch.findings[0])
