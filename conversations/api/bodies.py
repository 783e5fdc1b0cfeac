"""The bodies of calls about conversations. Documents are cut apart, so that each is judged by itself."""

import io
import json
import re
from typing import Annotated

from django.http import HttpRequest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.bodies import media_type, parse_json, raw_body, require_shallow
from config.problems import FieldError, Problem
from conversations.documents import Document, DocumentError, DocumentInvalid, Id, errors_of, parse_document
from conversations.importing import read_lines
from conversations.intake import MAX_DOCUMENTS
from conversations.log import MOST_IDS

JSON_LINES = "application/x-ndjson"

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


def read_documents(request: HttpRequest) -> list[Document | DocumentInvalid]:
    """Return each document of a call's body, or what is wrong with it, in order. Raises Problem.

    A body is JSON, one document or a list; or JSON Lines, a document a line, where empty lines do not count.
    """
    parse = parse_lines if media_type(request, "application/json", JSON_LINES) == JSON_LINES else parse_documents
    return parse(raw_body(request))


def parse_lines(raw: bytes) -> list[Document | DocumentInvalid]:
    """Return each line's document, or what is wrong with it (`not_json` for one that is none), in order.

    Raises Problem(`invalid`) for more than MAX_DOCUMENTS.
    """
    documents: list[Document | DocumentInvalid] = []
    for line in read_lines(io.BytesIO(raw), limit=len(raw)):
        _refuse_too_many(len(documents) + 1)
        documents.append(_parsed(line.raw or b""))
    return documents


def parse_documents(raw: bytes) -> list[Document | DocumentInvalid]:
    """Return each document of a body in JSON, or what is wrong with it, in order.

    Raises Problem(`invalid`) when the body as a whole is not JSON, is nested too deeply, or is no object and no list
    of at most MAX_DOCUMENTS.
    """
    require_shallow(raw)
    try:
        parts = _cut(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        parts = None
    if parts is None:
        raise Problem("invalid", "The body must be a well-formed JSON object or list.")
    return [_parsed(part.encode()) for part in parts]


def _parsed(raw: bytes) -> Document | DocumentInvalid:
    try:
        return parse_document(raw)
    except DocumentInvalid as invalid:
        return invalid


def _cut(text: str) -> list[str]:
    """Return the texts of the documents. Raises ValueError or RecursionError where the whole is not JSON."""
    start = _skip_space(text, 0)
    if not text.startswith("[", start):
        _require(text.startswith("{", start))
        _, end = _SCANNER.raw_decode(text, start)
        _require(_skip_space(text, end) == len(text))
        return [text]
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
