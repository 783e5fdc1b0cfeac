"""The body of `POST conversations`: one document or a list, cut apart so that each is judged by itself."""

import json
import re

from config.bodies import require_shallow
from config.problems import FieldError, Problem
from conversations.documents import Document, DocumentInvalid, parse_document
from conversations.intake import MAX_DOCUMENTS

_SPACE = re.compile(r"[ \t\n\r]*")
_SCANNER = json.JSONDecoder()


def parse_documents(raw: bytes) -> list[Document | DocumentInvalid]:
    """Return each document of the body, or what is wrong with it, in order.

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
        _refuse_too_many(parts)
        at = _skip_space(text, end)
    _require(_skip_space(text, at + 1) == len(text))
    return parts


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def _refuse_too_many(parts: list[str]) -> None:
    if len(parts) > MAX_DOCUMENTS:
        detail = f"Must have at most {MAX_DOCUMENTS:,} documents."
        raise Problem("invalid", detail, errors=[FieldError(pointer="", code="too_long", detail=detail)])
