"""Store a file of a conversation: a row and an object in the hosted bucket, which erasure always finds.

Objects have no locks, so the order of the steps closes the races with an erasure:

1. `open_upload`: under the conversation's row lock, refuse if it is marked; insert the row with its key. From here
   on, an erasure of the conversation finds the key.
2. Begin the multipart upload, and record its id under the row lock. If the conversation is marked by now, abort: its
   erasure may have listed uploads before this one began, and would not list them again.
3. `write`: send the parts and complete the object. An erasure that marks now finds the upload and aborts it.
4. `finalise`: under the row lock again, make the row `stored`. If the conversation is marked or the row was deleted,
   purge the object here.

A redaction of the message that a file came with is an erasure of that file: each step refuses, as for a marked
conversation.

No call to storage happens inside a transaction. A process that is killed leaves a row in state `uploading`; after a
day a sweep removes its data from storage. It first removes the upload's id from the row: an upload without an id is
not finalised any more.
"""

import logging
import re
from collections.abc import Iterable
from uuid import uuid4

from django.db import transaction
from django.db.models import QuerySet

from chatbots.buckets import hosted_storage
from common.storage import StorageError, Written
from common.texts import is_storable
from conversations.models import Conversation, Message, UploadedFile

logger = logging.getLogger(__name__)

MAX_NAME_LENGTH = 255
# As in an HTTP header: printable ASCII.
_CONTENT_TYPE = re.compile(r"[!-~]+/[!-~]+(; ?[ -~]+)?")

# Percent-encoded a character has up to 12 bytes, and a storage takes 2 KB or so for a header.
_MAX_DOWNLOAD_NAME = 120
_MAX_EXTENSION = 16
_MISLEADING = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069/\\]")


class ConversationDeleted(Exception):
    """The conversation was deleted, before or during the upload. Nothing of the file remains."""


class MessageRedacted(Exception):
    """The message that the file came with was redacted, before or during the upload. Nothing of the file remains."""


class UploadInvalid(Exception):
    """Name, content type or message id is invalid. `code` and `detail` are as in a FieldError."""

    def __init__(self, field: str, code: str, detail: str) -> None:
        super().__init__(f"{field}: {code}")
        self.field = field
        self.code = code
        self.detail = detail


def receive(
    *,
    conversation: Conversation,
    name: str,
    content_type: str,
    chunks: Iterable[bytes],
    message_external_id: str | None = None,
) -> UploadedFile:
    """Store a file as a whole or not at all. Raises the errors of the steps below, and those of `chunks`."""
    upload = open_upload(
        conversation=conversation,
        name=name,
        content_type=content_type,
        message_external_id=message_external_id,
    )
    try:
        return finalise(upload=upload, written=write(upload=upload, chunks=chunks))
    except BaseException:
        abort(upload=upload)
        raise


def open_upload(
    *, conversation: Conversation, name: str, content_type: str, message_external_id: str | None = None
) -> UploadedFile:
    """Begin an upload and return its row.

    Raises ConversationDeleted, MessageRedacted, UploadInvalid (including for a message that is not stored),
    StorageError.
    """
    _check(name, content_type)
    upload = UploadedFile(
        chatbot_id=conversation.chatbot_id,
        conversation=conversation,
        object_key=f"uploads/{conversation.chatbot_id}/{uuid4().hex}",
        name=name,
        content_type=content_type,
    )
    with transaction.atomic():
        _lock_open(upload)
        upload.message_id = _message_id(conversation, message_external_id)
        _refuse_redacted(upload)
        upload.save()
    try:
        upload.upload_id = hosted_storage().open_upload(
            upload.object_key, content_type=content_type, filename=download_name(name)
        )
        with transaction.atomic():
            _lock_open(upload)
            _refuse_redacted(upload)
            if not _row_of(upload).update(upload_id=upload.upload_id):
                raise ConversationDeleted
    except BaseException:
        abort(upload=upload)
        raise
    return upload


def write(*, upload: UploadedFile, chunks: Iterable[bytes]) -> Written:
    """Send the content and complete the object. After any error there is no object.

    Raises ConversationDeleted or MessageRedacted if an erasure has aborted the upload, or else StorageError, or the
    errors of `chunks`.
    """
    try:
        return hosted_storage().write_parts(upload.object_key, upload.upload_id or "", chunks)
    except StorageError:
        if _conversation_of(upload).filter(deletion_request_id__isnull=False).exists():
            raise ConversationDeleted from None
        _refuse_redacted(upload)
        raise


