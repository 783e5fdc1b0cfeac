"""Take conversations in."""

import logging
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView, json_body
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from config.problems import CODES, FieldError, Problem
from conversations import intake
from conversations.api.bodies import parse_documents
from conversations.documents import DocumentError

logger = logging.getLogger(__name__)


class ConversationsView(ChatbotView):
    """Answers 200 with one result a document, in order, also when all are refused."""

    scope = ApiKey.Scope.CONVERSATIONS_WRITE

    def post(self, request: Request, **_path: str) -> Response:
        documents = parse_documents(json_body(request))
        try:
            outcomes = intake.store(chatbot=caller_of(request).chatbot, documents=documents)
        except intake.IntakeFailed as error:
            logger.error("Conversations could not be stored: %s", error)  # noqa: TRY400  it says all there is
            raise Problem("unavailable", "Nothing was stored. Send the call again later.") from None
        return Response(
            {
                "results": [
                    {
                        "id": outcome.id,
                        "number": outcome.number,
                        "outcome": outcome.outcome,
                        "error": _problem(outcome.errors),
                    }
                    for outcome in outcomes
                ]
            }
        )


def _problem(errors: tuple[DocumentError, ...]) -> dict[str, Any] | None:
    """Return the problem of a refused document. What no field is at fault for has a code of its own."""
    if not errors:
        return None
    code = errors[0].code if errors[0].code in CODES else "invalid"
    fields = [FieldError(pointer=one.pointer, code=one.code, detail=one.detail) for one in errors]
    return Problem(code, errors[0].detail, errors=fields).as_dict()
