"""Every error under /api/ has one format, and none repeats an exception's text."""

import json
import logging

import psycopg
import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import DataError, InterfaceError, InternalError, OperationalError
from django.http import Http404
from django.test import Client, RequestFactory
from rest_framework import exceptions

from common import problems
from common.problems import CODES, Problem, as_problem, exception_handler
from tests.calls import ALICE, TokenCaller, problem

SECRET = "alice-77@example.com"


def chained() -> Exception:
    def fail() -> None:
        try:
            dict[str, int]()[SECRET]
        except KeyError as error:
            raise ValueError(SECRET) from error

    try:
        fail()
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("code", CODES)
def test_every_code_makes_a_whole_problem(code):
    response = exception_handler(Problem(code), {})
    assert response.status_code == response.data["status"] == CODES[code][0]
    assert response.data.keys() == {"type", "title", "status", "detail", "code", "trace_id", "request_id", "errors"}
    assert response.data["type"] == f"/api/docs/errors#{code}"
    assert 400 <= response.status_code < 500 or code in {
        "internal",
        "unavailable",
        "restored_database",
        "catching_up",
    }


def test_an_unknown_code_raises():
    with pytest.raises(KeyError):
        Problem("no_such_code")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Http404(SECRET), "not_found"),
        (SuspiciousOperation(SECRET), "invalid"),
        (PermissionDenied(SECRET), "scope_missing"),
        (exceptions.ParseError(SECRET), "invalid"),
        (exceptions.NotAuthenticated(SECRET), "not_authenticated"),
        (exceptions.PermissionDenied(SECRET), "scope_missing"),
        (exceptions.MethodNotAllowed("PUT"), "method_not_allowed"),
        (exceptions.NotAcceptable(SECRET), "not_acceptable"),
        (exceptions.UnsupportedMediaType(SECRET), "unsupported_media_type"),
        (exceptions.Throttled(), "rate_limited"),
        (OperationalError(SECRET), "unavailable"),
        (InterfaceError(SECRET), "unavailable"),
        (DataError(SECRET), "internal"),
        (exceptions.APIException(SECRET), "internal"),
        (chained(), "internal"),
    ],
)
def test_any_exception_becomes_a_problem_that_does_not_quote_it(error, code, caplog):
    response = exception_handler(error, {})
    assert response.data["code"] == code
    assert SECRET not in json.dumps(response.data)
    assert SECRET not in caplog.text


def test_a_server_error_is_logged_with_types_and_frames(caplog):
    as_problem(chained())
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    message = record.getMessage()
    assert "builtins.ValueError" in message
    assert "builtins.KeyError" in message
    assert "in chained" in message


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OperationalError(SECRET), psycopg.errors.DeadlockDetected(SECRET)),
        # A call whose connection was ended may be sent again.
        (InternalError(SECRET), psycopg.errors.IdleInTransactionSessionTimeout(SECRET)),
    ],
)
def test_an_unavailable_database_is_logged_by_its_sqlstate_only(error, cause, caplog):
    error.__cause__ = cause
    assert as_problem(error).code == "unavailable"
    assert f"SQLSTATE {cause.sqlstate}" in caplog.text
    assert SECRET not in caplog.text


def test_a_refusal_is_not_logged_as_an_error(caplog):
    as_problem(Problem("invalid"))
    as_problem(Http404())
    assert not caplog.records


@pytest.mark.parametrize("debug", [False, True])
def test_an_unknown_path_returns_a_problem(db, settings, debug):
    settings.DEBUG = debug
    for path in (
        *("/api/", "/api/v1", "/api/v2/chatbots/acme/data-deletion", "/api/v1/chatbots/acme/data-deletion/"),
        *("/api/v1/chatbots/acme/requests/not-a-uuid", "/api/v1/chatbots/a b/data-deletion"),
        *("/api/v1/chatbots/%00/data-deletion", "/api/v1/chatbots/../../admin", "/api/%F0%9F%92%A9"),
    ):
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            problem(Client().generic(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("data-deletion/", "no slash at the end"),
        ("requests/018f0000-0000-7000-8000-000000000000/cancel/", "no slash at the end"),
        ("requests/not-a-uuid/cancel", "A request's id is a UUID in lower case with hyphens"),
        ("requests/018F0000-0000-7000-8000-000000000000", "A request's id is a UUID in lower case with hyphens"),
        ("conversations/c-1001/messages", "A conversation is named by its number, not by the platform's id"),
        ("requests/018f0000-0000-7000-8000-000000000000/erase", "There is nothing at this path."),
    ],
)
def test_an_unknown_path_says_what_may_be_wrong_with_it(db, path, hint):
    body = problem(Client().post(f"/api/v1/chatbots/acme/{path}"), 404, "not_found")
    assert hint in body["detail"]
    assert ("slash" in body["detail"]) is path.endswith("/")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("data-deletion", "POST"),
        ("data-export", "POST"),
        ("conversations", "GET, HEAD, POST"),
        ("conversations/lookup", "POST"),
        ("requests/{id}", "GET, HEAD"),
    ],
)
def test_another_method_is_refused_to_anyone(db, path, allowed):
    path = path.format(id="018f0000-0000-7000-8000-000000000000")
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "OTHER"):
        response = Client().generic(method, f"/api/v1/chatbots/acme/{path}")
        problem(response, 405, "method_not_allowed")
        assert response.headers["Allow"] == allowed


def test_an_answer_in_another_format_is_refused(chatbot):
    caller = TokenCaller(chatbot)
    for accept in ("text/html", "application/xml", "image/*;q=0.5"):
        problem(caller.post("data-deletion", ALICE, Accept=accept), 406, "not_acceptable")
    for accept in ("application/json", "*/*", "text/html, application/*;q=0.1"):
        assert caller.post("data-deletion", ALICE, Accept=accept).status_code == 200


def test_an_unknown_host_returns_a_problem_under_api_only(db, settings):
    settings.ALLOWED_HOSTS = ["here"]
    problem(Client(headers={"host": "elsewhere"}).get("/api/v1/x"), 400, "invalid")
    response = Client(headers={"host": "elsewhere"}).get("/admin/login/")
    assert "json" not in response.headers["Content-Type"]


def test_errors_outside_views_return_a_problem_under_api_only():
    response = problems.server_error(RequestFactory().get("/api/v1/x"))
    assert json.loads(response.getvalue())["code"] == "internal"
    assert "json" not in problems.server_error(RequestFactory().get("/x")).headers["Content-Type"]
