"""Read a call's body: its exact bytes, once and bounded, and the JSON in them.

The bytes matter: a signature covers them as they were sent.
"""

import json
from typing import Any, NoReturn

from django.conf import settings
from django.http import HttpRequest

from config.problems import Problem


def raw_body(request: HttpRequest) -> bytes:
    """Return the body as sent; asked again, the same bytes. Raises Problem (`too_large`, `invalid`).

    Never more than MAX_BODY_BYTES are held, whatever Content-Length says or leaves unsaid. `request` has to be
    Django's own: through DRF's wrapper the bytes of a chunked body would not be found again.
    """
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal():
        raise Problem("invalid", "Content-Length must be a number of bytes.")
    if len(length) > 18 or int(length) > settings.MAX_BODY_BYTES:
        raise _too_large()
    if _is_chunked(request) and not hasattr(request, "_body"):
        # Django takes a body without Content-Length for an empty one. `_body` is where it keeps the bytes it
        # has read, so that `request.body` answers with them from here on.
        request._body = _read_chunks(request)
    try:
        return request.body
    except OSError:
        raise Problem("invalid", "The body ended early.") from None


def require_json(request: HttpRequest) -> None:
    """Raise Problem(`unsupported_media_type`) unless the body is declared as plain JSON in UTF-8."""
    charset = (request.content_params or {}).get("charset", "utf-8").lower()
    if request.content_type != "application/json" or charset not in {"utf-8", "utf8"}:
        raise Problem("unsupported_media_type", "Send the header Content-Type: application/json, and UTF-8.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem("unsupported_media_type", "Send the body without Content-Encoding.")


def parse_json(raw: bytes) -> Any:
    """Return what the JSON says. Raises Problem(`invalid`).

    Refused is also what two readers could read differently: a name that stands twice in an object, NaN and
    Infinity, another encoding than UTF-8.
    """
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_each_name_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Problem("invalid", "The body is not well-formed JSON, or nested too deeply.") from None


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError
    return named


def _refuse(_constant: str) -> NoReturn:
    raise ValueError


def _read_chunks(request: HttpRequest) -> bytes:
    try:
        body = bytes(request.META["wsgi.input"].read(settings.MAX_BODY_BYTES + 1))
    except Exception:  # each server has errors of its own for a malformed chunk
        raise Problem("invalid", "The chunks of the body are malformed, or it ended early.") from None
    if len(body) > settings.MAX_BODY_BYTES:
        raise _too_large()
    return body


def _is_chunked(request: HttpRequest) -> bool:
    return not request.META.get("CONTENT_LENGTH") and bool(request.META.get("wsgi.input_terminated"))


def _too_large() -> Problem:
    return Problem("too_large", f"A body may have {settings.MAX_BODY_BYTES:,} bytes at most.")
