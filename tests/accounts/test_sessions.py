"""Sessions of staff end, on the server's side."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import second_factor
from tests.codes import PASSWORD, log_in, set_up
from tests.factories import export_of

PAGE = "/admin/password_change/"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Move the clock of this process forward by minutes."""
    began = time.time()
    return lambda minutes: monkeypatch.setattr("time.time", lambda: began + minutes * 60)


@pytest.fixture
def client(user: User) -> Client:
    client = Client()
    log_in(client, user)
    assert client.get(PAGE).status_code == 200
    return client


def test_it_ends_after_a_time_without_a_page(client, clock):
    for minutes in (29, 58, 87):
        clock(minutes)
        assert client.get(PAGE).status_code == 200
    clock(118)
    answer = client.get(f"{PAGE}?a=b")
    assert answer["Location"] == "/admin/login/?ended=idle&next=%2Fadmin%2Fpassword_change%2F%3Fa%3Db"
    assert "due to inactivity" in client.get(answer["Location"]).text
    assert not Session.objects.exists()


def test_it_ends_some_hours_after_the_log_in_however_busy(client, clock):
    for minutes in range(0, 480, 20):
        clock(minutes)
        assert client.get(PAGE).status_code == 200
    clock(481)
    assert client.post(PAGE)["Location"] == "/admin/login/?ended=age"


def test_it_writes_at_most_once_a_minute(client, clock):
    def writes(minutes: float) -> int:
        clock(minutes)
        with CaptureQueriesContext(connection) as captured:
            client.get(PAGE)
        return sum(query["sql"].startswith(("UPDATE", "INSERT")) for query in captured.captured_queries)

    assert [writes(minutes) for minutes in (0.5, 0.9, 1.1, 1.5, 2.2)] == [0, 0, 1, 0, 1]


def test_a_page_that_polls_keeps_no_session_alive(client, clock, chatbot):
    polled = f"/admin/requests/{export_of(chatbot, '42').pk}/progress/"
    clock(20)
    assert client.get(polled).status_code == 200
    clock(40)
    answer = client.get(polled)
    assert (answer.status_code, answer.content) == (401, b"")
    assert not Session.objects.exists()


@pytest.mark.parametrize("flag", ["is_active", "is_staff"])
def test_a_session_ends_when_access_is_removed(client, user, flag):
    User.objects.update(**{flag: False})
    assert client.get(PAGE).status_code == 302
    User.objects.update(**{flag: True})
    assert client.get(PAGE)["Location"].startswith("/admin/login/")


def test_a_changed_password_ends_all_other_sessions(client, user):
    other = Client()
    other.force_login(user)
    new = {
        "old_password": PASSWORD,
        "new_password1": "a long new one!",
        "new_password2": "a long new one!",
    }
    assert client.post(PAGE, new).status_code == 302
    assert client.get(PAGE).status_code == 200
    assert other.get(PAGE).status_code == 302


def test_a_session_ends_when_its_device_is_removed(user):
    app, client = set_up(user), Client()
    log_in(client, user)
    client.post("/admin/login/code/", {"code": app.next_code()})
    assert client.get(PAGE).status_code == 200
    second_factor.remove(user=user, actor="command")
    assert client.get(PAGE)["Location"].startswith("/admin/login/?ended=access")
    assert not Session.objects.exists()


def test_logging_out_requires_a_post(client):
    assert client.get("/admin/logout/").status_code == 405
    assert client.get(PAGE).status_code == 200
    assert client.post("/admin/logout/").status_code == 200
    assert client.get(PAGE).status_code == 302


def test_session_cookies_are_host_only_and_hidden_from_scripts(client):
    for cookie in client.cookies.values():
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        assert cookie["path"] == "/"
        assert cookie["domain"] == ""
    assert {"sessionid", "csrftoken"} >= set(client.cookies) > set()


@pytest.fixture
def full_disk(db: None) -> Iterator[Callable[[str], None]]:
    """Let a table refuse statements, as if the database had no room."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION have_no_room() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$"
        )
        yield lambda what: cursor.execute(
            f"CREATE TRIGGER full_disk BEFORE {what} FOR EACH STATEMENT EXECUTE FUNCTION have_no_room()"
        )


def test_where_the_database_has_no_room_for_one_a_page_says_so(
    client: Client, clock: Any, full_disk: Callable[[str], None]
) -> None:
    clock(2)
    full_disk("UPDATE ON django_session")

    _says_that_the_database_does_not_answer(client.get(PAGE))


def test_where_the_database_has_no_room_for_one_a_log_in_says_so(
    user: User, full_disk: Callable[[str], None]
) -> None:
    full_disk("INSERT ON django_session")
    client = Client(raise_request_exception=False)

    _says_that_the_database_does_not_answer(
        client.post("/admin/login/", {"username": user.username, "password": PASSWORD})
    )


def _says_that_the_database_does_not_answer(answer: Any) -> None:
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "The database does not answer" in answer.text
