"""Calls that store conversations and read their log: `POST` and `GET conversations`, look-up.

A body of documents is split, so that each document is validated by itself.
"""

import io
import json
import logging
import re

from django.conf import settings
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView, json_body
from chatbots.authentication import body_of, caller_of
from chatbots.models import ApiKey
from common.bodies import (
    MAX_BODY_DEPTH,
    count_values,
    is_deeper,
    media_type,
    one_at_a_time,
    outline_of_body,
    require_few,
    require_shallow,
)
from common.pagination import PageQuery
from common.problems import Problem, error_at, invalid_field
from common.query import Flag, Query, read_query
from common.times import Instant
from config.openapi.document import CONVERSATIONS
from config.openapi.operations import JSON, answer, describe, link, parameters_of, takes
from conversations import intake, log
from conversations.api import examples, shapes
from conversations.documents import Document, DocumentInvalid, document_or_errors
from conversations.importer import read_lines
from conversations.intake import MAX_DOCUMENTS
from conversations.models import Conversation

logger = logging.getLogger(__name__)

Scope = ApiKey.Scope

_FIRST_NUMBER = "$response.body#/results/0/number"

_MAX_LOOK_UP_BYTES = 1024 * 1024


class LogQuery(PageQuery):
    """`started_after` is included, `started_before` is not, so consecutive windows do not overlap."""

    started_after: Instant | None = Field(None, examples=["2026-11-01T00:00:00Z"])
    """Conversations that began at this instant or later."""
    started_before: Instant | None = Field(None, examples=["2026-12-01T00:00:00Z"])
    """Conversations that began earlier."""
    channel: Conversation.Channel | None = Field(None, examples=["whatsapp"])
    """Conversations of this channel."""
    deleted: Flag | None = Field(None, examples=[True])
    """`true`: deleted ones alone. `false`: those that are not."""


class ConversationsView(ChatbotView):
    """The log, newest first, and intake."""

    scope = Scope.CONVERSATIONS_READ
    post_scope = Scope.CONVERSATIONS_WRITE
    takes_long = ["POST"]

    def max_body_bytes(self) -> int:
        return settings.MAX_BODY_BYTES

    @describe(
        operation_id="listConversations",
        summary="List conversations",
        description="""
            The conversations log, newest first, in pages: follow `next` until it is null. A deleted conversation
            stays in the log with the fields that are kept.

            A conversation that is deleted while you page moves to the midnight of its day, so it can appear a
            second time, as deleted, with the same `number`. None is left out.
            """,
        tag=CONVERSATIONS,
        parameters=parameters_of(LogQuery),
        responses={
            200: answer(
                shapes.ConversationLog,
                "A page of the log.",
                ("two", examples.page(examples.CONVERSATION, examples.DELETED_CONVERSATION), "One open, one deleted"),
            )
        },
        refuses=["invalid"],
        links={"messages": link("listMessages", "Read the newest.", number=_FIRST_NUMBER)},
    )
    def get(self, request: Request, **_path: str) -> Response:
        query = read_query(request, LogQuery)
        chatbot = caller_of(request).chatbot
        pages = log.LogPages(query)
        positions = pages.paginate_queryset(
            log.positions(
                chatbot=chatbot,
                started_after=query.started_after,
                started_before=query.started_before,
                channel=query.channel,
                deleted=query.deleted,
            ),
            request,
        )
        entries = log.read([position["id"] for position in positions], chatbot=chatbot)
        return pages.get_paginated_response([shapes.LoggedConversation.of(entry) for entry in entries])

    @describe(
        operation_id="storeConversations",
        summary="Store conversations",
        description="""
            Each document is stored whole or refused whole; a refused one does not affect the others. A document
            that is sent again updates: a present field overwrites (except `started_at`, which the first document
            fixes), an absent one stays, a message with a known id is neither changed nor stored twice. `null`
            counts as absent. A new conversation needs `id`, `channel` and `started_at`.
            """,
        tag=CONVERSATIONS,
        request={
            JSON: takes(
                shapes.Conversations,
                ("one", examples.DOCUMENT, "One document"),
                ("list", examples.DOCUMENTS, "A list"),
            ),
            shapes.JSON_LINES: takes(
                {"type": "string", "description": "One document per line, up to 1,000. Empty lines do not count."},
                ("two", "".join(f"{json.dumps(one)}\n" for one in examples.DOCUMENTS), "Two documents"),
            ),
        },
        responses={
            200: answer(
                shapes.DocumentResults,
                "The result of each document, in order; also if all were refused.",
                ("created", {"results": [examples.CREATED]}, "One stored"),
                ("refused", {"results": [examples.CREATED, examples.REFUSED]}, "One stored, one refused"),
            )
        },
        links={
            "file": link("storeFile", "Store a file of the first conversation.", number=_FIRST_NUMBER),
            "conversation": link("getConversation", "Get the first conversation.", number=_FIRST_NUMBER),
            "messages": link("listMessages", "Read the first conversation.", number=_FIRST_NUMBER),
        },
    )
    def post(self, request: Request, **_path: str) -> Response:
        """Answer 200 with one result per document, in order, even if all are refused."""
        documents = _read_documents(request)
        try:
            results = intake.store(chatbot=caller_of(request).chatbot, documents=documents)
        except intake.IntakeFailed as error:
            raise unavailable(error) from None
        return Response({"results": [shapes.DocumentResult.of(result) for result in results]})


