"""Give each call an id: `X-Request-ID`, taken from the caller if well formed, else made here.

It is bound to the log lines of the call and comes back in every answer, so a client and an operator can talk
about the same call.
"""

import re
from collections.abc import Callable
from contextvars import ContextVar

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
        reset = current_request_id.set(request_id)
        try:
            response = self.get_response(request)
        finally:
            current_request_id.reset(reset)
        response["X-Request-ID"] = request_id
        return response
