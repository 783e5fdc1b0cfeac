"""Calls about the messages and files of one conversation."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.http import HttpResponseRedirect
from drf_spectacular.utils import OpenApiResponse
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from common.pagination import PageQuery
from common.problems import Problem, invalid_field
from common.query import Query, Whole, read_query
from common.storage import StorageError
from config.openapi.document import CONVERSATIONS
from config.openapi.operations import answer, describe, link, location_header, parameters_of, takes
from conversations import messages, uploads
from conversations.api import examples, shapes
from conversations.api.upload_form import max_body_bytes, read_upload_form
from conversations.models import Conversation

logger = logging.getLogger(__name__)

Scope = ApiKey.Scope

# The most simultaneous uploads of this process: each occupies a thread while the storage receives it, however slowly.
# One thread is left for all other calls, whichever chatbots store files.
_UPLOADS = threading.BoundedSemaphore(max(1, settings.WEB_THREADS - 1))


class MessagesQuery(PageQuery):
    limit: Whole = Field(200, ge=1, le=1_000, examples=[200])
    """The most messages of a page. A page has fewer if they are long."""


class MessagesView(ChatbotView):
    scope = Scope.CONVERSATIONS_READ

    @describe(
        operation_id="listMessages",
        summary="Read a transcript",
        description="""
            The messages of a conversation, in order, in pages: follow `next` until it is null. A page ends early if
            messages are long. A conversation that is deleted, or marked for deletion, has no transcript, and neither
            has one that is restricted.
            """,
        tag=CONVERSATIONS,
        parameters=parameters_of(MessagesQuery),
        responses={
            200: answer(
                shapes.Transcript,
                "A page of the transcript.",
                ("one", examples.page(examples.MESSAGE), "One message, with a file"),
            )
        },
        refuses=["invalid", "conversation_deleted", "conversation_restricted"],
    )
    def get(self, request: Request, *, number: int, **_path: str) -> Response:
        pages = messages.MessagePages(read_query(request, MessagesQuery))
        with _open_conversation(request, number) as conversation:
            positions = pages.paginate_queryset(messages.positions(conversation), request)
            entries = messages.read([position["id"] for position in positions], conversation=conversation)
        return pages.get_paginated_response([shapes.SaidMessage.of(entry) for entry in entries])


_FILE_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "message_id": {
            "type": "string",
            "minLength": 1,
            "maxLength": 200,
            "description": "The platform's id of the message that the file came with, which must be stored already. "
            "It must come before `file`.",
        },
        "file": {
            "type": "string",
            "format": "binary",
            "description": "With its file name and its `Content-Type`; once, and last. 25 MiB at most, unless the "
            "operator has set another limit.",
        },
    },
}


class FilesView(ChatbotView):
    """The files of a conversation. A new one is streamed into storage while it arrives."""

    scope = Scope.CONVERSATIONS_READ
    post_scope = Scope.CONVERSATIONS_WRITE
    takes_long = ["POST"]

    def max_body_bytes(self) -> int:
        return max_body_bytes()

    @describe(
        operation_id="listFiles",
        summary="List the files of a conversation",
        description="The stored files of a conversation, with or without a message, in the order in which they came.",
        tag=CONVERSATIONS,
        parameters=parameters_of(PageQuery),
        responses={
            200: answer(
                shapes.Files, "A page of the files.", ("one", examples.page(examples.FILE_OF_MESSAGE), "One file")
            )
        },
        refuses=["invalid", "conversation_deleted", "conversation_restricted"],
        links={
            "download": link(
                "downloadFile",
                "Fetch the first.",
                number="$request.path.number",
                file_id="$response.body#/results/0/file_id",
            )
        },
    )
    def get(self, request: Request, *, number: int, **_path: str) -> Response:
        pages = messages.FilePages(read_query(request, PageQuery))
        with _open_conversation(request, number) as conversation:
            files = pages.paginate_queryset(messages.stored_files(conversation), request)
            ids = messages.message_ids(files)
        return pages.get_paginated_response(
            [shapes.FileOfConversation.of(file, message_id=ids.get(file.message_id)) for file in files]
        )

    @describe(
        operation_id="storeFile",
        summary="Store a file of a conversation",
        description="""
            Takes one file that was uploaded in a conversation. If the response is not 201, nothing of it is kept. A
            file that is sent again is stored a second time, since two equal files can be intended.
            """,
        tag=CONVERSATIONS,
        request={
            "multipart/form-data": takes(
                _FILE_FORM,
                ("picture", {"message_id": "m1", "file": "(the bytes of photo.jpg)"}, "A picture of a message"),
                encoding={"file": {"contentType": ", ".join(settings.UPLOAD_TYPES)}},
            )
        },
        responses={
            201: answer(
                shapes.StoredFile,
                "The file is stored.",
                ("picture", examples.FILE_OF_MESSAGE | {"number": 17}, "A picture of a message"),
            )
        },
        refuses=["conversation_deleted", "message_redacted"],
    )
    def post(self, request: Request, *, number: int, **_path: str) -> Response:
        with _open_conversation(request, number, is_read=False) as conversation:
            pass
        if not _UPLOADS.acquire(blocking=False):
            raise Problem("unavailable", "As many files are being stored as can be at a time. Send it again later.")
        try:
            return _store_file(request, conversation)
        finally:
            _UPLOADS.release()


class FileDownloadView(ChatbotView):
    """Redirects to a link to a file, valid for some minutes, and records it in the change log."""

    scope = Scope.CONVERSATIONS_READ

    @describe(
        operation_id="downloadFile",
        summary="Fetch a file of a conversation",
        description="Redirects to a link that works for 5 minutes and needs no key. The change log records it.",
        tag=CONVERSATIONS,
        responses={302: OpenApiResponse(None, "Follow `Location`.")},
        refuses=["invalid", "conversation_deleted", "conversation_restricted"],
        parameters=[
            location_header(
                "The link. It contains neither a name nor a value.",
                example="https://s3.example.com/data-compliance/uploads/3/0b9f...?X-Amz-Signature=...",
            )
        ],
    )
    def get(self, request: Request, *, number: int, file_id: int, **_path: str) -> HttpResponseRedirect:
        read_query(request, Query)
        with _open_conversation(request, number) as conversation:
            file = messages.stored_files(conversation).filter(pk=file_id).first()
        if file is None:
            raise Problem("not_found", "The conversation has no file with this number.")
        try:
            link = messages.download_link(file=file, actor=caller_of(request).actor)
        except messages.ConversationRestricted:
            raise Problem("conversation_restricted") from None
        except messages.FileDeleted:
            raise Problem("conversation_deleted") from None
        except StorageError:
            raise Problem("unavailable", "The storage cannot be used for now.") from None
        return HttpResponseRedirect(link, headers=self.default_response_headers)


@contextmanager
def _open_conversation(request: Request, number: int, *, is_read: bool = True) -> Iterator[Conversation]:
    chatbot = caller_of(request).chatbot
    try:
        with messages.open_conversation(chatbot=chatbot, number=number, is_read=is_read) as conversation:
            yield conversation
    except messages.NoSuchConversation:
        raise Problem("not_found", "The chatbot has no conversation with this number.") from None
    except messages.ConversationClosed:
        raise Problem("conversation_deleted") from None
    except messages.ConversationRestricted:
        raise Problem("conversation_restricted") from None


def _store_file(request: Request, conversation: Conversation) -> Response:
    form = read_upload_form(request._request)
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
    except uploads.MessageRedacted:
        raise Problem("message_redacted") from None
    except uploads.UploadInvalid as invalid:
        pointer = "/message_id" if invalid.field == "message_id" else "/file"
        raise invalid_field(pointer, invalid.code, invalid.detail) from None
    except StorageError as error:
        logger.error("A file could not be stored: %s", error.code)  # noqa: TRY400  it says all there is
        raise Problem("unavailable", "The storage did not take the file. Send it again later.") from None
    stored = shapes.StoredFile.of(file, number=conversation.pk, message_id=form.message_id)
    return Response(stored, status=HTTPStatus.CREATED)