def unavailable(error: intake.IntakeFailed) -> Problem:
    """Log the reason why nothing was stored, and return the problem of the call."""
    logger.error("Conversations could not be stored: %s", error)
    return Problem("unavailable", "Nothing was stored. Send the call again later.")


class ConversationView(ChatbotView):
    scope = Scope.CONVERSATIONS_READ

    @describe(
        operation_id="getConversation",
        summary="Get a conversation",
        description="One conversation of the log. A deleted one has only the fields that are kept.",
        tag=CONVERSATIONS,
        responses={
            200: answer(
                shapes.LoggedConversation,
                "The conversation.",
                ("open", examples.CONVERSATION, "An open one"),
                ("deleted", examples.DELETED_CONVERSATION, "A deleted one"),
            )
        },
        refuses=["invalid"],
    )
    def get(self, request: Request, *, number: int, **_path: str) -> Response:
        read_query(request, Query)
        entries = log.read([number], chatbot=caller_of(request).chatbot)
        if not entries:
            raise Problem("not_found", "The chatbot has no conversation with this number.")
        return Response(shapes.LoggedConversation.of(entries[0]))


class LookUpView(ChatbotView):
    """Finds conversations by the platform's ids, which must not be part of a URL: they can be personal."""

    scope = Scope.CONVERSATIONS_READ
    takes_long = ["POST"]

    def max_body_bytes(self) -> int:
        # A thousand ids of 200 characters, each written as an escape of 4 bytes or so.
        return min(_MAX_LOOK_UP_BYTES, settings.MAX_BODY_BYTES)

    @describe(
        operation_id="lookUpConversations",
        summary="Find conversations by the platform's ids",
        description="""
            Up to 1,000 ids, with results in the same order. A deleted conversation is found by its id as long as a
            keyed digest of it is kept, 90 days unless the operator has set another period. If comments are very long,
            413 `too_large` asks for fewer ids at once.
            """,
        tag=CONVERSATIONS,
        request=takes(shapes.LookUpBody, ("two", {"ids": ["c-2001", "c-1999"]}, "Two ids")),
        responses={
            200: answer(
                shapes.FoundConversations,
                "The conversation of each id, or null.",
                ("two", examples.LOOKUP, "One is stored, one is not"),
            )
        },
    )
    def post(self, request: Request, **_path: str) -> Response:
        ids = shapes.read_body(shapes.LookUpBody, json_body(request)).ids
        try:
            entries = log.look_up(ids, chatbot=caller_of(request).chatbot)
        except log.TooLarge:
            raise Problem("too_large", "The answer would be too large. Ask for fewer ids at once.") from None
        results = [
            {"id": one, "conversation": entry and shapes.LoggedConversation.of(entry)}
            for one, entry in zip(ids, entries, strict=True)
        ]
        return Response({"results": results})


