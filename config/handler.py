"""Django's WSGI handler, for callers that send anything."""

from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest


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
    request_class = Request
