"""Links by which users set their own password: who makes them, how they travel, and what ends them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from chatbots.models import ChangeLogEntry, Chatbot, Membership
from console.admin import staff as admin
from tests.codes import PASSWORD, inside_with, log_in, set_up
from tests.mail_server import MailServer, mail_server
from tests.patches import before
from tests.people import client_of, member, staff

ADD, PAGE, OWN = "/admin/auth/user/add/", "/admin/set-password/", "a password of my own"


def link_in(text: str) -> str:
    [link] = re.findall(r"https?://\S+/admin/set-password/#[\w-]+", text)
    return str(link)


def link_page(user: User) -> str:
    return f"/admin/auth/user/{user.pk}/password/"


def new_link(boss: Client, user: User) -> str:
    return link_in(boss.post(link_page(user)).text)


def follow(link: str, password: str = OWN, **extra: str) -> str:
    """Set a password by a link; return where it leads, or the page."""
    form = {"code": link.partition("#")[2], "new_password1": password, "new_password2": password}
    answer = Client().post(PAGE, form, **extra)
    return answer.get("Location") or answer.text


def is_over(link: str) -> bool:
    return "This link is over" in follow(link, REMOTE_ADDR=f"203.0.113.{next(_ADDRESSES)}")


_ADDRESSES = iter(range(1, 255))


@pytest.fixture
def boss(user: User) -> Client:
    return client_of(user)


@pytest.fixture
def other(chatbot: Chatbot) -> User:
    found = staff(chatbot)
    found.set_password(PASSWORD)
    found.email = "other@example.com"
    found.save()
    return found


@contextmanager
def mailing(settings) -> Iterator[MailServer]:
    with mail_server() as server:
        settings.MAILS, settings.EMAIL_BACKEND = True, "common.outbound.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        settings.DEFAULT_FROM_EMAIL = "compliance@example.com"
        settings.CONSOLE_URL = "https://console.example.com"
        yield server


def test_of_two_forms_with_one_name_the_second_says_that_it_is_taken(boss, chatbot, monkeypatch):
    before(monkeypatch, admin, "add_user", lambda **_: User.objects.create_user("ada"))  # since the form was checked

    answer = boss.post(ADD, {"username": "ada", "email": "", "role": "viewer", "chatbots": [chatbot.pk]})

    assert (answer.status_code, "A user with that username already exists." in answer.text) == (200, True)
    assert not Membership.objects.filter(user__username="ada").exists()
    assert not LogEntry.objects.exists()


def test_one_form_adds_a_user_and_shows_the_link_once(boss, user, chatbot, neighbour, caplog):
    new = {"username": "ada", "email": "ada@example.com", "role": "officer", "chatbots": [chatbot.pk, neighbour.pk]}
    answer = boss.post(ADD, new)
    link = link_in(answer.text)
    assert "no-store" in answer["Cache-Control"]

    ada = User.objects.get(username="ada")
    assert (ada.email, ada.is_staff, ada.is_superuser, ada.has_usable_password()) == ("ada@example.com", 1, 0, False)
    given = Membership.objects.filter(user=ada).values_list("chatbot", "role")
    assert set(given) == {(chatbot.pk, "officer"), (neighbour.pk, "officer")}
    entries = ChangeLogEntry.objects.filter(event="membership.set").values_list("chatbot", "actor", "data__user")
    assert set(entries) == {(one.pk, f"user:{user.pk}", ada.pk) for one in (chatbot, neighbour)}

    assert follow(link) == "/admin/login/?ended=password"
    assert "Your password was saved" in Client().get("/admin/login/?ended=password").text
    assert log_in(Client(), ada, OWN) == 302
    assert f"invitation.created user={ada.pk} actor=user:{user.pk}" in caplog.text
    assert f"invitation.accepted user={ada.pk}" in caplog.text
    history = " ".join(f"{one.object_repr} {one.change_message}" for one in LogEntry.objects.all())
    for text in (caplog.text, history, boss.get(f"/admin/auth/user/{ada.pk}/change/").text):
        assert link.partition("#")[2] not in text
    assert not any(name in caplog.text + history for name in ("ada", OWN))


def test_a_superuser_needs_no_chatbot_and_others_do(boss):
    new = {"username": "grace", "email": "", "role": "viewer"}
    assert "Choose a chatbot" in boss.post(ADD, new).text
    assert "already exists" in boss.post(ADD, new | {"username": "SAM.staff", "role": "superuser"}).text
    assert not User.objects.filter(username="grace").exists()
    link_in(boss.post(ADD, new | {"role": "superuser"}).text)
    assert User.objects.get(username="grace").is_superuser


def test_only_superusers_make_links(chatbot, other):
    for client in (member(chatbot, Membership.Role.OFFICER), client_of(other)):
        for path in (ADD, link_page(other)):
            assert client.get(path).status_code == client.post(path).status_code == 403
    assert log_in(Client(), other) == 302


def test_it_is_mailed_where_there_is_a_server_and_shown_nowhere(boss, chatbot, settings, caplog):
    new = {"username": "ada", "email": "ada@example.com", "role": "viewer", "chatbots": [chatbot.pk]}
    with mailing(settings) as server:
        assert "This field is required" in boss.post(ADD, new | {"email": ""}).text
        page = boss.post(ADD, new, follow=True)
        [mail] = server.to("ada@example.com")
    text = mail.get_content()
    link = link_in(text)
    assert link.startswith("https://console.example.com/")
    assert ("Your user name is ada" in text, "was mailed" in page.text, link in page.text) == (True, True, False)
    assert follow(link).startswith("/admin/login/")
    assert "ada" not in caplog.text


def test_a_mail_that_fails_says_so_and_another_can_be_sent(boss, other, settings, caplog):
    with mailing(settings) as server:
        server.refuses.add(other.email)
        assert "could not be mailed (recipient_refused)" in boss.post(link_page(other), follow=True).text
        server.refuses.clear()
        boss.post(link_page(other))
        assert follow(link_in(server.to(other.email)[0].get_content())).startswith("/admin/login/")
        User.objects.filter(pk=other.pk).update(email="")
        assert "has no mail address" in boss.post(link_page(other), follow=True).text
    assert f"invitation.not_sent user={other.pk} code=recipient_refused" in caplog.text
    assert other.email not in caplog.text
    assert log_in(Client(), other, OWN) == 302


def test_a_link_for_a_lost_password_ends_the_former_one_and_its_sessions_but_no_second_factor(boss, other):
    app = set_up(other)
    inside = inside_with(app)
    assert inside.get("/admin/password_change/").status_code == 200
    assert "Create link" in boss.get(link_page(other)).text
    assert inside.get("/admin/password_change/").status_code == 200

    link = new_link(boss, other)
    assert inside.get("/admin/password_change/").status_code == 302
    assert log_in(Client(), other) == 200
    follow(link)
    client = Client()
    assert log_in(client, other, OWN) == 302
    assert client.get("/admin/password_change/").status_code == 302
    app.forget_codes()
    client.post("/admin/login/code/", {"code": app.next_code()})
    assert client.get("/admin/password_change/").status_code == 200


def test_a_link_works_once_and_a_newer_one_ends_it(boss, other):
    former, link = new_link(boss, other), new_link(boss, other)
    assert is_over(former)
    assert follow(link).startswith("/admin/login/")
    assert is_over(link)
    other.refresh_from_db()
    assert other.check_password(OWN)


def test_a_link_is_over_after_72_hours(boss, other, monkeypatch):
    links = [new_link(boss, other), new_link(boss, other)]
    now = datetime.now()  # noqa: DTZ005  (as Django's tokens have it)
    ends = now + timedelta(hours=72)
    monkeypatch.setattr("django.contrib.auth.tokens.PasswordResetTokenGenerator._now", lambda self: ends)
    assert "too short" in follow(links[1], "short")
    late = ends + timedelta(seconds=2)
    monkeypatch.setattr("django.contrib.auth.tokens.PasswordResetTokenGenerator._now", lambda self: late)
    assert is_over(links[1])


def test_what_changes_the_user_ends_the_link(boss, other, monkeypatch):
    page, form = f"/admin/auth/user/{other.pk}/change/", {"username": "other", "memberships-TOTAL_FORMS": 0}
    form |= {"memberships-INITIAL_FORMS": 0, "email": other.email, "is_staff": "on", "is_active": "on"}
    for changed in ({"email": "new@example.com"}, {"is_active": ""}, {"is_staff": ""}):
        link = new_link(boss, other)
        boss.post(page, form | changed)
        assert is_over(link), changed
        # It does not come back with the access.
        boss.post(page, form)
        assert is_over(link) or "email" in changed, changed

    link = new_link(boss, other)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "typed by an operator")
    call_command("changepassword", "other")
    assert is_over(link)


def test_whoever_cannot_log_in_gets_no_link(boss, other):
    User.objects.filter(pk=other.pk).update(is_active=False)
    assert "This user cannot log in" in boss.post(link_page(other), follow=True).text


def test_one_s_own_password_is_changed_as_before(boss, user):
    assert boss.post(link_page(user))["Location"] == "/admin/password_change/"
    assert log_in(Client(), user) == 302


def test_validators_refuse_a_password_and_the_link_stays(boss, other):
    link = new_link(boss, other)
    assert "too short" in follow(link, "short")
    assert "too similar" in follow(link, f"{other.username}-pass")
    page = Client().post(PAGE, {"code": link.partition("#")[2], "new_password1": OWN, "new_password2": "another"})
    assert "match" in page.text
    assert follow(link).startswith("/admin/login/")


def test_two_forms_sent_at_once_set_one_password(boss, other, monkeypatch):
    from accounts import invitations

    code = new_link(boss, other).partition("#")[2]
    first, second = invitations.user_of(code), invitations.user_of(code)
    assert invitations.accept(user=first, password=OWN)
    assert not invitations.accept(user=second, password="another password")
    other.refresh_from_db()
    assert other.check_password(OWN)


def test_guesses_lock_out_their_address_but_neither_the_link_nor_the_user(boss, other, settings):
    settings.LOGIN_FAILURES_PER_ADDRESS = 6
    link = new_link(boss, other)
    guesses = [f"{other.pk}-abc-{number:032}" for number in range(settings.LOGIN_FAILURES_PER_ADDRESS)]
    form, there = {"new_password1": OWN, "new_password2": OWN}, {"REMOTE_ADDR": "203.0.113.254"}
    statuses = [Client().post(PAGE, form | {"code": code}, **there).status_code for code in guesses]
    assert statuses == [200] * (len(guesses) - 1) + [429]
    assert "Too many failed log-ins" in follow(link, **there)
    assert follow(link).startswith("/admin/login/")
    assert log_in(Client(), other, OWN) == 302


def test_failures_elsewhere_lock_no_link(boss, other, settings, monkeypatch):
    """Unknown names share counts of all addresses: with enough of them, all counts are full."""
    monkeypatch.setattr("accounts.lockouts._UNKNOWN_NAMES", 1)
    link = new_link(boss, other)
    for number in range(settings.LOGIN_FAILURES_PER_NAME):
        form = {"username": f"nobody-{number}", "password": "wrong"}
        Client().post("/admin/login/", form, REMOTE_ADDR=f"198.51.100.{number}")
    assert follow(link, REMOTE_ADDR="203.0.113.253").startswith("/admin/login/")


def test_a_broken_code_is_over():
    for code in ("", "1", "-", "1-", "x-1-2", "9" * 5_000 + "-1-2", "1-\0-2", "²-1-2", "1-é-ü"):
        answer = Client().post(PAGE, {"code": code, "new_password1": OWN, "new_password2": OWN})
        assert (answer.status_code, "saved" in answer.text) == (200, False), code
