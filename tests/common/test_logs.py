"""Log lines as JSON: fields for programs, with no more personal data than plain lines."""

import json
import logging
import re
import sys
from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.test import RequestFactory
from pytest_django import Settings

from chatbots.models import Chatbot
from common.logs import JsonFormatter, SafeFormatter, WithoutPaths, current_request_id, describe_error, formatter
from config.web_server import Logger
from tests.packages import SERVICE


def logged(message: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    record = logging.getLogger("compliance.worker").makeRecord(
        "compliance.worker", logging.WARNING, __file__, 1, message, args, kwargs.pop("exc_info", None), **kwargs
    )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_line_has_its_time_event_and_fields() -> None:
    line = logged("claim.lost claim=%s owner=%s", 7, "host: two words")

    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "WARNING",
        "logger": "compliance.worker",
        "event": "claim.lost",
        "message": "claim.lost claim=7 owner=host: two words",
        "claim": 7,
        "owner": "host: two words",
    }


@pytest.mark.parametrize(
    ("message", "args", "fields"),
    [
        ("Calls are not counted for now: %s", ["SQLSTATE 57014"], {}),
        ("%s callback=%s code=%s", ["callback.failed", "0-1", "no_answer"], {"callback": "0-1", "code": "no_answer"}),
        ("half=100%% left=%d", [3], {"left": 3}),
        ("level=%s message=%s", ["quiet", "other"], {}),  # our own fields are never overwritten
        ("no arguments=%s", [], {}),
        ("%(client)s did it", [{"client": "x"}], {}),
        ("nothing=%s", [None], {}),
    ],
)
def test_named_arguments_are_fields(message: str, args: list[Any], fields: dict[str, Any]) -> None:
    line = logged(message, *args)

    assert {
        name: line[name] for name in line if name not in {"time", "level", "logger", "message", "event"}
    } == fields
    assert (line["level"], line["logger"]) == ("WARNING", "compliance.worker")


def test_the_call_s_id_is_a_field() -> None:
    token = current_request_id.set("id-of-a-call")
    try:
        assert logged("something")["request_id"] == "id-of-a-call"
    finally:
        current_request_id.reset(token)
    assert "request_id" not in logged("something")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("form", ["line", "json"])
def test_a_database_error_is_logged_without_its_row(chatbot: Chatbot, form: str) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO chatbots_chatbot SELECT * FROM chatbots_chatbot")
    except IntegrityError:
        record = logging.getLogger("x").makeRecord("x", logging.ERROR, "", 1, "claim.failed", (), sys.exc_info())
    # As another handler's plain formatter leaves it.
    record.exc_text = None if form == "line" else "Failing row contains (acme)"

    text = formatter(form).format(record)

    assert "SQLSTATE 23505" in text
    assert "acme" not in text
    assert "already exists" not in text


def test_the_web_server_s_handlers_write_as_ours_do(settings: Settings) -> None:
    from gunicorn.config import Config

    settings.LOG_FORMAT = "json"
    config = Config()
    config.set("accesslog", "-")

    logger = Logger(config)

    handlers = [*logger.error_log.handlers, *logger.access_log.handlers]
    assert len(handlers) >= 2
    assert {type(handler.formatter) for handler in handlers} == {JsonFormatter}
    for handler in handlers:
        logger.error_log.removeHandler(handler)
        logger.access_log.removeHandler(handler)


def test_no_line_of_a_message_looks_like_an_event_of_its_own() -> None:
    sent = "x\n2026-11-26 08:00:00,000 INFO login.done user=1\r\x1b[2K\x00\x85\u2028"
    record = logging.LogRecord("config", logging.INFO, "", 0, "told %s", (sent,), None)
    first, second = SafeFormatter().format(record).split("\n")
    assert first.endswith("told x")
    assert second.startswith("  2026")
    assert not set("\r\x1b\x00\x85\u2028") & set(second)


def test_djangos_log_lines_contain_nothing_sent_by_the_caller() -> None:
    request = RequestFactory().get("/admin/alice/")
    lines = [
        ("django.security.DisallowedHost", "Invalid HTTP_HOST header: 'alice'.", ()),
        ("django.security.csrf", "Forbidden (%s): %s", ("Origin checking failed - alice", "/admin/alice/")),
        ("django.request", "%s: %s", ("Internal Server Error", "/admin/alice/")),
    ]
    for name, text, arguments in lines:
        record = logging.LogRecord(name, logging.ERROR, "", 0, text, arguments, None)
        record.request, record.status_code = request, 500
        assert WithoutPaths().filter(record)
        assert "alice" not in SafeFormatter().format(record)


def test_an_errors_text_is_logged_if_our_own_code_wrote_it() -> None:
    for package in SERVICE:
        ours = type("OurError", (Exception,), {"__module__": f"{package}.somewhere"})
        assert describe_error(ours("what to do")).endswith("OurError: what to do")
    theirs = type("TheirError", (Exception,), {"__module__": "library"})
    assert describe_error(theirs("alice")) == "library.TheirError"
