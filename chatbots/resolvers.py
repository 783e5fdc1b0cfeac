"""The resolver of a chatbot: the client's address at which workers look up chatters."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from chatbots.callback_urls import CALLBACK_URL

POINTER = r"^(/([^/~]|~0|~1)*)*$"
DEFAULT_POINTER = "/value"
MOST_VARIABLES = 10


class Resolver(models.Model):
    """The address at which a chatbot's identities are looked up, and the variables that are sent.

    It stops by itself when another variable becomes the UCI: the address answers with a value of the former one. The
    columns from `called_at` on are written by workers.
    """

    class OffReason(models.TextChoices):
        UCI_CHANGED = "uci_changed", "Another variable has become the UCI since"
        UCI_NOT_CUSTOM = "uci_not_custom", "The UCI is no custom variable any more"

    chatbot = models.OneToOneField(
        "chatbots.Chatbot", on_delete=models.PROTECT, primary_key=True, related_name="resolver"
    )
    url = models.CharField("URL", max_length=500, help_text="In canonical form. Its path may be a secret.")
    # Variables are never removed, so a table with foreign keys is not needed.
    variable_ids = ArrayField(models.BigIntegerField(), help_text="What is sent: variables of the chatbot.")
    session_token = models.ForeignKey(
        "chatbots.Variable",
        null=True,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
        db_index=False,
        help_text="The sent user-channel variable that holds an opaque token of the client's own session.",
    )
    pointer = models.CharField(
        max_length=200, default=DEFAULT_POINTER, blank=True, help_text="Where the answer has the value (RFC 6901)."
    )
    off_reason = models.CharField(max_length=16, choices=OffReason, blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    called_at = models.DateTimeField(null=True, editable=False, help_text="When the last call ended.")
    failing_since = models.DateTimeField(
        null=True, editable=False, help_text="The first of the failed calls since the last good one."
    )
    last_error = models.CharField(
        max_length=32, blank=True, default="", editable=False, help_text="Why the last call failed; empty if not."
    )
    last_error_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(name="resolver_url_shape", condition=Q(url__regex=CALLBACK_URL)),
            models.CheckConstraint(name="resolver_pointer_shape", condition=Q(pointer__regex=POINTER)),
            models.CheckConstraint(
                name="resolver_sends_some", condition=Q(variable_ids__len__range=(1, MOST_VARIABLES))
            ),
            models.CheckConstraint(
                name="resolver_off_reason_known", condition=Q(off_reason__in=["", "uci_changed", "uci_not_custom"])
            ),
        ]

    def __str__(self) -> str:
        return f"resolver of chatbot {self.pk}"

    @property
    def is_on(self) -> bool:
        return not self.off_reason

    def sent(self) -> dict[int, str]:
        """Return the variables that are sent, by id, with their names, in the order in which they were set."""
        names = dict(self.chatbot.variables.filter(pk__in=self.variable_ids).values_list("pk", "name"))
        return {pk: names[pk] for pk in self.variable_ids if pk in names}
