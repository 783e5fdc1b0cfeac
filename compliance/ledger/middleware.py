"""Responses while this database is a restored one (`compliance.ledger.service`).

Such a database contains people again who were erased since the backup, and revoked keys are valid again. So calls and
pages are answered before any session or key is read: the API with a problem, each other address with one page.
Probes, metrics and static files are answered by earlier middleware; the pages that describe the API show no data.
"""

from collections.abc import Callable
from http import HTTPStatus

from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string

from chatbots.digest_key import DigestKeyMismatch
from common import problems
from common.database_errors import was_not_served
from common.problems import Problem
from compliance.ledger import service
from compliance.models import Service

State = Service.State

_DESCRIBES_THE_API = ("/api/docs/", "/api/schema/")
_CODES = {State.RESTORED: "restored_database", State.CATCHING_UP: "catching_up"}


class ClosedMiddleware:
    """One small query for each call: a state kept in this process would let calls through after a restore."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(_DESCRIBES_THE_API):
            return self._get_response(request)
        try:
            state = service.state()
        except (Error, DigestKeyMismatch) as error:
            if was_not_served(error):
                return problems.unserved_response(request, error)
            if problems.is_api(request):
                return problems.answer(problems.as_problem(error))
            raise
        if state == State.OPEN:
            return self._get_response(request)
        service.log_closed(state)
        response = problems.answer(Problem(_CODES[state])) if problems.is_api(request) else _page(request, state)
        # Django would log each as an error of ours, and clients retry often.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response


def _page(request: HttpRequest, state: State) -> HttpResponse:
    # Rendered without the request: all callers get the same page.
    text = render_to_string("console/closed.html", {"service": service.current()})
    response = HttpResponse(text, status=HTTPStatus.SERVICE_UNAVAILABLE, headers={"Cache-Control": "no-store"})
    if seconds := problems.RETRY_AFTER.get(_CODES[state]):
        response["Retry-After"] = str(seconds)
        # A form may be sent to an address without a page of its own.
        response["Refresh"] = str(seconds) if request.method in {"GET", "HEAD"} else f"{seconds}; url=/admin/"
    return response
