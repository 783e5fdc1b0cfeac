"""Users in the admin: for superusers only, and without personal data in Django's history."""

import re
from base64 import b32encode

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.test import Client, RequestFactory

from accounts.models import Authenticator, LoginFailures
from chatbots.models import Chatbot, Membership
from tests.codes import PASSWORD, inside_with, log_in, set_up
from tests.people import client_of, staff

CHANGED = {
    "username": "sam.renamed",
    "email": "s@example.com",
    "is_active": "on",
    "is_staff": "on",
    "is_superuser": "on",
}


def page_of(user: User) -> str:
    return f"/admin/auth/user/{user.pk}/change/"


def test_a_user_s_page_shows_their_roles_and_offers_nothing_that_grants_nothing(user, chatbot, neighbour):
    other = staff(chatbot, Membership.Role.OFFICER)
    page = client_of(user).get(page_of(other)).text
    assert (chatbot.slug in page, "Officer" in page, neighbour.slug in page) == (True, True, False)
    assert not any(name in page for name in ('name="groups"', 'name="user_permissions"'))
    assert not admin.site.is_registered(Group)


def test_django_s_history_names_users_by_number(user):
    client, other = client_of(user), User.objects.create_user("gone.tomorrow", is_staff=True)
    new = {"username": "new.person", "email": "n@example.com", "role": "superuser"}
    assert "shown once" in client.post("/admin/auth/user/add/", new).text
    assert client.post(page_of(other), CHANGED | inline()).status_code == 302
    assert client.post(f"/admin/auth/user/{other.pk}/delete/", {"post": "yes"}).status_code == 403
    found = " ".join(f"{one.object_repr} {one.change_message}" for one in LogEntry.objects.all())
    assert LogEntry.objects.count() == 3
    assert f"user {other.pk}" in found
    assert not any(name in found for name in ("gone.tomorrow", "sam.renamed", "new.person", "example.com"))


def inline() -> dict[str, int]:
    return {"memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}


def test_users_cannot_lock_themselves_out(user):
    for flag in ("is_active", "is_staff", "is_superuser"):
        given = {name: value for name, value in CHANGED.items() if name != flag}
        answer = client_of(user).post(page_of(user), given | inline())
        assert answer.status_code == 200
        assert "remove this from your own account" in answer.text


def test_no_page_deletes_what_is_selected(user):
    request = RequestFactory().get("/")
    request.user = user
    for model_admin in admin.site._registry.values():
        assert "delete_selected" not in model_admin.get_actions(request)


def test_a_superuser_removes_a_lost_second_factor(user, chatbot, caplog):
    other = staff(chatbot)
    other.set_password(PASSWORD)
    other.save()
    app = set_up(other)
    client = inside_with(app)
    assert client.get("/admin/password_change/").status_code == 200

    boss = client_of(user)
    assert other.username in boss.get("/admin/accounts/authenticator/").text
    path = f"/admin/accounts/authenticator/{app.authenticator.pk}/delete/"
    assert boss.post(path, {"post": "yes"}).status_code == 302

    assert not Authenticator.objects.exists()
    assert client.get("/admin/password_change/")["Location"].startswith("/admin/login/?ended=access")
    assert f"second_factor.removed user={other.pk} actor=user:{user.pk}" in caplog.text
    assert LogEntry.objects.get().object_repr == f"authenticator {app.authenticator.pk}"
    assert log_in(Client(), other) == 302


def test_no_page_shows_a_secret_of_a_device(user):
    app = set_up(user)
    client = inside_with(app)
    page = client.get(f"/admin/accounts/authenticator/{app.authenticator.pk}/change/")
    assert page.status_code == 200
    secret = app.authenticator.bin_key
    for shown in (secret.hex(), b32encode(secret).decode(), app.authenticator.secret_encrypted):
        assert shown not in page.text
    assert client.get("/admin/otp_totp/totpdevice/").status_code == 404


def test_the_operator_removes_a_second_factor_by_command(user, capsys):
    set_up(user)
    call_command("remove_second_factor", "sam.staff")
    assert not Authenticator.objects.exists()
    assert "sam.staff" not in capsys.readouterr().out
    for name in ("sam.staff", "nobody"):
        with pytest.raises(CommandError):
            call_command("remove_second_factor", name)


def test_a_superuser_lifts_a_lock_out(user, chatbot: Chatbot, settings):
    other = staff(chatbot)
    for _ in range(settings.LOGIN_FAILURES):
        log_in(Client(), other, "wrong")
    other.set_password(PASSWORD)
    other.save()
    assert log_in(Client(), other) == 429
    boss = client_of(user)
    assert other.username in boss.get("/admin/accounts/loginfailures/").text
    for row in LoginFailures.objects.filter(user=other):
        assert boss.post(f"/admin/accounts/loginfailures/{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert log_in(Client(), other) == 302


def test_no_title_names_a_user(user):
    client, other = client_of(user), User.objects.create_user("gone.tomorrow", is_staff=True)
    pages = [client.get(f"/admin/auth/user/{other.pk}/{page}/").text for page in ("change", "history", "password")]
    for text in (*pages, client.post(f"/admin/auth/user/{other.pk}/password/").text):
        [title] = re.findall(r"<title>(.*?)</title>", text, re.DOTALL)
        assert "gone.tomorrow" not in title
        assert "gone.tomorrow" in text


def test_no_page_of_django_reveals_which_rows_exist(user, chatbot: Chatbot):
    kind = ContentType.objects.get_for_model(Chatbot).pk
    for client in (client_of(user), client_of(staff(chatbot))):
        for path in (f"r/{kind}/{chatbot.pk}/", f"r/{kind}/abc/", "autocomplete/"):
            answer = client.get(f"/admin/{path}", {"app_label": "auth", "model_name": "user", "field_name": "groups"})
            assert (answer.status_code, "Page not found" in answer.text) == (404, True)
