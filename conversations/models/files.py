"""Files of conversations: one object in the storage, and the row with its key."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from common.tables import checks
from conversations.models.conversations import _OfConversation


class UploadedFile(_OfConversation):
    """An uploaded file. The row and its key exist before the first byte is sent to storage.

    `removing`: its message was redacted, or its conversation erased. It is not shown or copied any more, and its name
    is erased. The row keeps the object's key until the object is removed.
    """

    class State(models.TextChoices):
        UPLOADING = "uploading", "Uploading"
        STORED = "stored", "Stored"
        REMOVING = "removing", "Being removed"

    message_id = models.BigIntegerField(null=True)  # the message it came with; no database constraint
    object_key = models.CharField(max_length=1024)  # holds no name and no UCI value
    upload_id = models.CharField(max_length=1024, null=True)  # id of the multipart upload while it is open
    name = models.CharField(max_length=255)
    content_type = models.CharField(max_length=255)
    size = models.BigIntegerField(null=True)  # bytes
    sha256 = models.CharField(max_length=64, null=True)  # lower-case hex
    state = models.CharField(max_length=16, choices=State, default=State.UPLOADING)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            # Not `unique=True`, which would also create an index for LIKE.
            models.UniqueConstraint(name="uploadedfile_key_once", fields=["object_key", "chatbot"]),
            *checks(
                uploadedfile_state_fits=Q(state__in=["uploading", "removing"])
                | Q(state="stored", size__isnull=False, sha256__isnull=False)
            ),
        ]
        indexes = [
            models.Index(name="uploadedfile_conversation", fields=["conversation"]),
            # Unfinished uploads, and objects that must be removed.
            models.Index(name="uploadedfile_open", fields=["created_at"], condition=Q(state="uploading")),
            models.Index(name="uploadedfile_removing", fields=["conversation"], condition=Q(state="removing")),
        ]
