"""Rules for every form, before its view reads it."""

import io
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.test import Client, RequestFactory

from config.handler import Handler
from tests.people import Role, member

pytestmark = pytest.mark.usefixtures("one_connection")

PAGES = ("/admin/login/", "/admin/lookup/", "/admin/file/acme/many/", "/nowhere/")


def call(method: str, path: str, *, charset: str = "", content_type: str = "") -> tuple[str, bytes]:
    """Return status and body of the response to a form, or to a body of this type, as the web server makes it."""
    body = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\n\\ud800\r\n--x--\r\n'
    environ: dict[str, Any] = RequestFactory().generic(method, path, body).environ
    content_type = content_type or f"multipart/form-data; boundary=x; charset={charset}"
    environ |= {"CONTENT_TYPE": content_type, "wsgi.input": io.BytesIO(body)}
    statuses: list[str] = []
    answer = Handler()(environ, lambda status, *_: statuses.append(status))
    return statuses[0], b"".join(answer)


@pytest.mark.parametrize("charset", ["hex", "raw_unicode_escape", "utf-7", "idna", "latin-1"])
def test_a_form_in_another_encoding_is_refused_for_every_user(charset):
    for page in PAGES:
        for method in ("GET", "POST"):  # the header counts for an address too
            status, body = call(method, f"{page}?next=%ff", charset=charset)
            assert status == "400 Bad Request"
            assert b"Send the form in UTF-8, as browsers do." in body


def test_an_api_call_is_answered_whatever_encoding_its_header_names(chatbot):
    for path in ("requests?status=%ff", "data-deletion"):
        status, body = call("POST", f"/api/v1/chatbots/acme/{path}", charset="hex")
        assert status.startswith(("401", "405", "415"))
        assert b'"code"' in body


@pytest.mark.parametrize("header", ["application/json; charset*=x''a", "a/b; c*=utf-8''%ff; charset=nonsense"])
def test_an_unreadable_content_type_returns_a_problem_and_not_500(header):
    status, body = call("POST", "/api/v1/chatbots/acme/data-deletion", content_type=header)
    assert status.startswith(("401", "415"))
    assert b'"code"' in body


def test_a_path_with_nul_is_not_found(chatbot, admin_client):
    for path in ("auth/user/%00/change/", "auth/user/?id=%00", "conversations/?chatbot=%00"):
        answer = admin_client.get(f"/admin/{path}")
        assert (answer.status_code, "Page not found" in answer.text) == (404, True)


def test_a_form_without_a_csrf_token_is_refused_with_an_explanation(chatbot, admin_user):
    for user in (None, admin_user):
        client = Client(enforce_csrf_checks=True)
        if user is not None:
            client.force_login(user)
        for page in PAGES:
            answer = client.post(page, {"username": "x"})
            assert answer.status_code == (404 if page == "/nowhere/" else 403)
            assert ("Page not found" if page == "/nowhere/" else "reload the page") in answer.text
            assert "<style" not in answer.text
            assert "Content-Security-Policy" in answer.headers


def test_a_form_that_is_too_large_is_refused_before_anything_is_stored(chatbot, monkeypatch):
    written: list[str] = []
    monkeypatch.setattr(TemporaryFileUploadHandler, "new_file", lambda *args, **kwargs: written.append("a file"))
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n%s\r\n--x--\r\n'
    header = "multipart/form-data; boundary=x"
    for client in (Client(), member(chatbot, Role.SUPPORT)):
        for page in PAGES[:3]:
            for size, is_taken in ((settings.MAX_BODY_BYTES, False), (settings.MAX_BODY_BYTES - 1_000, True)):
                answer = client.generic("POST", page, body % (b"a" * size), header)
                assert (answer.status_code != 413) == is_taken
    assert written == []
