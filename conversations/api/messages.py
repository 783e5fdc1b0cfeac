"""Calls about the messages and files of one conversation."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from django.conf import settings
from django.http import HttpResponseRedirect
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from common.pagination import PageQuery
from common.problems import FieldError, Problem
from common.query import Query, read_query
from common.storage import StorageError
from conversations import messages, uploads
from conversations.api import openapi, representation
from conversations.api.queries import MessagesQuery
from conversations.api.upload_form import most_body_bytes, read_upload_form
from conversations.models import Conversation

logger = logging.getLogger(__name__)

Scope = ApiKey.Scope

# Running uploads of this process: each holds a thread while the storage receives it, however slowly. One thread is
# left for all other calls.
_UPLOADS = threading.BoundedSemaphore(max(1, settings.WEB_THREADS - 1))


class MessagesView(ChatbotView):
    scope = Scope.CONVERSATIONS_READ

    @openapi.list_messages
    def get(self, request: Request, *, number: int, **_path: str) -> Response:
        pages = messages.MessagePages(read_query(request, MessagesQuery))
        with _open_conversation(request, number) as conversation:
            positions = pages.paginate_queryset(messages.positions(conversation), request)
            entries = messages.read([position["id"] for position in positions], conversation=conversation)
        return pages.get_paginated_response([representation.message(entry) for entry in entries])


class FilesView(ChatbotView):
    """The files of a conversation. A new one is streamed into storage while it arrives."""

    scope = Scope.CONVERSATIONS_READ
    post_scope = Scope.CONVERSATIONS_WRITE

    def most_body_bytes(self) -> int:
        return most_body_bytes()

    @openapi.list_files
    def get(self, request: Request, *, number: int, **_path: str) -> Response:
        pages = messages.FilePages(read_query(request, PageQuery))
        with _open_conversation(request, number) as conversation:
            files = pages.paginate_queryset(messages.stored_files(conversation), request)
            ids = messages.message_ids(files)
        return pages.get_paginated_response(
            [representation.file(file) | {"message_id": ids.get(file.message_id)} for file in files]
        )

    @openapi.store_file
    def post(self, request: Request, *, number: int, **_path: str) -> Response:
        with _open_conversation(request, number) as conversation:
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

    @openapi.download_file
    def get(self, request: Request, *, number: int, file_id: int, **_path: str) -> HttpResponseRedirect:
        read_query(request, Query)
        with _open_conversation(request, number) as conversation:
            file = messages.stored_files(conversation).filter(pk=file_id).first()
        if file is None:
            raise Problem("not_found", "The conversation has no file with this number.")
        try:
            link = messages.download_link(file=file, actor=caller_of(request).actor)
        except messages.FileGone:
            raise Problem("conversation_deleted") from None
        except StorageError:
            raise Problem("unavailable", "The storage cannot be used for now.") from None
        return HttpResponseRedirect(link, headers=self.default_response_headers)


@contextmanager
def _open_conversation(request: Request, number: int) -> Iterator[Conversation]:
    try:
        with messages.open_conversation(chatbot=caller_of(request).chatbot, number=number) as conversation:
            yield conversation
    except messages.NoSuchConversation:
        raise Problem("not_found", "The chatbot has no conversation with this number.") from None
    except messages.ConversationClosed:
        raise Problem("conversation_deleted") from None


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
    except uploads.UploadInvalid as invalid:
        pointer = "/message_id" if invalid.field == "message_id" else "/file"
        error = FieldError(pointer=pointer, code=invalid.code, detail=invalid.detail)
        raise Problem("invalid", invalid.detail, errors=[error]) from None
    except StorageError as error:
        logger.error("A file could not be stored: %s", error.code)  # noqa: TRY400  it says all there is
        raise Problem("unavailable", "The storage did not take the file. Send it again later.") from None
    stored = representation.file(file) | {"number": conversation.pk, "message_id": form.message_id}
    return Response(stored, status=HTTPStatus.CREATED)
