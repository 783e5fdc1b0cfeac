"""What was said in a conversation, and its files: out, and files in."""

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
from conversations import downloads, messages, uploads
from conversations.api import described, described_log, representation
from conversations.api.forms import most_body_bytes, read_file_form
from conversations.api.queries import MessagesQuery
from conversations.models import Conversation

logger = logging.getLogger(__name__)

Scope = ApiKey.Scope

# Uploads under way in this process: each holds a thread while the storage takes it, however slowly. One is left for
# all other calls.
_PLACES = threading.BoundedSemaphore(max(1, settings.WEB_THREADS - 1))


class MessagesView(ChatbotView):
    scope = Scope.CONVERSATIONS_READ

    @described_log.list_messages
    def get(self, request: Request, *, number: int, **_path: str) -> Response:
        pages = messages.MessagePages(read_query(request, MessagesQuery))
        with _reading(request, number) as conversation:
            places = pages.paginate_queryset(messages.places(conversation), request)
            said = messages.read([place["id"] for place in places], conversation=conversation)
        return pages.get_paginated_response([representation.message(one) for one in said])


class FilesView(ChatbotView):
    """The files of a conversation; and where one comes in, streamed into storage while it arrives."""

    scope = Scope.CONVERSATIONS_READ
    post_scope = Scope.CONVERSATIONS_WRITE

    def most_body_bytes(self) -> int:
        return most_body_bytes()

    @described_log.list_files
    def get(self, request: Request, *, number: int, **_path: str) -> Response:
        pages = messages.FilePages(read_query(request, PageQuery))
        with _reading(request, number) as conversation:
            files = pages.paginate_queryset(messages.stored_files(conversation), request)
            ids = messages.ids_of(files)
        return pages.get_paginated_response(
            [representation.file(file) | {"message_id": ids.get(file.message_id)} for file in files]
        )

    @described.store_file
    def post(self, request: Request, *, number: int, **_path: str) -> Response:
        with _reading(request, number) as conversation:
            pass
        with _place():
            return _receive(request, conversation)


class FileDownloadView(ChatbotView):
    """Redirects to a link that opens a file for some minutes. The change log tells who asked for it."""

    scope = Scope.CONVERSATIONS_READ

    @described_log.download_file
    def get(self, request: Request, *, number: int, file_id: int, **_path: str) -> HttpResponseRedirect:
        read_query(request, Query)
        with _reading(request, number) as conversation:
            file = messages.stored_files(conversation).filter(pk=file_id).first()
        if file is None:
            raise Problem("not_found", "The conversation has no file with this number.")
        try:
            link = downloads.link_to(file=file, actor=caller_of(request).actor)
        except downloads.FileGone:
            raise Problem("conversation_deleted") from None
        except StorageError:
            raise Problem("unavailable", "The storage cannot be used for now.") from None
        return HttpResponseRedirect(link, headers=self.default_response_headers)


@contextmanager
def _reading(request: Request, number: int) -> Iterator[Conversation]:
    try:
        with messages.reading(chatbot=caller_of(request).chatbot, number=number) as conversation:
            yield conversation
    except messages.NoSuchConversation:
        raise Problem("not_found", "The chatbot has no conversation with this number.") from None
    except messages.ConversationClosed:
        raise Problem("conversation_deleted") from None


@contextmanager
def _place() -> Iterator[None]:
    if not _PLACES.acquire(blocking=False):
        raise Problem("unavailable", "As many files are being stored as can be at a time. Send it again later.")
    try:
        yield
    finally:
        _PLACES.release()


def _receive(request: Request, conversation: Conversation) -> Response:
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
    answer = representation.file(file) | {"number": conversation.pk, "message_id": form.message_id}
    return Response(answer, status=HTTPStatus.CREATED)


def _invalid_upload(invalid: uploads.UploadInvalid) -> Problem:
    pointer = "/message_id" if invalid.field == "message_id" else "/file"
    error = FieldError(pointer=pointer, code=invalid.code, detail=invalid.detail)
    return Problem("invalid", invalid.detail, errors=[error])