def finalise(*, upload: UploadedFile, written: Written) -> UploadedFile:
    """Make a written upload part of its conversation.

    Removes the object and raises ConversationDeleted, MessageRedacted, or StorageError if the sweep has taken it for
    abandoned.
    """
    try:
        with transaction.atomic():
            _lock_open(upload)
            _refuse_redacted(upload)
            if (
                not _row_of(upload)
                .filter(upload_id=upload.upload_id)
                .update(state=UploadedFile.State.STORED, size=written.bytes, sha256=written.sha256, upload_id=None)
            ):
                detail = "The upload took so long that it was removed."
                raise StorageError("storage_incomplete", detail, retryable=True)
            _conversation_of(upload).update(has_file_upload=True)
    except (ConversationDeleted, MessageRedacted, StorageError):
        hosted_storage().purge(upload.object_key)
        raise
    upload.refresh_from_db(from_queryset=_row_of(upload))
    return upload


def abort(*, upload: UploadedFile) -> None:
    """Remove the data of an upload from storage, and the name from its row, unless the file is stored.

    The row itself stays: only erasure deletes personal rows. If storage refuses, no error is raised, and the row
    keeps the key by which erasure finds the object.
    """
    if _row_of(upload).filter(state=UploadedFile.State.STORED).exists():
        return
    try:
        hosted_storage().purge(upload.object_key)
    except StorageError as error:
        logger.warning("An aborted upload is still in storage: file=%s %s", upload.pk, error.code)
        return
    _row_of(upload).update(upload_id=None, name="")


def _row_of(upload: UploadedFile) -> QuerySet[UploadedFile]:
    return UploadedFile.objects.filter(chatbot=upload.chatbot_id, pk=upload.pk)


def _conversation_of(upload: UploadedFile) -> QuerySet[Conversation]:
    return Conversation.objects.filter(chatbot=upload.chatbot_id, pk=upload.conversation_id)


def _lock_open(upload: UploadedFile) -> None:
    """Lock the conversation's row. Raises ConversationDeleted if it is marked or erased."""
    marks = _conversation_of(upload).select_for_update()
    if list(marks.values_list("deletion_request_id", flat=True)) != [None]:
        raise ConversationDeleted


def _refuse_redacted(upload: UploadedFile) -> None:
    """Raise MessageRedacted if the file's message was redacted. The conversation's lock keeps this unchanged."""
    if upload.message_id is None:
        return
    redacted = Message.objects.filter(chatbot=upload.chatbot_id, pk=upload.message_id, kind=Message.Kind.REDACTED)
    if redacted.exists():
        raise MessageRedacted


def _message_id(conversation: Conversation, external_id: str | None) -> int | None:
    if external_id is None:
        return None
    number = None
    if is_storable(external_id):
        found = Message.objects.filter(
            chatbot=conversation.chatbot_id, conversation=conversation, external_id=external_id
        )
        number = found.values_list("pk", flat=True).first()
    if number is None:
        raise UploadInvalid("message_id", "unknown_value", "The conversation has no message with this id.")
    return number


def _check(name: str, content_type: str) -> None:
    if not 0 < len(name) <= MAX_NAME_LENGTH:
        detail = f"Must have 1 to {MAX_NAME_LENGTH} characters."
        raise UploadInvalid("name", "too_long" if name else "too_short", detail)
    if not is_storable(name):
        raise UploadInvalid("name", "invalid", "Must be text, without the character NUL.")
    if len(content_type) > MAX_NAME_LENGTH or not _CONTENT_TYPE.fullmatch(content_type):
        raise UploadInvalid("content_type", "invalid", "Must be a media type such as image/png.")


def download_name(name: str) -> str:
    """Return the name for a download: short enough for a header, without misleading characters.

    Control characters and those that change the direction of writing (`gpj.exe` can look like `exe.jpg`) become `_`.
    """
    shown = "".join("_" if _MISLEADING.match(character) else character for character in name)
    stem, dot, extension = shown.rpartition(".")
    if not dot or len(extension) > _MAX_EXTENSION:
        return shown[:_MAX_DOWNLOAD_NAME]
    return f"{stem[: _MAX_DOWNLOAD_NAME - len(extension)]}.{extension}"
