"""Logging in with password and second factor, over HTTP."""

import re
import time
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import Authenticator, LoginFailures, StaffLogin
from tests.codes import PASSWORD, App, code_of, log_in, set_up, typed_secret

CODE_PAGE = "/admin/login/code/"


@pytest.fixture
def app(user: User) -> App:
    return set_up(user)


def is_inside(client: Client) -> bool:
    return client.get("/admin/password_change/").status_code == 200


def test_a_password_is_enough_for_users_without_a_second_factor(user):
    client = Client()
    answer = client.post(
        "/admin/login/?next=/admin/auth/", {"username": "sam.staff", "password": PASSWORD, "next": "/admin/auth/"}
    )
    assert (answer.status_code, answer["Location"]) == (302, "/admin/auth/")
    assert is_inside(client)
    assert client.get("/admin/login/").status_code == 302


def test_a_user_is_logged_in_only_after_password_and_code(user, app):
    client = Client()
    answer = client.post("/admin/login/", {"username": "sam.staff", "password": PASSWORD, "next": "/admin/auth/"})
    assert (answer.status_code, answer["Location"]) == (302, f"{CODE_PAGE}?next=%2Fadmin%2Fauth%2F")
    assert not is_inside(client)
    assert "_auth_user_id" not in client.session
    page = client.get(answer["Location"])
    assert (page.status_code, page["Cache-Control"].count("no-store")) == (200, 1)
    assert "sam.staff" not in page.text

    answer = client.post(answer["Location"], {"code": f" {app.next_code()[:3]} {app.next_code()[3:]}"})
    assert (answer.status_code, answer["Location"]) == (302, "/admin/auth/")
    assert is_inside(client)
    assert set(client.session.keys()) <= {
        *("_auth_user_id", "_auth_user_backend", "_auth_user_hash", "otp_device_id", "access_began", "access_seen"),
        *("access_proved", "access_login"),
    }


def test_a_code_works_once(user, app):
    first, second = Client(), Client()
    code = app.next_code()
    for client, status in ((first, 302), (second, 200)):
        log_in(client, user)
        assert client.post(CODE_PAGE, {"code": code}).status_code == status
    assert is_inside(first)
    assert not is_inside(second)


def test_a_recovery_code_works_once_and_is_not_stored_in_plain_text(user, app):
    code = app.recovery_codes[3]
    for given, status in ((code.upper().replace("-", " "), 302), (code, 200)):
        client = Client()
        log_in(client, user)
        assert client.post(CODE_PAGE, {"recovery_code": given}).status_code == status
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(token, ' ') FROM otp_static_statictoken")
        [(stored,)] = cursor.fetchall()
        cursor.execute("SELECT key FROM otp_totp_totpdevice")
        [(seed,)] = cursor.fetchall()
    assert not any(one.replace("-", "") in stored for one in app.recovery_codes)
    assert code_of(bytes.fromhex(seed), 1) != code_of(app.authenticator.bin_key, 1)


def test_the_second_step_requires_the_first(user, app, monkeypatch):
    assert Client().get(CODE_PAGE)["Location"] == "/admin/login/"
    client = Client()
    log_in(client, user)
    user.set_password("another one altogether")
    user.save()
    assert client.post(CODE_PAGE, {"code": app.next_code()})["Location"] == "/admin/login/"

    client = Client()
    log_in(client, user, "another one altogether")
    late = time.time() + 301
    monkeypatch.setattr("time.time", lambda: late)
    assert client.post(CODE_PAGE, {"code": "000000"})["Location"] == "/admin/login/"


