"""Legal holds: data that must not be erased before the hold is released."""

from uuid import UUID

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from chatbots.models import Chatbot, Variable
from common.tables import Named, checks
from common.texts import REFERENCE


def legal_hold_binding(hold_id: UUID) -> str:
    """Return what the encrypted value of a hold is bound to."""
    return f"legalhold:{hold_id.hex}:value"


class LegalHold(Named):
    """A hold on the conversations of one chatter, on certain conversations, or on all of a chatbot.

    It covers what is stored and unmarked, and what is stored later (`compliance.work.held`). It ends only by its
    release: past `review_at` it stays in force.
    """

    class Scope(models.TextChoices):
        UCI = "uci", "One chatter, by the UCI value"
        CONVERSATIONS = "conversations", "Conversations, by the platform's ids"
        CHATBOT = "chatbot", "All conversations of the chatbot"

    class Basis(models.TextChoices):
        """Why the law permits or demands to keep the data. Article 17(3) GDPR: (e), (b), (b)."""

        LEGAL_CLAIMS = "legal_claims", "Legal claims"
        LEGAL_OBLIGATION = "legal_obligation", "A legal obligation"
        AUTHORITY_ORDER = "authority_order", "An order of an authority"

    class Disclosure(models.TextChoices):
        """Whether the person is told. A silent hold would need its own rules, so there is none yet."""

        DISCLOSED = "disclosed", "The person is told"

    class ReleaseReason(models.TextChoices):
        MATTER_CLOSED = "matter_closed", "The matter is closed"
        NO_LONGER_NEEDED = "no_longer_needed", "The data is not needed any more"
        PLACED_IN_ERROR = "placed_in_error", "The hold was placed in error"
        ORDER_ENDED = "order_ended", "The order of the authority has ended"

    id = models.UUIDField(primary_key=True)  # UUIDv7, created when the hold is placed
    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="legal_holds", db_index=False)
    scope = models.CharField(max_length=16, choices=Scope)
    variable = models.ForeignKey(
        Variable, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False, null=True
    )
    # The UCI value, for officers while the hold is in force. Empty after its release or a restore.
    value_encrypted = models.TextField(blank=True, default="")
    uci_digest = models.BinaryField(max_length=32, null=True)  # emptied ERASURE_LEDGER_DAYS after the release
    # It covers conversations that began then or later. Null: from the first.
    began_from = models.DateTimeField(null=True)
    # It covers conversations that began before then. Null: to the last.
    began_before = models.DateTimeField(null=True)
    # The client's own reference. Emptied ERASURE_LEDGER_DAYS after the release.
    matter = models.CharField(max_length=64)
    basis = models.CharField(max_length=16, choices=Basis)
    disclosure = models.CharField(max_length=16, choices=Disclosure, default=Disclosure.DISCLOSED)
    placed_at = models.DateTimeField(db_default=Now(), editable=False)
    placed_by = models.CharField(max_length=64)  # the actor, as in the change log
    review_at = models.DateTimeField()  # when an officer checks whether the hold is still needed
    reviewed_at = models.DateTimeField(null=True)
    reviewed_by = models.CharField(max_length=64, blank=True, default="")
    released_at = models.DateTimeField(null=True)
    released_by = models.CharField(max_length=64, blank=True, default="")
    release_reason = models.CharField(max_length=32, choices=ReleaseReason, blank=True, default="")

    class Meta:
        indexes = [
            # Read by each mark: empty for a chatbot without a hold in force.
            models.Index(name="legalhold_in_force", fields=["chatbot"], condition=Q(released_at__isnull=True)),
            models.Index(F("chatbot"), F("id").desc(), name="legalhold_newest"),
            # Released holds that still identify a person or a matter, by the time of the release.
            models.Index(
                name="legalhold_kept", fields=["released_at"], condition=Q(released_at__isnull=False) & ~Q(matter="")
            ),
        ]
        constraints = checks(
            legalhold_scope_known=Q(scope__in=["uci", "conversations", "chatbot"]),
            legalhold_basis_known=Q(basis__in=["legal_claims", "legal_obligation", "authority_order"]),
            legalhold_disclosure_known=Q(disclosure="disclosed"),
            legalhold_names_its_scope=(
                Q(scope="uci", variable__isnull=False) | (~Q(scope="uci") & Q(variable__isnull=True))
            )
            & (Q(scope="uci") | Q(value_encrypted="", uci_digest__isnull=True)),
            # A hold in force must find its data.
            legalhold_in_force_finds=Q(released_at__isnull=False) | ~Q(scope="uci") | Q(uci_digest__isnull=False),
            legalhold_window_is_whole=Q(began_from__isnull=True)
            | Q(began_before__isnull=True)
            | Q(began_from__lt=F("began_before")),
            legalhold_release_is_whole=Q(released_at__isnull=True, released_by="", release_reason="")
            | (Q(released_at__isnull=False, value_encrypted="") & ~Q(released_by="") & ~Q(release_reason="")),
            legalhold_matter_shape=Q(matter__regex=REFERENCE) | (Q(matter="") & Q(released_at__isnull=False)),
        )


class LegalHoldConversation(Named):
    """A conversation of a hold by ids, by the keyed digest of the platform's id."""

    hold = models.ForeignKey(LegalHold, on_delete=models.CASCADE, related_name="conversations", db_index=False)
    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    digest = models.BinaryField(max_length=32)

    class Meta:
        indexes = [models.Index(name="legalholdconversation_hold", fields=["hold"])]
