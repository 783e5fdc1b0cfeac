"""Lock-outs after repeated failures, over HTTP."""

import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from accounts import lockouts
from accounts.hashing import TooBusy
from accounts.models import LoginFailures, StaffLogin
from tests.codes import PASSWORD, log_in
from tests.patches import before, failing
from tests.people import client_of


def fail(user: User, times: int, **extra: str) -> int:
    client = Client()
    return [log_in(client, user, "wrong", **extra) for _ in range(times)][-1]


def let_it_pass() -> None:
    LoginFailures.objects.update(ends_at=Now())


def test_a_name_is_locked_out_from_one_address_and_the_page_shows_until_when(user, settings):
    assert fail(user, settings.LOGIN_FAILURES - 1) == 200
    client = Client()
    answer = client.post("/admin/login/", {"username": "sam.staff", "password": "wrong"})
    assert answer.status_code == 429
    assert 800 < int(answer["Retry-After"]) <= 900
    [until] = LoginFailures.objects.filter(user=user, address="127.0.0.1").values_list("ends_at", flat=True)
    assert f"{until:%H:%M} UTC" in answer.text
    assert "sam.staff" not in answer.text
    assert "default-src 'none'" in answer["Content-Security-Policy"]

    assert log_in(client, user) == 429  # even with the right password
    assert LoginFailures.objects.filter(ends_at=until).count() == 1  # without extending the lock-out
    assert log_in(Client(), user, REMOTE_ADDR="203.0.113.9") == 302
    other = User.objects.create_superuser("other", password=PASSWORD)
    assert log_in(Client(), other) == 302

    let_it_pass()
    assert log_in(Client(), user) == 302
    assert fail(user, settings.LOGIN_FAILURES - 1) == 200


def test_an_unknown_name_is_locked_out_too(user, settings):
    unknown = User(username="nobody")
    assert [fail(one, settings.LOGIN_FAILURES - 1) for one in (user, unknown)] == [200, 200]
    found = []
    for one in (user, unknown):
        with CaptureQueriesContext(connection) as captured:
            answer = Client().post("/admin/login/", {"username": one.username, "password": "wrong"})
        text = re.sub(r"<time.*?</time>", "", answer.text)
        found.append((answer.status_code, text, sorted(answer.headers), len(captured)))
    assert found[0][0] == found[1][0] == 429
    assert found[0] == found[1]


def test_one_address_cannot_guess_with_many_names(user, settings):
    settings.LOGIN_FAILURES_PER_ADDRESS = 6
    names = [User(username=f"name{number}") for number in range(settings.LOGIN_FAILURES_PER_ADDRESS)]
    assert [fail(one, 1) for one in names] == [200] * (len(names) - 1) + [429]
    answer = Client().post("/admin/login/", {"username": "sam.staff", "password": PASSWORD})
    assert (answer.status_code, "failed from your address." in answer.text) == (429, True)
    assert log_in(Client(), user, REMOTE_ADDR="203.0.113.9") == 302


def test_many_addresses_cannot_guess_one_name(user, settings):
    for spelled in ("sam.staff", "SAM.Staff"):
        LoginFailures.objects.all().delete()
        guesses = [
            fail(User(username=spelled), 1, REMOTE_ADDR=f"2001:db8:0:{number}::1")
            for number in range(settings.LOGIN_FAILURES_PER_NAME)
        ]
        assert guesses == [200] * (len(guesses) - 1) + [429]
    answer = Client().post(
        "/admin/login/", {"username": "sam.staff", "password": PASSWORD}, REMOTE_ADDR="203.0.113.9"
    )
    assert (answer.status_code, "where you have logged in recently" in answer.text) == (429, True)


def test_forged_addresses_do_not_help_to_guess(user, settings):
    settings.BEHIND_PROXY = True
    forged = [f"203.0.113.{number}" for number in range(settings.LOGIN_FAILURES_PER_NAME)]
    statuses = [fail(user, 1, HTTP_X_FORWARDED_FOR=address) for address in forged]
    assert statuses.index(429) == settings.LOGIN_FAILURES_PER_NAME - 1
    settings.BEHIND_PROXY = False
    let_it_pass()
    statuses = [fail(user, 1, HTTP_X_FORWARDED_FOR=address) for address in forged]
    assert statuses.index(429) == settings.LOGIN_FAILURES - 1


def test_a_user_is_not_locked_out_by_strangers_at_a_recently_used_address(user, settings):
    assert log_in(Client(), user, REMOTE_ADDR="203.0.113.9") == 302
    for number in range(settings.LOGIN_FAILURES_PER_NAME):
        fail(user, 1, REMOTE_ADDR=f"192.0.2.{number}")
    assert log_in(Client(), user, REMOTE_ADDR="203.0.113.10") == 429
    assert log_in(Client(), user, REMOTE_ADDR="203.0.113.9") == 302
    # Failures at that address still count.
    assert fail(user, settings.LOGIN_FAILURES, REMOTE_ADDR="203.0.113.9") == 429
    assert log_in(Client(), user, REMOTE_ADDR="203.0.113.9") == 429

    LoginFailures.objects.filter(address="203.0.113.9").delete()
    StaffLogin.objects.update(at=Now() - settings.LOGIN_RECORD_DAYS)
    assert log_in(Client(), user, REMOTE_ADDR="203.0.113.9") == 429


