"""A restored database is not served: neither a call of the API nor a page of the console gets past the middleware."""

import re
import time
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from chatbots.models import Chatbot, RateLimitWindow
from compliance import worker
from compliance.ledger import service
from compliance.models import ComplianceRequest
from tests.browser import browser, is_easy_to_use, needs_chromium, open_page, stays_at_home
from tests.calls import ALICE, Caller, SigningCaller, TokenCaller, problem
from tests.closed import Reason, State, close
from tests.document import assert_documented
from tests.every_call import every_call
from tests.factories import conversation_of
from tests.functional.test_probing import body_of
from tests.patches import failing
from tests.people import Role, member

CLOSED = pytest.mark.parametrize("state", [State.RESTORED, State.CATCHING_UP])


@pytest.mark.parametrize("caller_type", [TokenCaller, SigningCaller, Caller])
def test_every_call_of_the_api_is_refused_and_gets_no_time_to_try_again(chatbot, caller_type: type[Caller]) -> None:
    caller = caller_type(chatbot)
    close()

    for call in every_call() if caller_type is TokenCaller else every_call()[:1]:
        raw, content_type = body_of(call)
        url = f"/api/v1/chatbots/{chatbot.slug}/{call.below_slug()}"
        response = caller.client.generic(call.method, url, raw, content_type, headers=caller.credentials(raw))
        assert "restored from a backup" in problem(response, 503, "restored_database")["detail"]
        assert "Retry-After" not in response.headers
        assert_documented(call.method.lower(), url, response)


def test_a_service_that_catches_up_says_when_to_try_again(chatbot: Chatbot) -> None:
    caller = TokenCaller(chatbot)
    close(State.CATCHING_UP)

    response = caller.post("data-deletion", ALICE)

    problem(response, 503, "catching_up")
    assert response.headers["Retry-After"] == "10"
    assert not ComplianceRequest.objects.exists()


@CLOSED
def test_one_page_takes_the_place_of_every_other(chatbot: Chatbot, state: State) -> None:
    officer = member(chatbot, Role.OFFICER)
    close(state)
    expected = Client().get("/admin/").content

    for path in ("/admin/", "/admin/login/", "/admin/conversations/", "/", "/anything/at/all/"):
        for method in ("GET", "POST"):
            response = officer.generic(method, path)
            assert (response.status_code, response.content) == (503, expected), (method, path)
            assert response.headers["Cache-Control"] == "no-store"
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]


def test_the_page_says_what_happened_and_what_to_do(db: None) -> None:
    close(reason=Reason.OBJECTS_UNKNOWN)
    text = text_of(Client().get("/admin/"))
    assert "was restored from a backup" in text
    assert "2026-11-27 03:04 UTC" in text
    assert "manage.py replay_erasures" in text
    assert "docs/operators/runbooks/restores.md" in text

    close(reason=Reason.OTHER_SERVER)
    assert "manage.py adopt --new-service" in text_of(Client().get("/admin/"))


def test_the_page_of_a_failover_reloads_itself(db: None) -> None:
    close(State.CATCHING_UP)

    response = Client().get("/admin/requests/?chatbot=acme")

    # A header, which works without script.
    assert response.headers["Refresh"] == response.headers["Retry-After"] == "10"
    assert "ends by itself" in text_of(response)
    # A form is not sent a second time by that.
    assert Client().post("/admin/login/").headers["Refresh"] == "10; url=/admin/"
    close()
    assert "Refresh" not in Client().get("/admin/").headers


def test_the_page_shows_nothing_of_the_database(chatbot: Chatbot) -> None:
    conversation_of(chatbot, "alice-77")
    officer = member(chatbot, Role.OFFICER)
    close()

    content = officer.get(f"/admin/conversations/?chatbot={chatbot.slug}").content.decode()

    assert not re.search(rf"alice-77|{chatbot.slug}|officer", content)