@pytest.mark.parametrize("there", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_logging_in_never_redirects_to_another_site(user, app, there):
    client = Client()
    client.post("/admin/login/", {"username": "sam.staff", "password": PASSWORD, "next": there})
    assert client.post(CODE_PAGE, {"code": app.next_code()}, query_params={"next": there})["Location"] == "/admin/"


def test_wrong_codes_lock_out_like_wrong_passwords_and_a_password_alone_clears_nothing(user, app, settings):
    client = Client()
    for _ in range(settings.LOGIN_FAILURES - 1):
        assert log_in(client, user) == 302
        Authenticator.objects.update(throttling_failure_timestamp=None)
        assert client.post(CODE_PAGE, {"code": "000000"}).status_code == 200
    Authenticator.objects.update(throttling_failure_timestamp=None)
    assert client.post(CODE_PAGE, {"code": "000000"}).status_code == 429
    assert client.post(CODE_PAGE, {"code": app.next_code()}).status_code == 429
    assert log_in(Client(), user) == 429
    assert log_in(Client(), user, REMOTE_ADDR="203.0.113.9") == 302


def test_wrong_codes_are_slowed_down_from_any_address(user, app):
    statuses = []
    for number in range(3):
        client = Client(REMOTE_ADDR=f"203.0.113.{number}")
        log_in(client, user)
        # The wait is a second; a busy machine may take longer.
        failed = Authenticator.objects.filter(throttling_failure_timestamp__isnull=False)
        failed.update(throttling_failure_timestamp=timezone.now() + timedelta(minutes=1))
        answer = client.post(CODE_PAGE, {"code": "000000" if number == 0 else app.next_code()})
        statuses.append((answer.status_code, "Try again in" in answer.text))
    assert statuses == [(200, False), (200, True), (200, True)]


def test_staff_must_set_a_second_factor_up_where_it_is_required(user, settings):
    settings.SECOND_FACTOR_REQUIRED = True
    client = Client()
    log_in(client, user)
    for path in ("/admin/", "/admin/auth/user/", "/admin/password_change/", "/admin/login/", "/admin/nowhere/"):
        assert client.get(path)["Location"] == "/admin/second-factor/", path

    page = client.get("/admin/second-factor/", follow=True)
    assert "requires a second factor" in page.text
    key = typed_secret(page.text)
    [token] = re.findall(r'name="token" value="([^"]+)"', page.text)
    wrong = client.post("/admin/second-factor/set-up/", {"token": token, "code": "000000"})
    assert "code is incorrect" in wrong.text
    assert not Authenticator.objects.exists()
    assert typed_secret(wrong.text) == key

    code = code_of(key, int(time.time()) // 30)
    done = client.post("/admin/second-factor/set-up/", {"token": token, "code": code})
    assert len(set(re.findall(r"<code>([a-z2-7]{4}-[a-z2-7]{4})</code>", done.text))) == 10
    assert is_inside(client)
    again = client.post("/admin/second-factor/set-up/", {"token": token, "code": code})
    assert again["Location"] == "/admin/second-factor/"
    assert Authenticator.objects.count() == 1


def test_an_offered_second_factor_belongs_to_one_user(user):
    other = User.objects.create_superuser("other")
    clients = []
    for one in (user, other):
        client = Client()
        client.force_login(one)
        clients.append(client)
    page = clients[0].get("/admin/second-factor/set-up/").text
    [token] = re.findall(r'name="token" value="([^"]+)"', page)
    code = code_of(typed_secret(page), int(time.time()) // 30)
    assert clients[1].post("/admin/second-factor/set-up/", {"token": token, "code": code}).status_code == 302
    assert not Authenticator.objects.exists()


def test_removing_it_and_new_recovery_codes_require_a_code(user, app):
    client = Client()
    log_in(client, user)
    client.post(CODE_PAGE, {"code": app.next_code()})
    app.forget_codes()
    for path in ("recovery-codes", "remove"):
        assert client.get(f"/admin/second-factor/{path}/").status_code == 200
        assert "incorrect" in client.post(f"/admin/second-factor/{path}/", {"code": "000000"}).text
        app.forget_codes()
    renewed = client.post("/admin/second-factor/recovery-codes/", {"code": app.next_code()}).text
    codes = re.findall(r"<code>([a-z2-7]{4}-[a-z2-7]{4})</code>", renewed)
    assert not set(codes) & set(app.recovery_codes)
    assert "incorrect" in client.post("/admin/second-factor/remove/", {"recovery_code": app.recovery_codes[0]}).text
    app.forget_codes()
    from django_otp.plugins.otp_static.models import StaticDevice

    StaticDevice.objects.update(throttling_failure_count=0)
    assert client.post("/admin/second-factor/remove/", {"recovery_code": codes[0]}).status_code == 302
    assert not Authenticator.objects.exists()
    assert is_inside(client)


def test_a_session_without_a_code_ends_once_a_second_factor_exists(user):
    client = Client()
    client.force_login(user)
    assert is_inside(client)
    set_up(user)
    assert client.get("/admin/")["Location"] == "/admin/login/?next=/admin/"
    assert client.get("/admin/second-factor/remove/").status_code == 302


def test_little_is_stored_about_logins(user, app, caplog):
    agent = {"HTTP_USER_AGENT": "TellTale/1.0", "HTTP_ACCEPT": "text/telltale"}
    client = Client()
    caplog.set_level("DEBUG")
    log_in(client, user, "wrong-password-here", **agent)
    client.post(
        "/admin/login/?q=in-the-address", {"username": "chatter@example.com", "password": "x", "extra": "y"}, **agent
    )
    failures = list(LoginFailures.objects.order_by("id").values("user", "address", "failures"))
    log_in(client, user, **agent)
    client.post(CODE_PAGE, {"code": app.next_code()}, **agent)

    here = {"address": "127.0.0.1"}
    assert failures == [
        {"user": user.pk, **here, "failures": 1},
        {"user": None, **here, "failures": 2},
        {"user": user.pk, "address": None, "failures": 1},
        {"user": None, **here, "failures": 1},
        {"user": None, "address": None, "failures": 1},
    ]
    kept = StaffLogin.objects.get()
    assert (kept.user, kept.address, kept.ended_at) == (user, "127.0.0.1", None)
    assert not LoginFailures.objects.filter(user=user, address__isnull=False).exists()
    client.post("/admin/logout/")
    kept.refresh_from_db()
    assert kept.ended_at > kept.at
    assert f"login.failed user={user.pk}" in caplog.text
    assert "login.failed user=unknown" in caplog.text
    for telling in ("sam.staff", "chatter@", "wrong-password", "TellTale", "in-the-address"):
        assert telling not in caplog.text.replace("SELECT", "")
    assert Session.objects.count() == 0
