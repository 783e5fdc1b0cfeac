"""What every call of our pages has to be, whoever sends it: in UTF-8, without NUL in its address, and not too large.

Calls of the API read their bodies themselves (`common.bodies`).
"""

from collections.abc import Callable

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from config.web.limits import SMALL_BODY_BYTES
from config.web.parsing import Withheld

_UTF_8 = "utf-8"


class FormsMiddleware:
    """Refuses other forms before anything reads them.

    Django takes the encoding from the header of any call. One that is not of texts (`hex`) ends as a 500, also
    for the parameters of an address, and escapes hold unpaired surrogates, which no page can show. And it writes
    files of forms to the disk, of any size and before it asks who sends them: chatters' values would lie there. What
    the web server did not read, nothing behind this tries to read.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        is_api = request.path_info.startswith("/api/")
        if (request.encoding or _UTF_8).lower() not in {_UTF_8, "utf8"}:
            if not is_api:
                return _refused(request, "Send the form in UTF-8, as browsers do.", 400)
            request.encoding = _UTF_8  # what is wrong with the header of a body, its call says
        if not is_api and ("\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", "")):
            raise Http404  # PostgreSQL takes no NUL in a text, so nothing has such an address
        if not is_api and _declared_length(request) > settings.MAX_BODY_BYTES:
            return _refused(request, f"A form may have {settings.MAX_BODY_BYTES:,} bytes at most.", 413)
        if not is_api and isinstance(request.META.get("wsgi.input"), Withheld):
            if _declared_length(request) > SMALL_BODY_BYTES:
                return _refused(request, "A form this long is taken of staff alone. Log in, and send it again.", 413)
            return _refused(request, "The form is broken. Send it again.", 400)
        return self.get_response(request)


def _declared_length(request: HttpRequest) -> int:
    """Return what is read at most: a body of no declared length is none to Django."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    return int(length) if length.isascii() and length.isdecimal() and len(length) <= 18 else 0


def _refused(request: HttpRequest, text: str, status: int) -> HttpResponse:
    answer = render(request, "console/outside.html", {"title": "Not taken", "text": text}, status=status)
    answer["Cache-Control"] = "no-store"
    return answer
