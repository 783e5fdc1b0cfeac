"""`POST conversations/identify`: the chatters of conversations, as asserted by the client's own server."""

from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView, json_body
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from common.problems import MOST_ERRORS
from common.texts import is_storable
from config.openapi.document import CONVERSATIONS
from config.openapi.operations import answer, describe, link, takes
from conversations import identification
from conversations.api import examples, shapes
from conversations.api.conversations import unavailable
from conversations.documents import DocumentInvalid
from conversations.identification import GivenIdentity
from conversations.intake import IntakeFailed

# Errors listed for each item of a large body.
_LEAST_ERRORS = 10


class IdentifyView(ChatbotView):
    """Token authentication only; files no request."""

    scope = ApiKey.Scope.IDENTITIES_WRITE
    takes_long = ["POST"]

    def max_body_bytes(self) -> int:
        return settings.MAX_BODY_BYTES

    @describe(
        operation_id="identifyChatters",
        summary="Say who chatted in conversations",
        description="""
            Up to 1,000 identities of stored conversations, from your own server. Requests by this value then find the
            conversation. A value that the conversation has already is `confirmed`, and is stored as `asserted` from
            then on if its source was weaker. A conversation can have several values, if several people used one
            window. Each item is stored or refused by itself.

            The value of an erased chatter is refused as `chatter_erased` in a conversation that is covered by the
            deletion, and an officer is told. If the conversation has no value at all, it is deleted too.
            """,
        tag=CONVERSATIONS,
        request=takes(
            shapes.Identities,
            ("two", {"identities": [examples.IDENTITY, examples.OTHER_IDENTITY]}, "Two conversations"),
        ),
        responses={
            200: answer(
                shapes.IdentityResults,
                "The result of each identity, in order; also if all were refused.",
                ("stored", {"results": [examples.IDENTIFIED, examples.CONFIRMED]}, "One stored, one known before"),
                ("refused", {"results": [examples.IDENTIFIED, examples.NOT_IDENTIFIED]}, "One stored, one refused"),
            )
        },
        links={"conversation": link("getConversation", "Get the first.", number="$response.body#/results/0/number")},
    )
    def post(self, request: Request, **_path: str) -> Response:
        """Answer 200 with one result per identity, in order, even if all are refused."""
        items = shapes.read_body(shapes.IdentitiesBody, json_body(request)).identities
        try:
            results = identification.identify(
                chatbot=caller_of(request).chatbot, identities=[_identity(item) for item in items]
            )
        except IntakeFailed as error:
            raise unavailable(error) from None
        most_errors = max(_LEAST_ERRORS, MOST_ERRORS // len(items))
        shown = [
            shapes.IdentityResult.of(result, place=place, most_errors=most_errors)
            for place, result in enumerate(results)
        ]
        return Response({"results": shown})


def _identity(item: Any) -> GivenIdentity | DocumentInvalid:
    valid = shapes.validated(shapes.IdentityItem, item)
    if isinstance(valid, shapes.IdentityItem):
        return GivenIdentity(
            id=valid.id, key=valid.unique_chatter_identifier_key, value=valid.unique_chatter_identifier_value
        )
    given = item.get("id") if isinstance(item, dict) else None
    is_readable = isinstance(given, str) and 0 < len(given) <= 200 and is_storable(given)
    return DocumentInvalid(valid, document_id=given if is_readable else None)
