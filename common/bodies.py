"""Reads request bodies: their exact bytes, since signatures cover them, and the JSON in them.

JSON that is nested deeper than MAX_BODY_DEPTH or has more than MAX_BODY_VALUES is refused unparsed: 10 MB can hold
five million empty objects, for which a parser needs 1,000 MB. Both are read from the outline of the text: its
brackets, commas and colons outside of strings, found without parsing.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from threading import Lock
from typing import Any, NoReturn

from django.http import HttpRequest

from common.problems import Problem

# The default limit of API calls.
SMALL_BODY_BYTES = 64 * 1024
MAX_BODY_DEPTH = 32
# A thousand requests of a hundred conversations each, and their other fields.
MAX_BODY_VALUES = 150_000

# Larger bodies are parsed one at a time in each process: threads take turns anyway, and memory does not add up.
_LARGE_BYTES = 1024 * 1024
_LARGE = Lock()

_READ_BYTES = 64 * 1024

_PIECE_BYTES = 64 * 1024
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{},:'))
# Signed bytes: +1 for an opening bracket, -1 for a closing one.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def raw_body(request: HttpRequest, *, most: int) -> bytes:
    """Return the body as sent, repeatedly. Raises Problem (`too_large`, `invalid`).

    Holds at most `most` bytes, whatever Content-Length says. `request` must be Django's own: DRF's wrapper would not
    find the bytes again.
    """
    if not hasattr(request, "_body"):
        # `request.body` returns `_body` once it is set.
        request._body = b"".join(body_as_it_arrives(request, most=most))
    return request.body


def body_as_it_arrives(request: HttpRequest, *, most: int) -> Iterator[bytes]:
    """Return the body in pieces that are read one by one, for bodies too large to hold. Nothing else may read it.

    Raises Problem: `too_large` if Content-Length or the pieces exceed `most` bytes, `invalid` if the body ends early.
    """
    length = _declared_length(request, most=most)
    # Django treats a body without Content-Length as empty.
    is_chunked = not request.META.get("CONTENT_LENGTH") and request.META.get("wsgi.input_terminated")
    return _pieces(request.META["wsgi.input"].read if is_chunked else request.read, most=most, length=length)


def require_json(request: HttpRequest) -> None:
    """Raise Problem(`unsupported_media_type`) unless the body is declared as plain JSON in UTF-8."""
    media_type(request, "application/json")


def media_type(request: HttpRequest, *taken: str) -> str:
    """Return the declared media type if it is one of `taken`, in UTF-8 and without encoding.

    Raises Problem(`unsupported_media_type`).
    """
    charset = (request.content_params or {}).get("charset", "utf-8").lower()
    if request.content_type not in taken or charset not in {"utf-8", "utf8"}:
        offer = " or ".join(taken)
        raise Problem("unsupported_media_type", f"Send the header Content-Type: {offer}, and UTF-8.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem("unsupported_media_type", "Send the body without Content-Encoding.")
    return request.content_type


def parse_json(raw: bytes) -> Any:
    """Return the parsed JSON. Raises Problem(`invalid`).

    Also refuses what two parsers could read differently: duplicate names in an object, NaN and Infinity, numbers
    beyond a double or of thousands of digits, encodings other than UTF-8.
    """
    with one_at_a_time(raw):
        # A value follows a comma or a bracket, in an object also a colon; a container has a closing bracket.
        outline = outline_of_body(raw, most=3 * MAX_BODY_VALUES)
        require_few(count_values(outline), most=MAX_BODY_VALUES)
        require_shallow(outline)
        try:
            return json.loads(
                raw.decode("utf-8"), object_pairs_hook=unique_names, parse_constant=_refuse, parse_float=_finite
            )
        except (ValueError, RecursionError):
            raise Problem("invalid", "The body is not well-formed JSON.") from None


def one_at_a_time(raw: bytes) -> AbstractContextManager[object]:
    """Return the lock to hold while a body is parsed: a real one for large bodies."""
    return _LARGE if len(raw) > _LARGE_BYTES else nullcontext()


def outline_of_body(raw: bytes, *, most: int) -> bytes:
    """Return the brackets, commas and colons of a JSON text outside of its strings.

    Raises Problem(`invalid`) soon after meeting more than `most`. For invalid JSON the result is right up to where a
    parser would stop. Time and memory are proportional to the text.
    """
    # Without escapes each quote begins or ends a string. Two adjacent quotes cancel out.
    bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    outside: list[bytes] = []
    is_text, length = False, 0
    for start in range(0, len(bare), _PIECE_BYTES):
        # Every second part is outside of strings.
        parts = bare[start : start + _PIECE_BYTES].split(b'"')
        outside.append(b"".join(parts[is_text::2]))
        is_text ^= len(parts) % 2 == 0
        length += len(outside[-1])
        if length > most:
            raise _too_many_values()
    return b"".join(outside)


def count_values(outline: bytes) -> int:
    """Return the number of values in the text, minus one; an empty list or object counts as two."""
    return outline.count(b",") + outline.count(b"[") + outline.count(b"{")


def is_deeper(outline: bytes, most: int) -> bool:
    """Return whether lists and objects are nested more than `most` deep. Needs no recursion."""
    if outline.count(b"[") + outline.count(b"{") <= most:
        return False
    steps = memoryview(outline.translate(_STEPS, b",:")).cast("b")
    return any(map(most.__lt__, accumulate(steps)))


def require_few(values: int, *, most: int) -> None:
    """Raise Problem(`invalid`) for more than `most` values."""
    if values > most:
        raise _too_many_values()


def require_shallow(outline: bytes) -> None:
    """Raise Problem(`invalid`) for JSON nested deeper than MAX_BODY_DEPTH."""
    if is_deeper(outline, MAX_BODY_DEPTH):
        raise Problem("invalid", f"The body is nested more than {MAX_BODY_DEPTH} deep.")


def _too_many_values() -> Problem:
    return Problem("invalid", "The body has too many values for its call.")


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON. Raises ValueError if it has a name twice (json's `object_pairs_hook`)."""
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError
    return named


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError
    return value


def _refuse(_constant: str) -> NoReturn:
    raise ValueError


def _declared_length(request: HttpRequest, *, most: int) -> int:
    """Return Content-Length, or 0 without one. Raises Problem."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdecimal()):
        raise Problem("invalid", "Content-Length must be a number of bytes.")
    if len(length) > 18 or int(length) > most:
        raise _too_large(most)
    return int(length)


def _pieces(read: Callable[[int], bytes], *, most: int, length: int) -> Iterator[bytes]:
    size = 0
    while piece := _read_piece(read, min(_READ_BYTES, most + 1 - size)):
        size += len(piece)
        if size > most:
            raise _too_large(most)
        yield piece
    if size < length:
        raise Problem("invalid", "The body ended early.")


def _read_piece(read: Callable[[int], bytes], size: int) -> bytes:
    try:
        return read(size)
    except Exception:  # servers have their own errors for malformed chunks and lost connections
        raise Problem("invalid", "The body is malformed, or it ended early.") from None


def _too_large(most: int) -> Problem:
    return Problem("too_large", f"A body may have {most:,} bytes at most.")
