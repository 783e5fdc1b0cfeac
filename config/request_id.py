"""Give each call an id: `X-Request-ID`, taken from the caller if well formed, else made here.

It is bound to the log lines of the call and comes back in every answer, so a client and an operator can talk
about the same call. It stays bound until the server has sent the answer and closes it: Django logs a failed call
after all middleware, and a streamed answer is made after it.
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
        sent = request.headers.get("X-Request-ID", "")
        request_id = sent if _WELL_FORMED.fullmatch(sent) else str(uuid7())
        current_request_id.set(request_id)
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        return response


def _forget(**_signal: Any) -> None:
    current_request_id.set("")


# Sent when an answer is closed. The thread's next call sets its own id; until then, nothing is logged under this one.
request_finished.connect(_forget, dispatch_uid="config.request_id")
