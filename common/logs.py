"""Log lines that cannot contain the content of a row.

PostgreSQL quotes whole rows and values in its errors ("Failing row contains (…)", "Key (value)=(…)"), and a traceback
prints them. `SafeFormatter` logs every exception, at any depth of its chain, as `describe_error` describes it.
`JsonFormatter` logs the same as one JSON object per line.

Each line has the id of its call, as the response has (`X-Trace-ID`). We always generate it: a caller may send
anything, even a person's value, and logs are not erased. A caller's well-formed `X-Request-ID` is returned and used
nowhere else; otherwise the response has our id there too.
"""

import json
import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_finished
from django.db import Error as DjangoDatabaseError
from django.http import HttpRequest, HttpResponse
from environs import EnvValidationError
from psycopg import Error as PsycopgError
from uuid_utils.compat import uuid7

from common.database_errors import describe_database_error

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}")

# Exceptions whose texts may be logged: our own, and those about code and files, not data.
_OUR_PACKAGES = (
    *("accounts.", "chatbots.", "common.", "compliance."),
    *("config.", "console.", "conversations.", "devdata.", "devservers."),
)
_ABOUT_CODE = (
    AttributeError,
    EnvValidationError,
    ImportError,
    ImproperlyConfigured,
    NameError,
    NotImplementedError,
    OSError,
)


def describe_kind(error: BaseException) -> str:
    """Return the class of an error and, for a database error, SQLSTATE and constraint. It may be stored."""
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, PsycopgError | DjangoDatabaseError):
        return f"{name}: {describe_database_error(error)}"
    return name


def describe_error(error: BaseException) -> str:
    """Return the kind of an error, and its text if it is ours or about code only. It may be logged.

    A KeyError, a UnicodeError, a validator or one of Django's TypeErrors would quote data.
    """
    is_safe = type(error).__module__.startswith(_OUR_PACKAGES) or isinstance(error, _ABOUT_CODE)
    return f"{describe_kind(error)}: {error}" if is_safe else describe_kind(error)


def log_last_errors() -> None:
    """Log uncaught errors of this process and its forks by the formatter, except KeyboardInterrupt.

    Python would print them with their texts.
    """
    logger = logging.getLogger(__name__)

    def log(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error or kind(), trace)
        elif error is not None:
            logger.critical("process.failed", exc_info=(kind, error, trace))

    sys.excepthook = log
    threading.excepthook = lambda args: log(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: log(args.exc_type, args.exc_value, args.exc_traceback)


class RequestIdMiddleware:
    """The id stays bound until the server closes the response: Django logs failures after all middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        own, sent = str(uuid7()), request.headers.get("X-Request-ID", "")
        current_request_id.set(own)
        response = self.get_response(request)
        response["X-Trace-ID"] = own
        response["X-Request-ID"] = sent if _WELL_FORMED.fullmatch(sent) else own
        return response


def _reset(**_signal: Any) -> None:
    current_request_id.set("")


# Sent when a response is closed, so that nothing else is logged under its id.
request_finished.connect(_reset, dispatch_uid="common.logs")


class WithoutRequests(logging.Filter):
    """Replaces gunicorn's messages that quote requests. Tracebacks remain, by our formatter."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO:
            return False
        if str(record.msg).startswith(("Invalid request", "Error handling request")):
            record.msg, record.args = "The web server could not go on with a call.", ()
        return True


class WithoutPaths(logging.Filter):
    """Removes the caller's input from Django's messages: hosts, origins, paths."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("django.security."):
            record.msg, record.args = "A call was refused: %s.", (record.name.rpartition(".")[2],)
            record.exc_info = None
        elif record.name == "django.request":
            match = getattr(getattr(record, "request", None), "resolver_match", None)
            status = getattr(record, "status_code", None)
            record.msg, record.args = "A call was answered with %s: %s", (status, match.route if match else "no view")
        return True


class SafeFormatter(logging.Formatter):
    """One line per event, with the request's id. Tracebacks show frames, and errors as `describe_error` does."""

    # UTC, even before Django has read its settings.
    converter = time.gmtime  # type: ignore[assignment]  # a builtin, so it is no method

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s%(call)s")

    def format(self, record: logging.LogRecord) -> str:
        request_id = current_request_id.get()
        record.call = f" request_id={request_id}" if request_id else ""
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's own name)
        # Foreign text can neither look like an event of its own nor control a terminal.
        record.message = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], record.message).replace("\n", "\n  ")
        return super().formatMessage(record)

    def formatException(  # noqa: N802  (logging's own name)
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        return safe_traceback(ei[1])


class JsonFormatter(SafeFormatter):
    """One JSON object per line: `time` (UTC, RFC 3339), `level`, `logger`, `message`.

    Where present also `event` (such as `claim.lost`), each `name=%s` of the message as a field, `request_id`, and
    `error` as one text.
    """

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        first = message.partition(" ")[0]
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        ours = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
            "event": first if _EVENT.fullmatch(first) else None,
            "request_id": current_request_id.get() or None,
            # Not record.exc_text: another formatter may have stored the full text there.
            "error": self.formatException(record.exc_info) if record.exc_info else None,
            "stack": record.stack_info,
        }
        # Ours come first, and no argument replaces them.
        fields = {**ours, **_named_arguments(record), **ours}
        return json.dumps({name: value for name, value in fields.items() if value is not None})


def formatter(form: str) -> SafeFormatter:
    """Return the formatter for a LOG_FORMAT, for logging without Django's settings."""
    return JsonFormatter() if form == "json" else SafeFormatter()


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_EVENT = re.compile(r"[a-z_]+\.[a-z_]+")
_DIRECTIVE = re.compile(r"(?:(\w+)=)?%[-#0 +]*\d*(?:\.\d+)?[a-z]")


def _named_arguments(record: logging.LogRecord) -> dict[str, Any]:
    """Return the named arguments of a message such as "claim.lost claim=%s"."""
    args = record.args if isinstance(record.args, tuple) else ()
    names = _DIRECTIVE.findall(str(record.msg).replace("%%", ""))
    if len(names) != len(args):
        return {}
    return {
        name: value if value is None or isinstance(value, int | float) else str(value)
        for name, value in zip(names, args, strict=True)
        if name
    }


def safe_traceback(error: BaseException | None) -> str:
    """Return the frames of an error and of its causes, each described by `describe_error`."""
    parts: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        parts.insert(0, "".join([*traceback.format_tb(error.__traceback__), f"{describe_error(error)}\n"]))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\nwhich led to:\n\n".join(parts)
