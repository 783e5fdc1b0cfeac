"""The body of `POST conversations/{number}/files`: a form that is read while it arrives.

The file is passed on in pieces, so it is never whole in memory or on disk. `message_id` has to come before it, since
the upload begins with the first byte of the file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

from django.conf import settings
from django.http import HttpRequest
from multipart import MultipartError, MultipartSegment, PushMultipartParser

from common.bodies import body_as_it_arrives
from common.problems import Problem, invalid_field

# The form of a boundary by RFC 2046.
_BOUNDARY = re.compile(r"[ -~]{0,69}[!-~]")
# The most bytes of a form without its file: boundaries, headers, the other field.
_BYTES_AROUND_FILE = 64 * 1024
_MAX_ID_BYTES = 4 * 200

# The header of a part, then its content in pieces, then None.
_Event: TypeAlias = MultipartSegment | bytes | None


@dataclass(frozen=True)
class UploadForm:
    """A form up to its file. `content` reads the rest, and raises Problem for any error in it."""

    name: str
    content_type: str
    message_id: str | None
    content: Iterator[bytes]


def read_upload_form(request: HttpRequest) -> UploadForm:
    """Read a form up to the content of its file. `request` is Django's own, its body not read yet.

    Raises Problem: `unsupported_media_type` (of the body, or of the file), `too_large`, `invalid`.
    """
    events = _events(request)
    message_id = None
    for part in _parts(events):
        if part.name == "file":
            return _upload_form(part, events, message_id)
        if part.name != "message_id":
            raise _unknown_field()
        if message_id is not None:
            raise invalid_field("/message_id", "repeated_field", "Can be given once.")
        message_id = _text(events)
    raise invalid_field("/file", "missing", "Send one file.")


def max_body_bytes() -> int:
    return settings.UPLOAD_MAX_BYTES + _BYTES_AROUND_FILE


def _events(request: HttpRequest) -> Iterator[_Event]:
    boundary = (request.content_params or {}).get("boundary", "")
    if request.content_type != "multipart/form-data":
        raise Problem("unsupported_media_type", "Send a form: Content-Type: multipart/form-data.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem("unsupported_media_type", "Send the body without Content-Encoding.")
    if not _BOUNDARY.fullmatch(boundary):
        raise Problem("invalid", "The header Content-Type must name the boundary of the form's parts.")
    return _parse(boundary, body_as_it_arrives(request, most=max_body_bytes()))


def _parse(boundary: str, pieces: Iterator[bytes]) -> Iterator[_Event]:
    parser = PushMultipartParser(boundary)
    try:
        for piece in pieces:
            yield from parser.parse(piece)
        parser.close()
    except MultipartError:
        raise Problem("invalid", "The form is not well-formed, or it ended early.") from None


def _parts(events: Iterator[_Event]) -> Iterator[MultipartSegment]:
    return (event for event in events if isinstance(event, MultipartSegment))


def _upload_form(part: MultipartSegment, events: Iterator[_Event], message_id: str | None) -> UploadForm:
    if not part.filename:
        raise invalid_field("/file", "missing", "Send the file with its name.")
    content_type = part.content_type or "application/octet-stream"
    if not any(fnmatchcase(content_type, allowed) for allowed in settings.UPLOAD_TYPES):
        raise Problem("unsupported_media_type", "Files of this media type are not taken.")
    # Some clients send the whole path.
    name = re.split(r"[/\\]", part.filename)[-1]
    return UploadForm(name=name, content_type=content_type, message_id=message_id, content=_content(events))


def _content(events: Iterator[_Event]) -> Iterator[bytes]:
    size = 0
    for event in events:
        if not isinstance(event, bytes):
            break
        size += len(event)
        if size > settings.UPLOAD_MAX_BYTES:
            raise Problem("too_large", f"A file may have {settings.UPLOAD_MAX_BYTES:,} bytes at most.")
        yield event
    # Read to the end of the form: only a whole form is stored.
    for part in _parts(events):
        if part.name == "file":
            raise invalid_field("/file", "repeated_field", "Send one file in a call.")
        if part.name == "message_id":
            raise invalid_field("/message_id", "out_of_order", "Must come before the file.")
        raise _unknown_field()


def _text(events: Iterator[_Event]) -> str:
    raw = b""
    for event in events:
        if not isinstance(event, bytes):
            break
        raw += event
        if len(raw) > _MAX_ID_BYTES:
            raise invalid_field("/message_id", "too_long", "Must have at most 200 characters.")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise invalid_field("/message_id", "invalid", "Must be text in UTF-8.") from None


def _unknown_field() -> Problem:
    # Without the field's name, which a caller chooses freely.
    return invalid_field("", "unknown_field", "The form takes message_id and file alone.")
