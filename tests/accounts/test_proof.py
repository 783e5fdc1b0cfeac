"""Changes that would outlive a stolen session require the password again."""

import re
import time

import pytest
from django.contrib.auth.models import User
from django.test import Client

from accounts import second_factor
from accounts.models import Authenticator, LoginFailures
from chatbots.models import ApiKey, Membership
from tests.codes import PASSWORD, log_in, set_up
from tests.every_page import TABLE
from tests.people import staff

CONFIRM = "/admin/confirm-password/"


@pytest.fixture
def stolen(user: User, monkeypatch) -> Client:
    """A session of a user who typed the password some minutes ago, with the second factor if there is one."""
    client = Client()
    client.force_login(user)
    later = time.time() + 601
    monkeypatch.setattr("time.time", lambda: later)
    return client


def asks(client: Client, method: str, path: str, **body: str) -> bool:
    answer = getattr(client, method)(path, body, headers={"Referer": f"http://testserver{path}"})
    return bool(answer.status_code == 302 and answer["Location"].startswith(f"{CONFIRM}?next="))


def test_a_second_factor_is_not_set_up_without_it(user, stolen):
    for method in ("get", "post"):
        assert asks(stolen, method, "/admin/second-factor/set-up/", code="123456")
    assert not Authenticator.objects.exists()


@pytest.mark.parametrize("page", ["recovery-codes", "remove"])
def test_an_existing_second_factor_is_neither_renewed_nor_removed_without_it(user, page, monkeypatch):
    app, client = set_up(user), Client()
    log_in(client, user)
    client.post("/admin/login/code/", {"code": app.next_code()})
    app.forget_codes()
    later = time.time() + 601
    monkeypatch.setattr("time.time", lambda: later)
    for method in ("get", "post"):
        assert asks(client, method, f"/admin/second-factor/{page}/", code=app.next_code())
    assert Authenticator.objects.exists()


def test_no_key_no_role_no_bucket_and_no_rule_is_set_without_it(stolen, chatbot):
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


def test_no_user_is_given_access_without_it(user, stolen):
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


def test_the_password_returns_to_the_page_and_is_valid_for_ten_minutes(user, stolen, monkeypatch):
    there = stolen.get("/admin/second-factor/set-up/")["Location"]
    page = stolen.get(there)
    assert ("Continue" in page.text, "sam.staff" in re.findall("<title>(.*?)</title>", page.text)) == (True, False)
    wrong = stolen.post(there, {"password": "wrong"})
    assert (wrong.status_code, "Incorrect password" in wrong.text) == (200, True)
    assert stolen.post(there, {"password": PASSWORD})["Location"] == "/admin/second-factor/set-up/"
    assert stolen.get("/admin/second-factor/set-up/").status_code == 200
    later = time.time() + 601
    monkeypatch.setattr("time.time", lambda: later)
    assert asks(stolen, "get", "/admin/second-factor/set-up/")


def test_it_asks_to_send_a_form_again_and_redirects_to_no_other_site(user, stolen):
    answer = stolen.post("/admin/auth/user/add/", headers={"Referer": "https://evil.example/admin/"})
    assert "next=%2Fadmin%2F&" in answer["Location"]
    assert "submit it again" in stolen.get(answer["Location"]).text
    answer = stolen.post(f"{CONFIRM}?next=https://evil.example/", {"password": PASSWORD})
    assert answer["Location"] == "/admin/"


def test_it_locks_out_guesses_too(user, stolen, settings):
    statuses = [stolen.post(CONFIRM, {"password": "wrong"}).status_code for _ in range(settings.LOGIN_FAILURES)]
    assert statuses == [200] * (settings.LOGIN_FAILURES - 1) + [429]
    assert stolen.post(CONFIRM, {"password": PASSWORD}).status_code == 429
    assert log_in(Client(), user) == 429
    LoginFailures.objects.all().delete()
    assert stolen.post(CONFIRM, {"password": PASSWORD}).status_code == 302


def test_it_requires_a_login():
    assert Client().get(CONFIRM)["Location"].startswith("/admin/login/")
