"""What was said in an open conversation, and its files, as it is read through the API."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.db.models import F, Func, IntegerField, QuerySet

from chatbots.models import Chatbot
from common.pagination import BoundedPages, CursorPages
from conversations.models import Conversation, Message, UploadedFile


class NoSuchConversation(Exception):
    """The chatbot has no conversation with this number."""


class ConversationClosed(Exception):
    """The conversation is being deleted, or was."""


class Said(NamedTuple):
    message: Message
    files: list[UploadedFile]


class MessagePages(BoundedPages):
    """In the order in which it was said.

    No index has a conversation's messages in this order: it would cost each message that comes in. So a page sorts
    all of them, some 50 ms for 100,000; what is long is read for the page alone.
    """

    ordering = ("sent_at", "id")


class FilePages(CursorPages):
    ordering = ("id",)


@contextmanager
def reading(*, chatbot: Chatbot, number: int) -> Iterator[Conversation]:
    """Give an open conversation to read from, and look again at the end: what was read while the mark came must not
    be handed out. Raises NoSuchConversation, ConversationClosed.
    """
    found = Conversation.objects.filter(chatbot=chatbot, pk=number)
    conversation = found.first()
    if conversation is None:
        raise NoSuchConversation
    if conversation.is_closed:
        raise ConversationClosed
    yield conversation
    if not found.filter(deletion_request_id__isnull=True).exists():
        raise ConversationClosed


def places(conversation: Conversation) -> QuerySet[Any, Any]:
    """Return the rows for `MessagePages`."""
    # Not by the chatbot: its index has all that anybody ever said in the order that is asked for here.
    size = Func(F("text"), function="octet_length", output_field=IntegerField())
    found = Message.objects.filter(conversation=conversation)
    return found.annotate(size=size).values("sent_at", "id", "size")


def read(numbers: Sequence[int], *, conversation: Conversation) -> list[Said]:
    """Return the messages with these numbers of ours, in their order, with their files, in two statements."""
    found = Message.objects.filter(conversation=conversation).in_bulk(numbers)
    files = defaultdict(list)
    for file in stored_files(conversation).filter(message_id__in=numbers).order_by("id"):
        files[file.message_id].append(file)
    return [Said(found[number], files[number]) for number in numbers if number in found]


def stored_files(conversation: Conversation) -> QuerySet[UploadedFile]:
    """Return the files of a conversation that are whole, for `FilePages`."""
    return UploadedFile.objects.filter(conversation=conversation, state=UploadedFile.State.STORED)


def ids_of(files: Sequence[UploadedFile]) -> dict[int, str]:
    """Return the platform's id of each message that these files came with, by its number of ours."""
    numbers = {file.message_id for file in files if file.message_id is not None}
    return dict(Message.objects.filter(pk__in=numbers).values_list("pk", "external_id"))
