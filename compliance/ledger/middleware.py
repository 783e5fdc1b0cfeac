"""Answers in place of the service while its database is a restored one (`compliance.ledger.service`).

People who were erased since the backup are in such a database again, and keys that were revoked are valid. So it
answers before any session or key is read: the API by a problem, each other address by one page. Probes, metrics and
static files are answered by earlier middleware; the pages that describe the API show no data.
"""

from collections.abc import Callable
from http import HTTPStatus

from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string

from chatbots.digest_key import AnotherDigestKey
from common import problems
from common.database_errors import was_not_served
from common.problems import Problem
from compliance.ledger import saying, service
from compliance.models import Service

_DESCRIBES_THE_API = ("/api/docs/", "/api/schema/")

_CODES = {Service.State.RESTORED: "restored_database", Service.State.CATCHING_UP: "catching_up"}


class ClosedMiddleware:
    """One small query for each call: a state kept in this process would let calls through after a restore."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(_DESCRIBES_THE_API):
            return self._get_response(request)
        try:
            state = service.state()
        except (Error, AnotherDigestKey) as error:
            if was_not_served(error):
                return problems.unserved(request, error)
            if problems.is_api(request):
                return problems.answer(problems.as_problem(error))
            raise
        if state == Service.State.OPEN:
            return self._get_response(request)
        saying.say_closed(state)
        response = problems.answer(Problem(_CODES[state])) if problems.is_api(request) else _page(request, state)
        # Django would log each as an error of ours, and a client tries again and again.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response


def _page(request: HttpRequest, state: Service.State) -> HttpResponse:
    # Without the request: whoever asks sees the same.
    text = render_to_string("console/closed.html", {"service": service.current()})
    response = HttpResponse(text, status=HTTPStatus.SERVICE_UNAVAILABLE, headers={"Cache-Control": "no-store"})
    if seconds := problems.RETRY_AFTER.get(_CODES[state]):
        response["Retry-After"] = str(seconds)
        # The page of a form is not at the form's address, which may take nothing but a form.
        response["Refresh"] = str(seconds) if request.method in {"GET", "HEAD"} else f"{seconds}; url=/admin/"
    return response
