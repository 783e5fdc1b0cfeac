"""Hand a file of a conversation out, to staff or to a developer, by a link of minutes."""

from django.db import transaction

from chatbots import changelog
from chatbots.buckets import hosted_storage
from conversations.models import Conversation, UploadedFile


class FileGone(Exception):
    """The conversation is being deleted, or was; or the file went meanwhile."""


def link_to(*, file: UploadedFile, actor: str) -> str:
    """Return an address where the file can be downloaded, for a few minutes; the change log tells that it was asked.

    It always downloads, and never opens in the browser's page. Neither a name nor a value stands in it.
    Raises FileGone, and StorageError where the storage's settings cannot be used.
    """
    link = hosted_storage().link(file.object_key, content_type=file.content_type)
    with transaction.atomic():
        live = Conversation.objects.select_for_update().filter(
            pk=file.conversation_id, deletion_request_id__isnull=True
        )
        stored = UploadedFile.objects.filter(pk=file.pk, state=UploadedFile.State.STORED)
        if not (list(live) and stored.exists()):
            raise FileGone
        changelog.record(
            "file.downloaded",
            chatbot_id=file.chatbot_id,
            actor=actor,
            data={"file": file.pk, "conversation": file.conversation_id},
        )
    return link
