"""`/api/may-send`: the proxy checks that the caller is known, before it receives a large body (ADR 0064).

Otherwise any caller could fill its memory or disk. It does not check signed calls, since a signature can only be
verified with the whole body: it limits their number and size.
"""

from urllib.parse import unquote

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve
from rest_framework.request import Request

from chatbots.authentication import TokenAuthentication
from common import problems
from common.problems import Problem
from config.middleware import refused


def may_send(request: HttpRequest) -> HttpResponseBase:
    """Return 204 for a valid token of the chatbot, or for a form of a logged-in user; 401 or 403 for others.

    `X-Forwarded-Uri` is the target of the call. nginx knows no other statuses.
    """
    path = unquote(request.headers.get("X-Forwarded-Uri", "").partition("?")[0])
    if not path.startswith("/api/"):
        if request.user.is_authenticated:
            return HttpResponse(status=204)
        return refused(request, "Only staff may send a form this long. Log in, and send it again.", 403)
    try:
        call = Request(request, parser_context={"kwargs": {"slug": "", **resolve(path).kwargs}})
        if TokenAuthentication().authenticate(call):
            return HttpResponse(status=204)
    except (Problem, Resolver404):
        pass
    return problems.answer(
        Problem("not_authenticated", "A body this large needs a valid token of this chatbot, or a signature.")
    )
