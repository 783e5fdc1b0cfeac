"""Gives each call an id for the log and the response (`X-Trace-ID`).

It is always ours: a caller may send anything, also a person's value, and logs are not erased. A caller's well-formed
`X-Request-ID` is returned and used nowhere else; otherwise the response has our id there too.

The id stays bound until the server closes the response: Django logs a failed call after all middleware, and streams
afterwards.
"""

import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse
from uuid_utils.compat import uuid7

_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}")

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")


class RequestIdMiddleware:
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
request_finished.connect(_reset, dispatch_uid="common.request_id")
