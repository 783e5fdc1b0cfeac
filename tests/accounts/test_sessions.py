"""Sessions of staff end on the server's side, and changes that would outlive a stolen one require the password."""

import re
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
from accounts.models import Authenticator, LoginFailures
from chatbots.models import ApiKey, Membership
from tests.codes import PASSWORD, inside_with, log_in, set_up
from tests.every_page import TABLE
from tests.factories import export_of
from tests.people import staff

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
    for minutes in range(0, 480, 28):
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
    client = inside_with(set_up(user))
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


def test_where_the_database_has_no_room_for_one_it_says_so(client, user, clock, full_disk) -> None:
    clock(2)
    full_disk("UPDATE OR INSERT ON django_session")
    form = {"username": user.username, "password": PASSWORD}

    for answer in (client.get(PAGE), Client(raise_request_exception=False).post("/admin/login/", form)):
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "5"
        assert "The database does not answer" in answer.text


CONFIRM = "/admin/confirm-password/"


@pytest.fixture
def stolen(user: User, clock: Any) -> Client:
    """A session of a user who typed the password some minutes ago, with the second factor if there is one."""
    client = Client()
    client.force_login(user)
    clock(11)
    return client


def asks(client: Client, method: str, path: str, **body: str) -> bool:
    answer = getattr(client, method)(path, body, headers={"Referer": f"http://testserver{path}"})
    return bool(answer.status_code == 302 and answer["Location"].startswith(f"{CONFIRM}?next="))


def test_a_second_factor_is_not_set_up_without_it(user, stolen):
    for method in ("get", "post"):
        assert asks(stolen, method, "/admin/second-factor/set-up/", code="123456")
    assert not Authenticator.objects.exists()


def test_an_existing_second_factor_is_neither_renewed_nor_removed_without_it(user, clock):
    app = set_up(user)
    client = inside_with(app)
    app.forget_codes()
    clock(11)
    for page in ("recovery-codes", "remove"):
        for method in ("get", "post"):
            assert asks(client, method, f"/admin/second-factor/{page}/", code=app.next_code())
    assert Authenticator.objects.exists()


def test_no_key_no_role_no_bucket_and_no_rule_is_set_without_the_password(stolen, chatbot):
    other = staff(chatbot)
    before = ApiKey.objects.count()
    posts = {
        "create_key": {"label": "mine", "type": "token", "scopes": "requests:read"},
        "revoke_key": {"sure": "on"},
        "change_limit": {"rate_limit": "10"},
        "revoke_credentials": {"sure": "on"},
        "set_member": {"user": str(other.pk), "role": "officer"},
        "save_bucket": {"hosting": "hosted"},
        "save_rules": {"name": "Mine"},
    }
    for name, body in posts.items():
        [page] = [one for one in TABLE if one.name == name]
        assert asks(stolen, "post", page.url({"slug": chatbot.slug}), **body), name
    assert ApiKey.objects.count() == before
    assert Membership.objects.get().role == "viewer"


def test_no_user_is_given_access_without_the_password(user, stolen):
    other = User.objects.create_user("other", is_staff=True)
    theirs = second_factor.offer(other).authenticator
    theirs.save()
    pages = (
        *("auth/user/add/", f"auth/user/{user.pk}/change/", f"auth/user/{user.pk}/password/"),
        f"accounts/authenticator/{theirs.pk}/delete/",
    )
    for page in pages:
        for method in ("get", "post"):
            assert asks(stolen, method, f"/admin/{page}", post="yes"), page
    assert stolen.get("/admin/auth/user/").status_code == 200
    assert Authenticator.objects.exists()


def test_the_password_returns_to_the_page_and_is_valid_for_ten_minutes(user, stolen, clock):
    there = stolen.get("/admin/second-factor/set-up/")["Location"]
    page = stolen.get(there)
    assert ("Continue" in page.text, "sam.staff" in re.findall("<title>(.*?)</title>", page.text)) == (True, False)
    wrong = stolen.post(there, {"password": "wrong"})
    assert (wrong.status_code, "Incorrect password" in wrong.text) == (200, True)
    assert stolen.post(there, {"password": PASSWORD})["Location"] == "/admin/second-factor/set-up/"
    clock(20)
    assert stolen.get("/admin/second-factor/set-up/").status_code == 200
    clock(22)
    assert asks(stolen, "get", "/admin/second-factor/set-up/")


def test_the_proof_asks_to_send_a_form_again_and_redirects_to_no_other_site(user, stolen):
    answer = stolen.post("/admin/auth/user/add/", headers={"Referer": "https://evil.example/admin/"})
    assert "next=%2Fadmin%2F&" in answer["Location"]
    assert "submit it again" in stolen.get(answer["Location"]).text
    answer = stolen.post(f"{CONFIRM}?next=https://evil.example/", {"password": PASSWORD})
    assert answer["Location"] == "/admin/"


def test_the_proof_locks_out_guesses_too(user, stolen, settings):
    statuses = [stolen.post(CONFIRM, {"password": "wrong"}).status_code for _ in range(settings.LOGIN_FAILURES)]
    assert statuses == [200] * (settings.LOGIN_FAILURES - 1) + [429]
    assert stolen.post(CONFIRM, {"password": PASSWORD}).status_code == 429
    assert log_in(Client(), user) == 429
    LoginFailures.objects.all().delete()
    assert stolen.post(CONFIRM, {"password": PASSWORD}).status_code == 302


def test_the_proof_requires_a_login():
    assert Client().get(CONFIRM)["Location"].startswith("/admin/login/")
