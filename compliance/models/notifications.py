"""Events of requests: callbacks to clients, and mails to officers."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from chatbots.callback_urls import CALLBACK_URL, receiver_of
from chatbots.models import Chatbot
from common.leases import Lease
from common.tables import Named, checks
from compliance.models.holds import LegalHold
from compliance.models.requests import ComplianceRequest

_Status = ComplianceRequest.Status


class Callback(Lease):
    """The event that a request has reached a state, for the client's receiver. Waiting rows are the queue.

    The state of the request is a copy: a request that failed can have been retried since. Times are the database's.
    """

    # Three times the longest time of a call, so that a killed worker is recognised.
    lease = timedelta(seconds=30)

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        DELIVERED = "delivered", "Delivered"
        GIVEN_UP = "given_up", "Given up"

    class Failure(models.TextChoices):
        """Why the last attempt failed, or was not made. Never a library's text."""

        NO_ANSWER = "no_answer", "The receiver did not answer in time, or closed the connection"
        NAME_UNKNOWN = "name_unknown", "The name of the host does not resolve"
        ADDRESS_REFUSED = "address_refused", "The address leads into a private network"
        ADDRESS_MISSING = "address_missing", "Not tried: neither the request nor the chatbot has an address any more"
        TLS_FAILED = "tls_failed", "The connection could not be encrypted, or the certificate does not fit"
        BAD_ANSWER = "bad_answer", "What came back is not HTTP"
        BAD_STATUS = "bad_status", "The response status is not a success"
        SIGNING_KEY_MISSING = (
            "signing_key_missing",
            "The chatbot has neither a callback secret nor an active signing key",
        )
        SIGNING_KEY_UNREADABLE = "signing_key_unreadable", "The key ring does not open the secret that signs"
        RECEIVER_RESTING = "receiver_resting", "Not tried: the receiver failed several times just before"

    class DeadlineEvent(models.TextChoices):
        DUE_SOON = "due_soon", "Due soon"
        OVERDUE = "overdue", "Overdue"
        EXTENDED = "extended", "Extended"

    id = models.UUIDField(
        primary_key=True, help_text="UUIDv7. The same in each attempt: receivers drop repeats by it."
    )
    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    request = models.ForeignKey(ComplianceRequest, on_delete=models.PROTECT, related_name="callbacks", db_index=False)
    deadline_event = models.CharField(
        max_length=8,
        choices=DeadlineEvent,
        blank=True,
        default="",
        db_default="",
        help_text="An event of the request's deadline. Empty: the request has reached the state.",
    )
    status = models.CharField(max_length=16, choices=_Status)
    hold_reason = models.CharField(max_length=32, choices=ComplianceRequest.HoldReason, null=True)
    result = models.CharField(max_length=16, choices=ComplianceRequest.Result, null=True)
    error_code = models.CharField(max_length=64, blank=True, default="")
    occurred_at = models.DateTimeField(
        help_text="When the request reached the state, was extended, became due soon, or was due."
    )
    url = models.CharField(
        max_length=500,
        blank=True,
        default="",
        help_text="The request's own address, emptied once delivered or given up. Without one: the chatbot's.",
    )

    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    attempts = models.PositiveIntegerField(default=0, help_text="Calls since the callback was last resent.")
    next_attempt_at = models.DateTimeField(  # type: ignore[assignment]  # null once nothing is tried again
        null=True, help_text="When a worker may take it; while one sends it, when another may."
    )
    give_up_at = models.DateTimeField(help_text="No attempt is made later.")
    last_status = models.PositiveSmallIntegerField(
        null=True, help_text="HTTP status of the receiver's last response."
    )
    last_error = models.CharField(max_length=32, choices=Failure, blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    delivered_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(help_text="The row is deleted then, unless it waits.")

    class Meta:
        indexes = [
            # Callbacks that may be sent, per chatbot.
            models.Index(name="callback_due", fields=["chatbot", "next_attempt_at"], condition=Q(state="waiting")),
            # Callbacks that workers are sending.
            models.Index(name="callback_taken", fields=["token"], condition=Q(token__isnull=False)),
            models.Index(name="callback_expiry", fields=["expires_at"]),
            models.Index("chatbot", models.F("id").desc(), name="callback_newest"),
            models.Index(
                "chatbot",
                models.F("id").desc(),
                name="callback_newest_given_up",
                condition=Q(state="given_up", chatbot__gt=0),
            ),
        ]
        constraints = [
            # Also finds a request's callbacks, in the order of events.
            models.UniqueConstraint(name="callback_once", fields=["request", "occurred_at", "status"]),
            # Whatever the state at the time.
            models.UniqueConstraint(
                name="callback_of_deadline_once",
                fields=["request", "deadline_event", "occurred_at"],
                condition=~Q(deadline_event=""),
            ),
            *checks(  # The states with callbacks: an event is `request.` and one of them, or that of a deadline.
                callback_event_known=Q(
                    deadline_event="", status__in=["completed", "failed", "on_hold", "rejected", "cancelled"]
                )
                | Q(
                    deadline_event__in=["due_soon", "overdue", "extended"],
                    status__in=["accepted", "processing", "on_hold", "failed"],
                ),
                callback_hold_has_reason=Q(status="on_hold", hold_reason__isnull=False)
                | (~Q(status="on_hold") & Q(hold_reason__isnull=True)),
                callback_completed_has_result=Q(status="completed", result__isnull=False)
                | (~Q(status="completed") & Q(result__isnull=True)),
                callback_failed_has_error=(Q(status="failed") & ~Q(error_code=""))
                | (~Q(status="failed") & Q(error_code="")),
                callback_url_shape=Q(url="") | Q(url__regex=CALLBACK_URL),
                callback_state_fits=Q(state="waiting", next_attempt_at__isnull=False, delivered_at__isnull=True)
                | Q(
                    state="delivered", next_attempt_at__isnull=True, delivered_at__isnull=False, url="", last_error=""
                )
                | (Q(state="given_up", next_attempt_at__isnull=True, delivered_at__isnull=True) & ~Q(last_error="")),
                callback_taken_waits=Q(token__isnull=True) | Q(state="waiting"),
            ),
        ]

    @property
    def event(self) -> str:
        return f"request.{self.deadline_event or self.status}"

    @property
    def address(self) -> str:
        """The URL that it goes to: the request's own, else the chatbot's present one. Empty once none is needed."""
        return self.url or (self.chatbot.callback_url if self.state == self.State.WAITING else "")

    @property
    def receiver(self) -> str | None:
        """Scheme and host of the address, whose path can be a secret."""
        return receiver_of(self.address)


class Notice(Named):
    """An event of a request or a legal hold for its officers. Ids are in the order in which notices become visible.

    A request that failed again after a retry, or was held again, has another event; so has a hold with another
    review.
    """

    class Event(models.TextChoices):
        FAILED = "failed", "Failed"
        ON_HOLD = "on_hold", "On hold"
        # In the digest alone: there are no notices of them.
        DUE_SOON = "due_soon", "Due soon"
        OVERDUE = "overdue", "Overdue"
        REVIEW = "review", "Review due"

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    request = models.ForeignKey(
        ComplianceRequest, on_delete=models.PROTECT, related_name="+", db_index=False, null=True
    )
    hold = models.ForeignKey(LegalHold, on_delete=models.PROTECT, related_name="+", db_index=False, null=True)
    event = models.CharField(max_length=8, choices=Event)
    occurred_at = models.DateTimeField()  # when the request failed, was held, or is due; the hold's review
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="notice_once", fields=["request", "event", "occurred_at"]),
            models.UniqueConstraint(name="notice_of_hold_once", fields=["hold", "occurred_at"]),
            *checks(
                notice_event_known=Q(
                    event__in=["failed", "on_hold", "due_soon", "overdue"], request__isnull=False, hold__isnull=True
                )
                | Q(event="review", request__isnull=True, hold__isnull=False)
            ),
        ]
        # The new notices of a chatbot.
        indexes = [models.Index(name="notice_of_chatbot", fields=["chatbot", "id"])]


class Mailbox(Lease):
    """The last notice and digest that an officer got, and when the next mail may be sent, by the database's clock."""

    # Longer than all time limits of a mail together.
    lease = timedelta(minutes=5)

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="mailbox"
    )
    last_notified_id = models.BigIntegerField(default=0)  # the last notice that was mailed, or no longer applied
    mailed_at = models.DateTimeField(null=True)
    # The last day whose digest was mailed, or was not needed, since nothing was due.
    digest_on = models.DateField(null=True)
    attempts = models.PositiveIntegerField(default=0)  # failed attempts since the last mail
    last_error = models.CharField(max_length=32, blank=True, default="")  # ours, never a library's text
