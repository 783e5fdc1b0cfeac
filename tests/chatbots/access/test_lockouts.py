"""Lock-outs after repeated failures, over HTTP."""

import logging
import re
from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client, RequestFactory

from chatbots.access import lockouts
from tests.codes import PASSWORD, log_in
from tests.people import client_of

pytestmark = pytest.mark.django_db


def fail(user: User, times: int, **extra: str) -> int:
    client = Client()
    return [log_in(client, user, "wrong", **extra) for _ in range(times)][-1]


def test_it_locks_a_name_out_from_one_address_and_says_until_when(user, settings):
    assert fail(user, settings.LOGIN_FAILURES - 1) == 200
    client = Client()
    answer = client.post("/admin/login/", {"username": "sam.staff", "password": "wrong"})
    assert answer.status_code == 429
    assert 800 < int(answer["Retry-After"]) <= 900
    last = AccessAttempt.objects.get().attempt_time
    assert f"{last + settings.LOGIN_COOLOFF:%H:%M} UTC" in answer.text
    assert "sam.staff" not in answer.text
    assert "default-src 'none'" in answer["Content-Security-Policy"]

    assert log_in(client, user) == 429  # also with the right password
    assert AccessAttempt.objects.get().attempt_time == last  # which does not put it off
    assert log_in(Client(), user, REMOTE_ADDR="203.0.113.9") == 302
    other = User.objects.create_superuser("other", password=PASSWORD)
    assert log_in(Client(), other) == 302

    AccessAttempt.objects.update(attempt_time=F("attempt_time") - settings.LOGIN_COOLOFF)
    assert log_in(client, user) == 302
    assert not AccessAttempt.objects.exists()


def test_a_name_that_nobody_has_is_locked_out_alike(user, settings):
    nobody = User(username="nobody")
    assert [fail(one, settings.LOGIN_FAILURES - 1) for one in (user, nobody)] == [200, 200]
    told = []
    for one in (user, nobody):
        answer = Client().post("/admin/login/", {"username": one.username, "password": "wrong"})
        told.append((answer.status_code, re.sub(r"<time.*?</time>", "", answer.text), sorted(answer.headers)))
    assert told[0][0] == told[1][0] == 429
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("proxies", "sent", "believed"),
    [
        (0, "203.0.113.9", "192.0.2.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "10.9.9.9, 203.0.113.9", "203.0.113.9"),
        (2, "10.9.9.9, 203.0.113.9, 198.51.100.1", "203.0.113.9"),
        (2, "203.0.113.9", None),
        (1, "", None),
        (1, "not an address", None),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_it_believes_of_forwarded_addresses_what_its_own_proxies_wrote(settings, proxies, sent, believed):
    settings.BEHIND_PROXY, settings.PROXY_COUNT = proxies > 0, proxies
    request = RequestFactory(REMOTE_ADDR="192.0.2.1").get("/", headers={"X-Forwarded-For": sent})
    assert lockouts.client_address(request) == believed


def test_an_invented_header_does_not_get_around_it(user, settings):
    settings.BEHIND_PROXY = True
    client = Client()
    statuses = [
        log_in(client, user, "wrong", HTTP_X_FORWARDED_FOR=f"10.0.0.{number}, 203.0.113.9")
        for number in range(settings.LOGIN_FAILURES)
    ]
    assert statuses[-1] == 429


def test_it_is_quiet_about_names_in_its_log(user, settings, caplog):
    caplog.set_level(logging.DEBUG, "axes")
    caplog.set_level(logging.DEBUG, "chatbots")
    fail(user, settings.LOGIN_FAILURES)
    assert "sam.staff" not in caplog.text
    assert f"login.locked_out user={user.pk}" in caplog.text
    assert timedelta(minutes=15) == settings.LOGIN_COOLOFF


def test_nobody_guesses_a_password_in_the_session_of_another(user, settings):
    client = client_of(user)
    guess = {"old_password": "wrong", "new_password1": "x" * 20, "new_password2": "y" * 20}
    statuses = [client.post("/admin/password_change/", guess).status_code for _ in range(settings.LOGIN_FAILURES)]
    assert statuses == [200] * (settings.LOGIN_FAILURES - 1) + [429]

    right = {"old_password": PASSWORD, "new_password1": "another good one", "new_password2": "another good one"}
    assert client.post("/admin/password_change/", right).status_code == 429
    AccessAttempt.objects.all().delete()
    assert client.post("/admin/password_change/", right).status_code == 302