# --- The body of `POST conversations`

# The most values of a body, without those of well-formed messages: a thousand documents with a hundred each.
MAX_VALUES = 100_000
# A well-formed message in the outline of a body. It has 80 bytes at least, of which the outline keeps 12.
_MESSAGE = b"{:,:,:,:,:}"
_BYTES_OF_A_MESSAGE = 80

_TOO_DEEP = DocumentInvalid((error_at((), "not_json", "Must be one JSON object that is not nested too deeply."),))

_BLANKS = b" \t\n\r"
_EMPTY_LINES = re.compile(rb"\n\s+")
_SPACE = re.compile(r"[ \t\n\r]*")
_SCANNER = json.JSONDecoder()


def _read_documents(request: Request) -> list[Document | DocumentInvalid]:
    """Return each document of the body, or its errors, in order. Raises Problem.

    The body is JSON, one document or a list; or JSON Lines, one document per line.
    """
    is_lines = media_type(request._request, "application/json", shapes.JSON_LINES) == shapes.JSON_LINES
    raw = body_of(request)
    with one_at_a_time(raw):
        return parse_lines(raw) if is_lines else parse_documents(raw)


def parse_lines(raw: bytes) -> list[Document | DocumentInvalid]:
    """Return each line's document, or its errors, in order; empty lines do not count.

    Raises Problem(`invalid`) for more than MAX_DOCUMENTS, or more than MAX_VALUES.
    """
    documents: list[Document | DocumentInvalid] = []
    values = 0
    # Empty lines would be read one by one, and can be ten million.
    for line in read_lines(io.BytesIO(_EMPTY_LINES.sub(b"\n", raw)), limit=len(raw)):
        _refuse_too_many(len(documents) + 1)
        outline = _outline(line.raw or b"")
        values += count_values(outline)
        require_few(values, most=MAX_VALUES)
        documents.append(_TOO_DEEP if is_deeper(outline, MAX_BODY_DEPTH) else document_or_errors(line.raw or b""))
    return documents


def parse_documents(raw: bytes) -> list[Document | DocumentInvalid]:
    """Return each document of a JSON body, or its errors, in order.

    Raises Problem(`invalid`) if the body as a whole is not JSON, is nested too deeply, has more than MAX_VALUES, or
    is neither an object nor a list of at most MAX_DOCUMENTS.
    """
    outline = _outline(raw)
    require_few(count_values(outline), most=MAX_VALUES)
    require_shallow(outline)
    try:
        if not raw.lstrip(_BLANKS).startswith(b"{"):
            return [document_or_errors(part.encode()) for part in _split_list(raw.decode("utf-8"))]
        one = document_or_errors(raw)
        if isinstance(one, DocumentInvalid) and one.errors[0].code == "not_json":
            json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        pass
    else:
        return [one]
    raise Problem("invalid", "The body must be a well-formed JSON object or list.")


def _outline(raw: bytes) -> bytes:
    """Return the outline of a text without its well-formed messages, which their own bytes bound.

    Raises Problem(`invalid`) if it is denser than documents are.
    """
    outline = outline_of_body(raw, most=12 * (len(raw) // _BYTES_OF_A_MESSAGE) + 3 * MAX_VALUES)
    return outline.replace(_MESSAGE + b",", b"").replace(_MESSAGE, b"")


def _split_list(text: str) -> list[str]:
    """Return the text of each document of a list. Raises ValueError or RecursionError if the whole is not a list."""
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
        raise invalid_field("", "too_long", f"Must have at most {MAX_DOCUMENTS:,} documents.")
