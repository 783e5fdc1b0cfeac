"""Look-ups of identities at the clients' addresses. Waiting rows are the queue."""

from datetime import timedelta

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from common.leases import Lease
from common.tables import checks
from conversations.models.conversations import _OfConversation


class IdentityLookup(_OfConversation, Lease):
    """A look-up of a conversation's chatter at its chatbot's resolver. The row has neither the answer nor the value.

    Times are by the database's clock.
    """

    # More than three times the longest time of a call, so that a killed worker is recognised.
    lease = timedelta(seconds=30)

    class State(models.TextChoices):
        PENDING = "pending", "Waiting"
        RESOLVED = "resolved", "Resolved"
        UNKNOWN = "unknown", "Not known there"
        FAILED = "failed", "Failed"

    class Failure(models.TextChoices):
        """Why the last attempt failed, or was not made. Never a library's text."""

        NO_ANSWER = "no_answer", "No answer in time, or it broke off"
        NAME_UNKNOWN = "name_unknown", "The name of the host does not resolve"
        ADDRESS_REFUSED = "address_refused", "The address leads into a private network"
        TLS_FAILED = "tls_failed", "The connection could not be encrypted, or the certificate does not fit"
        BAD_ANSWER = "bad_answer", "What came back is not HTTP"
        BAD_STATUS = "bad_status", "The response status is neither 200 nor 404"
        ANSWER_TOO_LONG = "answer_too_long", "The answer is too long"
        NOT_JSON = "not_json", "The answer is not JSON"
        NO_VALUE = "no_value", "The answer has nothing at the pointer"
        NOT_TEXT = "not_text", "What the answer has at the pointer is neither a string nor null"
        BAD_VALUE = "bad_value", "The value is empty, too long, a placeholder or not storable"
        NOT_STORED = "not_stored", "The value could not be stored as this conversation's identity"
        VALUE_MISSING = "value_missing", "Not tried: a variable to send is not stored any more"
        SIGNING_KEY_MISSING = (
            "signing_key_missing",
            "The chatbot has neither a callback secret nor an active signing key",
        )
        SIGNING_KEY_UNREADABLE = "signing_key_unreadable", "The key ring does not open the secret that signs"
        RESOLVER_RESTING = "resolver_resting", "Not tried: the address failed several times just before"

    state = models.CharField(max_length=8, choices=State, default=State.PENDING)
    attempts = models.PositiveIntegerField(default=0)  # calls since it was queued last
    queued_at = models.DateTimeField(db_default=Now())
    # When a worker may take it; while one calls, when another may.
    next_attempt_at = models.DateTimeField(null=True)  # type: ignore[assignment]  # null once nothing is tried again
    give_up_at = models.DateTimeField()  # no attempt is made later
    last_error = models.CharField(max_length=32, choices=Failure, blank=True, default="")
    finished_at = models.DateTimeField(null=True)
    # The row is deleted then. Null while exports leave the conversation out (`assurance`).
    expires_at = models.DateTimeField(null=True)
    # A value was replaced before it had an answer, so no answer ends the doubt.
    has_gap = models.BooleanField(db_default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="identitylookup_once", fields=["conversation", "chatbot"]),
            *checks(
                identitylookup_state_fits=Q(state="pending", next_attempt_at__isnull=False, finished_at__isnull=True)
                | Q(
                    state__in=["resolved", "unknown", "failed"],
                    next_attempt_at__isnull=True,
                    token__isnull=True,
                    finished_at__isnull=False,
                )
            ),
        ]
        indexes = [
            # Look-ups that may be called, per chatbot.
            models.Index(
                name="identitylookup_due", fields=["chatbot", "next_attempt_at"], condition=Q(state="pending")
            ),
            # For the time that look-ups wait.
            models.Index(name="identitylookup_queued", fields=["chatbot", "queued_at"], condition=Q(state="pending")),
            # Look-ups that workers are calling.
            models.Index(name="identitylookup_taken", fields=["token"], condition=Q(token__isnull=False)),
            # Outcomes, the latest first.
            models.Index(
                name="identitylookup_ended",
                fields=["chatbot", "finished_at"],
                condition=Q(finished_at__isnull=False, chatbot__gt=0),
            ),
            # Expired rows.
            models.Index(name="identitylookup_expiry", fields=["expires_at"]),
        ]