def test_a_correct_password_does_not_count_as_a_failure(user, settings):
    settings.LOGIN_FAILURES_PER_ADDRESS = settings.LOGIN_FAILURES
    for _ in range(settings.LOGIN_FAILURES + 1):
        assert log_in(Client(), user) == 302
    assert not LoginFailures.objects.exclude(failures=0).exists()


def test_a_password_is_hashed_only_where_it_may_be_tried(user, settings, monkeypatch):
    settings.LOGIN_FAILURES_PER_ADDRESS = 3
    hashed: list[str] = []
    before(monkeypatch, MD5PasswordHasher, "encode", lambda _hasher, password, _salt: hashed.append(password))
    for number in range(10):
        fail(User(username=f"name{number}"), 1)
        fail(user, 1)
    assert len(hashed) == 3


def test_a_refused_client_is_refused_again_without_a_query(user, settings):
    client = Client()
    for _ in range(settings.LOGIN_FAILURES):
        log_in(client, user, "wrong")
    with CaptureQueriesContext(connection) as captured:
        assert log_in(client, user) == 429
    assert len(captured) == 0
    other = User.objects.create_superuser("other", password=PASSWORD)
    assert log_in(client, other) == 302


def test_unknown_names_leave_a_bounded_number_of_rows(user, settings, monkeypatch):
    monkeypatch.setattr(lockouts, "_UNKNOWN_NAMES", 4)
    settings.LOGIN_FAILURES_PER_NAME = settings.LOGIN_FAILURES_PER_ADDRESS = settings.LOGIN_FAILURES = 100
    for number in range(20):
        fail(User(username=f"name{number}"), 1)
    # Of names, of names from this address, and of this address.
    assert LoginFailures.objects.count() <= 4 + 4 + 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_guesses_are_limited_too(user, settings):
    barrier = threading.Barrier(12)

    def guess(number: int) -> int:
        try:
            barrier.wait()
            return fail(user, 1, REMOTE_ADDR=f"192.0.2.{number}")
        finally:
            connection.close()

    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(guess, range(12)))
    # The last attempt that was checked gets the lock-out message too.
    assert statuses.count(200) == settings.LOGIN_FAILURES_PER_NAME - 1


def test_an_attempt_that_was_not_checked_is_not_counted(user, monkeypatch):
    monkeypatch.setattr(MD5PasswordHasher, "encode", failing(TooBusy))
    for path, body in (
        ("/admin/login/", {"username": "sam.staff", "password": PASSWORD}),
        ("/admin/login/", {"username": "nobody", "password": PASSWORD}),
        ("/admin/password_change/", {"old_password": "x", "new_password1": "y" * 20, "new_password2": "y" * 20}),
    ):
        answer = (client_of(user) if "change" in path else Client()).post(path, body)
        assert (answer.status_code, answer["Retry-After"], "so yours was not" in answer.text) == (429, "5", True)
    assert not LoginFailures.objects.exclude(failures=0).exists()


def test_only_addresses_forwarded_by_trusted_proxies_are_used(settings) -> None:
    for proxies, sent, believed in [
        (0, "203.0.113.9", "192.0.2.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "10.9.9.9, 203.0.113.9", "203.0.113.9"),
        (2, "10.9.9.9, 203.0.113.9, 198.51.100.1", "203.0.113.9"),
        (2, "203.0.113.9", None),
        (1, "", None),
        (1, "not an address", None),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
    ]:
        settings.BEHIND_PROXY, settings.PROXY_COUNT = proxies > 0, proxies
        request = RequestFactory(REMOTE_ADDR="192.0.2.1").get("/", headers={"X-Forwarded-For": sent})
        assert lockouts.client_address(request) == believed


def test_the_log_contains_no_names(user, settings, caplog):
    caplog.set_level(logging.DEBUG, "accounts")
    fail(user, settings.LOGIN_FAILURES)
    assert "sam.staff" not in caplog.text
    assert f"login.locked_out user={user.pk}" in caplog.text
    assert timedelta(minutes=15) == settings.LOGIN_COOLOFF


def test_a_password_cannot_be_guessed_in_another_users_session(user, settings):
    client = client_of(user)
    guess = {"old_password": "wrong", "new_password1": "x" * 20, "new_password2": "y" * 20}
    statuses = [client.post("/admin/password_change/", guess).status_code for _ in range(settings.LOGIN_FAILURES)]
    assert statuses == [200] * (settings.LOGIN_FAILURES - 1) + [429]

    right = {"old_password": PASSWORD, "new_password1": "another good one", "new_password2": "another good one"}
    assert client.post("/admin/password_change/", right).status_code == 429
    let_it_pass()
    assert client.post("/admin/password_change/", right).status_code == 302
