"""Give each call an id, under which it stands in the log and which every answer tells (`X-Trace-ID`).

It is always ours: what a caller sends may be anything, a person's value too, and a log is not erased. A caller's own
`X-Request-ID`, if it is well formed, comes back in the answer and goes nowhere else; without one it is ours as well.

The id stays bound until the server has sent the answer and closes it: Django logs a failed call after all middleware,
and a streamed answer is made after it.
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
        made, sent = str(uuid7()), request.headers.get("X-Request-ID", "")
        current_request_id.set(made)
        response = self.get_response(request)
        response["X-Trace-ID"] = made
        response["X-Request-ID"] = sent if _WELL_FORMED.fullmatch(sent) else made
        return response


def _forget(**_signal: Any) -> None:
    current_request_id.set("")


# Sent when an answer is closed. The thread's next call sets its own id; until then, nothing is logged under this one.
request_finished.connect(_forget, dispatch_uid="common.request_id")
