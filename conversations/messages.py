"""Messages and files of open conversations: reading them, and links to files.

A conversation that is marked for deletion is closed: its content is not shown any more. A restricted one
(`protection`) is shown to officers only. Staff views of a transcript and downloads of files are recorded in the
change log.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import F, Func, IntegerField, QuerySet
from django.db.models.functions import Now

from chatbots import changelog
from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from common.pagination import BoundedPages, CursorPages
from conversations.models import Conversation, Identity, Message, UploadedFile, VariableValue
from conversations.protection import find_restricted

MAX_IDENTITIES = 100
MAX_FILES = 100


class NoSuchConversation(Exception):
    """The chatbot has no conversation with this number."""


class ConversationClosed(Exception):
    """The conversation was deleted or is being deleted."""


class ConversationRestricted(Exception):
    """Only officers read the conversation for now."""


class FileDeleted(Exception):
    """The conversation was deleted or is being deleted, or the file was removed meanwhile."""


class MessageWithFiles(NamedTuple):
    message: Message
    files: list[UploadedFile]


class ConversationDetails(NamedTuple):
    """The data of a conversation beside its messages: the first MAX_IDENTITIES and MAX_FILES, and all values."""

    identities: list[Identity]
    values: list[VariableValue]
    files: list[UploadedFile]


class MessagePages(BoundedPages):
    """Messages in the order in which they were sent.

    There is no index in this order, since it would slow down every incoming message. So a page sorts all messages of
    the conversation, which takes some 50 ms for 100,000. Texts are read only for the page.
    """

    ordering = ("sent_at", "id")


class FilePages(CursorPages):
    ordering = ("id",)


@contextmanager
def open_conversation(*, chatbot: Chatbot, number: int, is_read: bool = True) -> Iterator[Conversation]:
    """Yield an open conversation to read from, and check at the end that it was not marked meanwhile.

    Raises NoSuchConversation, ConversationClosed, and with `is_read` ConversationRestricted.
    """
    conversation = Conversation.objects.filter(chatbot=chatbot, pk=number).first()
    if conversation is None:
        raise NoSuchConversation
    if conversation.is_closed:
        raise ConversationClosed
    if is_read:
        _refuse_restricted(chatbot.pk, number)
    yield conversation
    if not _open(chatbot.pk, number).exists():
        raise ConversationClosed


@contextmanager
def logged_view(conversation: Conversation, *, actor: str, sees_restricted: bool = False) -> Iterator[Conversation]:
    """Yield an open conversation to read from, and record in the change log that `actor` viewed it.

    Each page of a transcript is an entry, since a later page has an address too. The conversation stays locked until
    the page is read, so nothing is shown after the mark of a deletion. Raises ConversationClosed, and unless the
    actor `sees_restricted` ones ConversationRestricted.
    """
    with transaction.atomic():
        locked = _open(conversation.chatbot_id, conversation.pk).select_for_update(no_key=True).first()
        if locked is None:
            raise ConversationClosed
        if not sees_restricted:
            _refuse_restricted(locked.chatbot_id, locked.pk)
        data = {"conversation": locked.pk}
        changelog.record("conversation.opened", chatbot_id=locked.chatbot_id, actor=actor, data=data)
        yield locked


def positions(conversation: Conversation) -> QuerySet[Any, Any]:
    size = Func(F("text"), function="octet_length", output_field=IntegerField())
    found = Message.objects.filter(**_of(conversation))
    return found.annotate(size=size).values("sent_at", "id", "size")


def read(numbers: Sequence[int], *, conversation: Conversation) -> list[MessageWithFiles]:
    """Return the messages with these primary keys, in their order, in two statements."""
    found = Message.objects.filter(**_of(conversation)).in_bulk(numbers)
    files = defaultdict(list)
    for file in stored_files(conversation).filter(message_id__in=numbers).order_by("id"):
        files[file.message_id].append(file)
    return [MessageWithFiles(found[number], files[number]) for number in numbers if number in found]


def details(conversation: Conversation) -> ConversationDetails:
    """Return the data of a conversation beside its messages, in three statements."""
    identities = Identity.objects.filter(**_of(conversation)).select_related("variable")
    values = VariableValue.objects.filter(**_of(conversation), expires_at__gt=Now()).select_related("variable")
    files = UploadedFile.objects.filter(**_of(conversation)).exclude(state=UploadedFile.State.REMOVING).order_by("id")
    return ConversationDetails(
        list(identities.order_by("variable_id", "value")[:MAX_IDENTITIES]),
        sorted(values, key=lambda value: value.variable.name),
        list(files[:MAX_FILES]),
    )


def stored_files(conversation: Conversation) -> QuerySet[UploadedFile]:
    return UploadedFile.objects.filter(**_of(conversation), state=UploadedFile.State.STORED)


def message_ids(files: Sequence[UploadedFile]) -> dict[int, str]:
    """Return the platform's ids of the messages that these files came with, by the message's primary key."""
    numbers = {file.message_id for file in files if file.message_id is not None}
    found = Message.objects.filter(chatbot__in={file.chatbot_id for file in files}, pk__in=numbers)
    return dict(found.values_list("pk", "external_id"))


def download_link(*, file: UploadedFile, actor: str, sees_restricted: bool = False) -> str:
    """Return a link to a file, valid for some minutes, and record in the change log that `actor` asked for it.

    The file downloads, and never opens in the browser's page. The link contains neither a name nor a value. Raises
    FileDeleted, StorageError if the storage's settings cannot be used, and ConversationRestricted as `logged_view`.
    """
    if not sees_restricted:
        _refuse_restricted(file.chatbot_id, file.conversation_id)
    link = hosted_storage().link(file.object_key, content_type=file.content_type)
    with transaction.atomic():
        found = _open(file.chatbot_id, file.conversation_id)
        stored = UploadedFile.objects.filter(chatbot=file.chatbot_id, pk=file.pk, state=UploadedFile.State.STORED)
        if not (list(found.select_for_update()) and stored.exists()):
            raise FileDeleted
        data = {"file": file.pk, "conversation": file.conversation_id}
        changelog.record("file.downloaded", chatbot_id=file.chatbot_id, actor=actor, data=data)
    return link


def _refuse_restricted(chatbot_id: int, number: int) -> None:
    if find_restricted(chatbot_id, [number]):
        raise ConversationRestricted


def _open(chatbot_id: int, number: int) -> QuerySet[Conversation]:
    return Conversation.objects.filter(chatbot=chatbot_id, pk=number, deletion_request_id__isnull=True)


def _of(conversation: Conversation) -> dict[str, Any]:
    return {"chatbot": conversation.chatbot_id, "conversation": conversation}
