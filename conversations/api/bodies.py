"""The bodies of calls about conversations. Documents are cut apart, so that each is judged by itself."""

import io
import json
import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rest_framework.request import Request

from chatbots.authentication import body_of
from common.bodies import (
    MAX_BODY_DEPTH,
    media_type,
    one_at_a_time,
    outline_of_body,
    parse_json,
    require_few,
    require_shallow,
)
from common.json_outline import count_values, is_deeper
from common.problems import FieldError, Problem
from conversations.documents import Document, DocumentError, DocumentInvalid, Id, error_at, errors_of, parse_document
from conversations.importing import read_lines
from conversations.intake import MAX_DOCUMENTS
from conversations.log import MOST_IDS

JSON_LINES = "application/x-ndjson"

# All values of a body, those of messages as they should be left out: a thousand documents with a hundred each.
MOST_VALUES = 100_000
# A message as it should be, in the outline of a body. It has 80 bytes at least, of which the outline keeps 12.
_MESSAGE = b"{:,:,:,:,:}"
_BYTES_OF_A_MESSAGE = 80

_TOO_DEEP = DocumentInvalid((error_at((), "not_json", "Must be one JSON object that is not nested too deeply."),))

_BLANKS = b" \t\n\r"
_EMPTY_LINES = re.compile(rb"\n\s+")
_SPACE = re.compile(r"[ \t\n\r]*")
_SCANNER = json.JSONDecoder()


class LookUpBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_IDS)]


def parse_look_up(raw: bytes) -> LookUpBody:
    """Read the body of a look-up. Raises Problem(`invalid`)."""
    errors: list[DocumentError] = []
    try:
        return LookUpBody.model_validate(parse_json(raw))
    except ValidationError as error:
        errors = errors_of(error)
    # Raised outside the except block: its context would hold what was sent.
    raise Problem("invalid", "The body is not one that this call takes: see errors.", errors=field_errors(errors))


def field_errors(errors: list[DocumentError] | tuple[DocumentError, ...]) -> list[FieldError]:
    """Return errors of documents as those of a problem."""
    return [FieldError(pointer=one.pointer, code=one.code, detail=one.detail) for one in errors]


def read_documents(request: Request) -> list[Document | DocumentInvalid]:
    """Return each document of a call's body, or what is wrong with it, in order. Raises Problem.

    A body is JSON, one document or a list; or JSON Lines, a document a line, where empty lines do not count.
    """
    is_lines = media_type(request._request, "application/json", JSON_LINES) == JSON_LINES
    raw = body_of(request)
    with one_at_a_time(raw):
        return parse_lines(raw) if is_lines else parse_documents(raw)


def parse_lines(raw: bytes) -> list[Document | DocumentInvalid]:
    """Return each line's document, or what is wrong with it (`not_json` for one that is none), in order.

    Raises Problem(`invalid`) for more than MAX_DOCUMENTS, or more values than they have.
    """
    documents: list[Document | DocumentInvalid] = []
    values = 0
    # Without empty lines, which are looked at one by one and can be ten million.
    for line in read_lines(io.BytesIO(_EMPTY_LINES.sub(b"\n", raw)), limit=len(raw)):
        _refuse_too_many(len(documents) + 1)
        outline = _outline(line.raw or b"")
        values += count_values(outline)
        require_few(values, most=MOST_VALUES)
        documents.append(_TOO_DEEP if is_deeper(outline, MAX_BODY_DEPTH) else _parsed(line.raw or b""))
    return documents


def parse_documents(raw: bytes) -> list[Document | DocumentInvalid]:
    """Return each document of a body in JSON, or what is wrong with it, in order.

    Raises Problem(`invalid`) when the body as a whole is not JSON, is nested too deeply, has more values than
    documents have, or is no object and no list of at most MAX_DOCUMENTS.
    """
    outline = _outline(raw)
    require_few(count_values(outline), most=MOST_VALUES)
    require_shallow(outline)
    try:
        if not raw.lstrip(_BLANKS).startswith(b"{"):
            return [_parsed(part.encode()) for part in _cut(raw.decode("utf-8"))]
        one = _parsed(raw)
        if isinstance(one, DocumentInvalid) and one.errors[0].code == "not_json":
            _require_json(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        pass
    else:
        return [one]
    raise Problem("invalid", "The body must be a well-formed JSON object or list.")


def _outline(raw: bytes) -> bytes:
    """Return the outline of a text without its messages that are as they should be: their bytes are bound enough.

    Raises Problem(`invalid`) for one that is denser than texts of documents are.
    """
    outline = outline_of_body(raw, most=12 * (len(raw) // _BYTES_OF_A_MESSAGE) + 3 * MOST_VALUES)
    return outline.replace(_MESSAGE + b",", b"").replace(_MESSAGE, b"")


def _parsed(raw: bytes) -> Document | DocumentInvalid:
    try:
        return parse_document(raw)
    except DocumentInvalid as invalid:
        return invalid


def _require_json(text: str) -> None:
    """Raise ValueError or RecursionError where the whole is not JSON."""
    start = _skip_space(text, 0)
    _, end = _SCANNER.raw_decode(text, start)
    _require(_skip_space(text, end) == len(text))


def _cut(text: str) -> list[str]:
    """Return the texts of the documents of a list. Raises ValueError or RecursionError where the whole is not one."""
    start = _skip_space(text, 0)
    _require(text.startswith("[", start))
    parts: list[str] = []
    at = _skip_space(text, start + 1)
    while not text.startswith("]", at):
        if parts:
            _require(text.startswith(",", at))
            at = _skip_space(text, at + 1)
        _, end = _SCANNER.raw_decode(text, at)
        parts.append(text[at:end])
        _refuse_too_many(len(parts))
        at = _skip_space(text, end)
    _require(_skip_space(text, at + 1) == len(text))
    return parts


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def _refuse_too_many(count: int) -> None:
    if count > MAX_DOCUMENTS:
        detail = f"Must have at most {MAX_DOCUMENTS:,} documents."
        raise Problem("invalid", detail, errors=[FieldError(pointer="", code="too_long", detail=detail)])
