"""The content security policy of every page: no page contains anything that it would block."""

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.urls import NoReverseMatch, reverse

from chatbots.models import Chatbot
from tests.calls import TokenCaller
from tests.codes import set_up
from tests.every_page import OF_ANYONE, OF_ONESELF, TABLE
from tests.functional.test_who_may import something_of
from tests.people import client_of

pytestmark = pytest.mark.django_db

# A style element or attribute, a script of its own text, a handler in an attribute, an address elsewhere.
_INLINE = re.compile(
    r"<style\b|\sstyle\s*=|<script\b(?![^>]*\ssrc=)(?![^>]*type=\"application/json\")|<[^>]+\son[a-z]+\s*="
    r"|(?:src|href|action)\s*=\s*\"(?:https?:)?//",
    re.IGNORECASE,
)


def addresses(theirs: dict[str, object]) -> set[str]:
    """Return each page of the console, and the list, the form and the deletion of each model of the admin."""
    found = {page.url(theirs) for page in TABLE if page.method == "GET"}
    found |= {reverse(f"console:{name}") for name in OF_ONESELF | OF_ANYONE}
    found |= {reverse(f"admin:{name}") for name in ("index", "records", "password_change", "login")}
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        row = model._default_manager.order_by("pk").first()
        found |= {reverse(f"{name}_{page}") for page in ("changelist", "add")}
        if row is not None:
            found |= {reverse(f"{name}_{page}", args=[row.pk]) for page in ("change", "delete", "history")}
    return found


def has_it_and_nothing_inline(path: str, page: HttpResponse) -> None:
    policy = page.headers["Content-Security-Policy"].split("; ")
    required = {"default-src 'none'", "script-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"}
    assert required <= set(policy), path
    assert "unsafe" not in " ".join(policy), path
    assert page.headers["Referrer-Policy"] == page.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in page.headers["Permissions-Policy"]
    assert page.headers["X-Frame-Options"] == "DENY"
    text = "" if page.streaming else page.text
    found = _INLINE.search(text)
    assert not found, f"{path}: {text[found.start() :][:120]}"


def test_the_first_page_of_staff_has_it_and_nothing_inline(admin_client: Client) -> None:
    page = admin_client.get("/admin/")
    assert page.status_code == 200
    has_it_and_nothing_inline("the first page", page)


@pytest.mark.long(reason="every page is opened")
def test_every_page_has_it_and_nothing_inline(chatbot: Chatbot, admin_user: User) -> None:
    theirs, client = something_of(chatbot), client_of(admin_user)
    set_up(User.objects.create_user("with.a.device", is_staff=True))
    client.post("/admin/login/", {"username": "admin", "password": "wrong"})
    wanted = addresses(theirs) | {"/admin/nowhere/", "/admin/changelog/?chatbot=none"}
    pages = {path: client.get(path) for path in wanted}
    for path, page in pages.items():
        caching = page.headers.get("Cache-Control", "")
        is_kept_by_nobody = "no-store" in caching or {"no-cache", "private"} <= set(re.split(r",\s*", caching))
        assert is_kept_by_nobody or page.status_code in {403, 404}, path
    pages |= {path: Client().get(path) for path in ("/admin/login/?ended=idle", "/api/docs/")}
    pages["a form without its token"] = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "x"})
    assert "Nothing was changed" in pages["a form without its token"].text
    html = {path: one for path, one in pages.items() if one.headers.get("Content-Type", "").startswith("text/html")}
    assert len(html) > 20
    letter, *others = [path for path in html if path.endswith("/letters/received.html")]
    assert not others
    # It is a file of its own, with its style, and runs nothing.
    assert html.pop(letter).headers["Content-Security-Policy"].endswith("; sandbox")
    for path, page in html.items():
        has_it_and_nothing_inline(path, page)


def test_answers_of_the_api_carry_none(chatbot: Chatbot) -> None:
    answer = TokenCaller(chatbot).get("requests")
    assert answer.status_code == 200
    assert not {"Content-Security-Policy", "Permissions-Policy"} & set(answer.headers)


def test_no_page_of_the_admin_can_be_reached_beside_the_console(chatbot: Chatbot) -> None:
    for name in ("auth_group", "otp_totp_totpdevice", "otp_static_staticdevice", "otp_static_statictoken"):
        with pytest.raises(NoReverseMatch):
            reverse(f"admin:{name}_changelist")
