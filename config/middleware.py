"""Middleware for the staff's pages: which forms are accepted, and what a browser may do with the HTML."""

from collections.abc import Callable

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render

_UTF_8 = "utf-8"

# The pages use none of these features.
_PERMISSIONS = ", ".join(
    f"{name}=()" for name in ("camera", "display-capture", "geolocation", "microphone", "payment", "usb")
)


class FormsMiddleware:
    """Refuses forms that are not UTF-8 or too large, and addresses with NUL, before anything reads them.

    Django takes the encoding from the header of any call. One that is no text encoding (`hex`) would end as a 500,
    also for query parameters, and escapes would yield unpaired surrogates, which no page can show. Django also writes
    uploaded files to disk, whatever their size and before it checks the sender: chatters' values would lie there.

    Calls of the API read their bodies themselves (`common.bodies`).
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        is_utf_8 = (request.encoding or _UTF_8).lower() in {_UTF_8, "utf8"}
        if request.path_info.startswith("/api/"):
            if not is_utf_8:
                request.encoding = _UTF_8  # the view refuses the header of a body
            return self.get_response(request)
        if not is_utf_8:
            return refused(request, "Send the form in UTF-8, as browsers do.", 400)
        if "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
            raise Http404  # PostgreSQL stores no NUL in a text, so nothing has this address
        if _declared_length(request) > settings.MAX_BODY_BYTES:
            return refused(request, f"A form may have {settings.MAX_BODY_BYTES:,} bytes at most.", 413)
        return self.get_response(request)


def _declared_length(request: HttpRequest) -> int:
    """Return Content-Length, 0 if there is none: Django reads no more than that."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    return int(length) if length.isascii() and length.isdecimal() and len(length) <= 18 else 0


def refused(request: HttpRequest, text: str, status: int) -> HttpResponse:
    response = render(request, "console/outside.html", {"title": "Not taken", "text": text}, status=status)
    response["Cache-Control"] = "no-store"
    return response


class PagePolicyMiddleware(CSPMiddleware):
    """Adds a strict Content-Security-Policy to all HTML: `CONTENT_SECURITY_POLICY` of the settings.

    A view sets another policy with a decorator of django-csp. JSON gets none: a browser runs nothing in it.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Generate no nonce: nothing is inline."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not response.headers.get("Content-Type", "").startswith("text/html"):
            return response
        response.headers.setdefault("Permissions-Policy", _PERMISSIONS)
        return super().process_response(request, response)
