"""Take conversations in, and show the log of them."""

import logging

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView, json_body
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from common.problems import Problem
from common.query import Query, read_query
from conversations import intake, log
from conversations.api import described, described_log, representation
from conversations.api.bodies import parse_look_up, read_documents
from conversations.api.queries import LogQuery

logger = logging.getLogger(__name__)

Scope = ApiKey.Scope

_MOST_LOOK_UP_BYTES = 1024 * 1024


class ConversationsView(ChatbotView):
    """The log, newest first; and where conversations come in."""

    scope = Scope.CONVERSATIONS_READ
    post_scope = Scope.CONVERSATIONS_WRITE

    def most_body_bytes(self) -> int:
        return settings.MAX_BODY_BYTES

    @described_log.list_conversations
    def get(self, request: Request, **_path: str) -> Response:
        query = read_query(request, LogQuery)
        chatbot = caller_of(request).chatbot
        pages = log.LogPages(query)
        places = pages.paginate_queryset(
            log.places(
                chatbot=chatbot,
                started_after=query.started_after,
                started_before=query.started_before,
                channel=query.channel,
                deleted=query.deleted,
            ),
            request,
        )
        entries = log.read([place["id"] for place in places], chatbot=chatbot)
        return pages.get_paginated_response([representation.conversation(entry) for entry in entries])

    @described.store_conversations
    def post(self, request: Request, **_path: str) -> Response:
        """Answer 200 with one result a document, in order, also when all are refused."""
        documents = read_documents(request)
        try:
            outcomes = intake.store(chatbot=caller_of(request).chatbot, documents=documents)
        except intake.IntakeFailed as error:
            logger.error("Conversations could not be stored: %s", error)  # noqa: TRY400  it says all there is
            raise Problem("unavailable", "Nothing was stored. Send the call again later.") from None
        return Response({"results": [representation.result(outcome) for outcome in outcomes]})


class ConversationView(ChatbotView):
    scope = Scope.CONVERSATIONS_READ

    @described_log.get_conversation
    def get(self, request: Request, *, number: int, **_path: str) -> Response:
        read_query(request, Query)
        entries = log.read([number], chatbot=caller_of(request).chatbot)
        if not entries:
            raise Problem("not_found", "The chatbot has no conversation with this number.")
        return Response(representation.conversation(entries[0]))


class LookUpView(ChatbotView):
    """Finds conversations by the platform's ids, which do not belong into an address: they can be personal."""

    scope = Scope.CONVERSATIONS_READ

    def most_body_bytes(self) -> int:
        # A thousand ids of 200 characters, each written as an escape of 4 bytes or so.
        return min(_MOST_LOOK_UP_BYTES, settings.MAX_BODY_BYTES)

    @described_log.look_up_conversations
    def post(self, request: Request, **_path: str) -> Response:
        ids = parse_look_up(json_body(request)).ids
        try:
            entries = log.look_up(ids, chatbot=caller_of(request).chatbot)
        except log.TooLong:
            raise Problem("too_large", "The answer would be too large. Ask for fewer ids at once.") from None
        results = [
            {"id": one, "conversation": entry and representation.conversation(entry)}
            for one, entry in zip(ids, entries, strict=True)
        ]
        return Response({"results": results})
