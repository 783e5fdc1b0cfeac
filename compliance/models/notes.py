"""What belongs to requests: the conversations that they name, notes, and the calls that they answer."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from chatbots.models import Chatbot
from common.tables import Named, checks
from compliance.models.requests import ComplianceRequest

MOST_CHARACTERS_OF_NOTE = 1_000


class RequestSubject(Named):
    """A conversation of a request, by the keyed digest of the platform's id.

    Code that stores or removes these rows sets the request's `named_conversations` in the same transaction.
    """

    request = models.ForeignKey(ComplianceRequest, on_delete=models.CASCADE, related_name="subjects", db_index=False)
    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    digest = models.BinaryField(max_length=32)

    class Meta:
        # Each index has one column, as those of ExportConversation: with old statistics PostgreSQL reads one of both
        # whole. So pairs are not unique, but filing refuses an id that is given twice.
        indexes = [
            models.Index(name="requestsubject_request", fields=["request"]),
            models.Index(name="requestsubject_digest", fields=["digest"]),
        ]


class RequestNote(Named):
    """The note of one decision. Its entry in the change log has the actor, time and reason.

    The text is emptied when a deletion of the same chatter completes, at the latest after ERASURE_LEDGER_DAYS. The
    row stays.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    request = models.ForeignKey(ComplianceRequest, on_delete=models.PROTECT, related_name="notes", db_index=False)
    entry_id = models.BigIntegerField()  # the decision's entry of the change log; no database constraint
    text = models.CharField(max_length=MOST_CHARACTERS_OF_NOTE, null=True)  # null once erased
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        indexes = [
            # Notes with a text, by the time of its removal. It also shows at once whether there are any.
            models.Index(name="requestnote_kept", fields=["created_at"], condition=Q(text__isnull=False)),
        ]
        constraints = [
            # Also finds a request's notes.
            models.UniqueConstraint(name="requestnote_once", fields=["request", "entry_id"]),
            *checks(requestnote_says_something=~Q(text="")),
        ]


class Replay(Named):
    """An answered call. The same call on the same path gets the same request as its answer."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    path = models.CharField(max_length=200)
    digest = models.BinaryField(max_length=32)  # keyed digest of the signature or Idempotency-Key
    body_digest = models.BinaryField(max_length=32)  # keyed digest of the body
    request = models.ForeignKey(ComplianceRequest, on_delete=models.PROTECT, related_name="+", db_index=False)
    # Whether the response was an equal export that was filed before.
    existing = models.BooleanField(default=False, db_default=False)
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="replay_once", fields=["chatbot", "path", "digest"]),
        ]
        indexes = [models.Index(name="replay_expiry", fields=["expires_at"])]
