"""Addresses for machines: `/healthz` (this process answers), `/readyz` (its database does, too) and `/metrics`.

They stand before all else: load balancers and Prometheus call by address and over plain HTTP, which the settings
otherwise refuse. Probes say no more than yes or no; metrics want a token.
"""

from collections.abc import Callable

from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed

from chatbots.digest_key import AnotherDigestKey
from common.db import execute
from compliance.metrics import views as metrics


class ProbesMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info == "/metrics":
            return metrics.answer(request)
        probe = _PROBES.get(request.path_info)
        return self.get_response(request) if probe is None else _answer(request, probe)


def _answer(request: HttpRequest, probe: Callable[[], bool]) -> HttpResponse:
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    well = probe()
    answer = HttpResponse("ok\n" if well else "unavailable\n", status=200 if well else 503, content_type="text/plain")
    answer["Cache-Control"] = "no-store"
    return answer


def _process_answers() -> bool:
    return True


def _database_answers() -> bool:
    try:
        execute("SELECT 1")
    except (Error, AnotherDigestKey):
        # What is broken is not asked again.
        connection.close()
        return False
    return True


_PROBES = {"/healthz": _process_answers, "/readyz": _database_answers}
