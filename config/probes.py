"""Addresses for machines: `/healthz` (this process answers), `/readyz` (so does its database) and `/metrics`.

The middleware comes first: load balancers and Prometheus call by IP address and over plain HTTP, which the settings
otherwise refuse. Probes reveal no more than yes or no; metrics need a token.
"""

from collections.abc import Callable

from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed

from chatbots.digest_key import DigestKeyMismatch
from common.db import execute
from compliance.metrics import views as metrics


class ProbesMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info == "/metrics":
            return metrics.answer(request)
        if request.path_info not in {"/healthz", "/readyz"}:
            return self.get_response(request)
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        is_up = request.path_info == "/healthz" or _database_answers()
        text, status = ("ok\n", 200) if is_up else ("unavailable\n", 503)
        return HttpResponse(text, status=status, content_type="text/plain", headers={"Cache-Control": "no-store"})


def _database_answers() -> bool:
    try:
        execute("SELECT 1")
    except (Error, DigestKeyMismatch):
        connection.close()  # so that the next probe opens another
        return False
    return True
