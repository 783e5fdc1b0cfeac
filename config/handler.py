"""Django's WSGI handler, for callers that send anything."""

from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from config.body_leave import most_body_bytes
from config.proxies import forget_hearsay


class Request(WSGIRequest):
    """A request whose broken Content-Type is an empty one.

    Django reads the header before any view or middleware can answer, so an unknown encoding in a parameter
    (`charset*=x''a`) would end as a 500 without a problem's body. The views refuse an empty one with 415.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc]  # not in the stubs
        except (LookupError, ValueError, SuspiciousOperation):  # the last of a query that cannot be decoded so
            self.content_type, self.content_params = "", {}


class Handler(WSGIHandler):
    """What the web server runs."""

    request_class = Request

    def __call__(self, environ: dict[str, Any], start_response: Any) -> HttpResponseBase:
        forget_hearsay(environ)
        return super().__call__(environ, start_response)

    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        response = super().get_response(request)
        # Django's middleware says the length, but not of what those before it answer. Without a length the connection
        # would end with the answer.
        if isinstance(response, HttpResponse):
            response.headers.setdefault("Content-Length", str(len(response.content)))
        return response

    def most_body_bytes(self, environ: dict[str, Any]) -> int:
        """Return how long the body of a request may be, before it is read."""
        forget_hearsay(environ)
        return most_body_bytes(self.request_class(environ))