def test_what_shows_no_data_is_answered(db: None, settings: Any) -> None:
    settings.METRICS_TOKEN = "a token for metrics"
    settings.WHITENOISE_AUTOREFRESH = settings.WHITENOISE_USE_FINDERS = True  # no files are collected for tests
    close()
    client = Client(headers={"Authorization": "Bearer a token for metrics"})

    # Were it not ready, a load balancer would answer in its own words, on every machine at once.
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client.get(path).status_code == 200, path
    for path in ("/api/docs/", "/api/docs/errors", "/api/schema/"):
        assert client.get(path).status_code == 200, path
    style = client.get("/static/console/console.css")
    assert (style.status_code, b"--ink" in style.getvalue()) == (200, True)


def test_no_session_and_no_key_is_read_before(chatbot: Chatbot) -> None:
    officer, caller = member(chatbot, Role.OFFICER), TokenCaller(chatbot)
    close()

    with CaptureQueriesContext(connection) as captured:
        officer.get("/admin/")
        caller.get("requests")

    tables = {table for query in captured for table in re.findall(r'FROM "(\w+)"', query["sql"])}
    assert tables == {"compliance_service"}
    assert not RateLimitWindow.objects.exists()


def test_an_open_service_costs_one_query(chatbot: Chatbot) -> None:
    with CaptureQueriesContext(connection) as captured:
        Client().get("/admin/nowhere/")

    asked = [query["sql"] for query in captured if "compliance_service" in query["sql"]]
    assert len(asked) == 1


@CLOSED
def test_each_process_logs_it_once_a_minute_whoever_has_noticed_the_restore(chatbot, caplog, monkeypatch, state):
    monkeypatch.setattr(service, "_logged_at", None)
    caller = TokenCaller(chatbot)
    caller.post("data-deletion", ALICE)
    worker.sweep()
    assert "service.closed" not in caplog.text
    close(state)

    for calls in (1, 2):
        for _ in range(3):
            caller.post("data-deletion", ALICE)
            caller.client.get("/admin/")
        assert caplog.messages.count(f"service.closed state={state}") == calls
        monkeypatch.setattr(service, "_logged_at", time.monotonic() - 61)
    worker.sweep()
    assert caplog.messages.count(f"service.closed state={state}") == 3


def test_a_database_without_an_identity_is_served(db: None) -> None:
    """As an emptied one."""
    close().delete()

    assert Client().get("/admin/login/").status_code == 200


def test_what_was_closed_is_served_again_at_once(chatbot: Chatbot) -> None:
    caller = TokenCaller(chatbot)
    closed = close()
    problem(caller.get("requests"), 503, "restored_database")

    type(closed).objects.update(state=State.OPEN, reason="", tripped_at=None, highest_number=None)

    assert caller.get("requests").status_code == 200


def test_without_a_database_a_call_and_a_page_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "state", failing(OperationalError("a row that must not be shown")))

    for response in (Client().get("/api/v1/chatbots/acme/requests"), Client().get("/admin/")):
        assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
        assert "must not be shown" not in response.content.decode()
    assert response.headers["Cache-Control"] == "no-store"
    assert "The database does not answer" in text_of(response)
    assert problem(Client().get("/api/v1/chatbots/acme/requests"), 503, "unavailable")


@needs_chromium
@pytest.mark.django_db(transaction=True)
@pytest.mark.long(reason="a browser draws the page in both states, in two themes and on a phone")
def test_the_page_is_accessible(live_server: Any) -> None:
    with browser() as chromium:
        for state, reason in (
            *((State.RESTORED, reason) for reason in Reason),
            (State.CATCHING_UP, Reason.OBJECTS_UNKNOWN),
        ):
            close(state, reason)
            watched = open_page(chromium, f"{live_server.url}/admin/")
            assert watched.page.get_by_role("heading", level=1).count() == 1
            # The answer's status is all that a browser calls an error.
            watched.errors = [error for error in watched.errors if "503" not in error]
            stays_at_home(watched, live_server.url)
            is_easy_to_use(watched.page)


def test_its_runbook_exists() -> None:
    source = (settings.BASE_DIR / "templates" / "console" / "closed.html").read_text()
    named = re.findall(r'docs/([\w/]+\.md), "([^"]+)"', source)
    assert len(named) == 2
    for file, heading in named:
        assert f"## {heading}\n" in (settings.BASE_DIR / "docs" / file).read_text()


def text_of(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", response.content.decode()))
