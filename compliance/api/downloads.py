"""The address of a download: leads to the storage, or says in the caller's way why it does not any more."""

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.views.decorators.http import require_safe

from common import problems
from common.problems import CODES, CONTENT_TYPE, Problem
from compliance.api.base import as_problem
from compliance.errors import Refused
from compliance.requests import downloads


@require_safe
def download(request: HttpRequest, token: str) -> HttpResponseBase:
    """Redirect to the storage. It needs no key: the token is the right to the file."""
    response: HttpResponse
    try:
        response = HttpResponseRedirect(downloads.storage_link(token))
    except Refused as refused:
        wants_page = request.get_preferred_type([CONTENT_TYPE, "text/html"]) == "text/html"
        response = (_page if wants_page else problems.answer)(as_problem(refused))
    # Neither the token nor the storage's address is told to another site.
    for name, value in {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "Vary": "Accept"}.items():
        response[name] = value
    return response


def _page(problem: Problem) -> HttpResponse:
    # Rendered without the request: it needs neither a session nor a user.
    text = render_to_string("console/download.html", {"title": CODES[problem.code][1], "problem": problem})
    return HttpResponse(text, status=problem.status_code, headers=problem.headers())
