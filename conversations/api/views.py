"""Take conversations and their files in."""

import logging
from http import HTTPStatus
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView, json_body
from chatbots.authentication import caller_of
from chatbots.buckets import StorageError
from chatbots.models import ApiKey
from config.bodies import discard_body
from config.problems import CODES, FieldError, Problem
from conversations import intake, uploads
from conversations.api import described
from conversations.api.bodies import parse_documents
from conversations.api.forms import most_body_bytes, read_file_form
from conversations.documents import DocumentError
from conversations.models import Conversation

logger = logging.getLogger(__name__)


class ConversationsView(ChatbotView):
    """Answers 200 with one result a document, in order, also when all are refused."""

    scope = ApiKey.Scope.CONVERSATIONS_WRITE

    @described.store_conversations
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


class FilesView(ChatbotView):
    """Takes one file of a conversation, streamed into storage while it arrives."""

    scope = ApiKey.Scope.CONVERSATIONS_WRITE

    @described.store_file
    def post(self, request: Request, *, number: int, **_path: str) -> Response:
        try:
            return self._receive(request, number)
        except Problem:
            discard_body(request._request, most=most_body_bytes())
            raise

    def _receive(self, request: Request, number: int) -> Response:
        conversation = Conversation.objects.filter(chatbot=caller_of(request).chatbot, pk=number).first()
        if conversation is None:
            raise Problem("not_found", "The chatbot has no conversation with this number.")
        if conversation.deletion_request_id is not None:
            raise Problem("conversation_deleted")
        form = read_file_form(request._request)
        try:
            file = uploads.receive(
                conversation=conversation,
                name=form.name,
                content_type=form.content_type,
                chunks=form.content,
                message_external_id=form.message_id,
            )
        except uploads.ConversationDeleted:
            raise Problem("conversation_deleted") from None
        except uploads.UploadInvalid as invalid:
            raise _invalid_upload(invalid) from None
        except StorageError as error:
            logger.error("A file could not be stored: %s", error.code)  # noqa: TRY400  it says all there is
            raise Problem("unavailable", "The storage did not take the file. Send it again later.") from None
        answer = {
            "file_id": file.pk,
            "number": conversation.pk,
            "name": file.name,
            "content_type": file.content_type,
            "bytes": file.size,
            "sha256": file.sha256,
            "message_id": form.message_id,
        }
        return Response(answer, status=HTTPStatus.CREATED)


def _invalid_upload(invalid: uploads.UploadInvalid) -> Problem:
    pointer = "/message_id" if invalid.field == "message_id" else "/file"
    error = FieldError(pointer=pointer, code=invalid.code, detail=invalid.detail)
    return Problem("invalid", invalid.detail, errors=[error])


def _problem(errors: tuple[DocumentError, ...]) -> dict[str, Any] | None:
    """Return the problem of a refused document. What no field is at fault for has a code of its own."""
    if not errors:
        return None
    code = errors[0].code if errors[0].code in CODES else "invalid"
    fields = [FieldError(pointer=one.pointer, code=one.code, detail=one.detail) for one in errors]
    return Problem(code, errors[0].detail, errors=fields).as_dict()
