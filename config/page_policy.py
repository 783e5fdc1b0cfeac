"""What a browser may do with our pages: a strict Content-Security-Policy for everything that is HTML.

The policy is `CONTENT_SECURITY_POLICY` in the settings; a view that needs another one says so with a decorator of
django-csp. Answers of the API are JSON and get none of this: there is nothing in them to be run.
"""

from csp.middleware import CSPMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# Nothing of ours uses any of these.
_PERMISSIONS = ", ".join(
    f"{name}=()" for name in ("camera", "display-capture", "geolocation", "microphone", "payment", "usb")
)


class PagePolicyMiddleware(CSPMiddleware):
    def process_request(self, request: HttpRequest) -> None:
        """Make no nonce: nothing stands inline."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not response.headers.get("Content-Type", "").startswith("text/html"):
            return response
        response.headers.setdefault("Permissions-Policy", _PERMISSIONS)
        return super().process_response(request, response)
