"""The record of each day's retention run."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from chatbots.models import LONGEST_RETENTION, SHORTEST_RETENTION, Chatbot
from common.tables import Named, checks
from compliance.models.requests import ComplianceRequest


class RetentionRun(Named):
    """A day's run of a chatbot, with its request, or without one if no conversation was due.

    The first run after the period was set or shortened was announced with its number, and waits a day. Cancelling it
    sets the period back.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="retention_runs", db_index=False)
    day = models.DateField()  # the day of the run in the chatbot's time zone
    request = models.OneToOneField(
        ComplianceRequest, on_delete=models.PROTECT, related_name="retention_run", null=True
    )
    retention_days = models.PositiveSmallIntegerField()
    older_than = models.DateTimeField()  # conversations whose last message is older are due
    # Of a first run: the number of conversations that was shown and confirmed.
    announced = models.PositiveIntegerField(null=True)
    previous_days = models.PositiveSmallIntegerField(null=True)  # of a first run: the period before, if there was one
    # Conversations up to this number are either closed by this run or were not due.
    examined_number = models.BigIntegerField(default=0)
    # Conversations that were due and kept for an export that names them.
    left_out = models.PositiveIntegerField(default=0)
    # A replay has filed it, maybe beside a run of the same day.
    is_replayed = models.BooleanField(default=False, db_default=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            # Two workers that sweep at once file one run. A first run has its own day and time. The restored database
            # can have a run of its own for the day of a replayed one.
            models.UniqueConstraint(
                name="retentionrun_once_a_day",
                fields=["chatbot", "day"],
                condition=Q(announced__isnull=True, is_replayed=False),
            ),
            *checks(
                retentionrun_days_offered=Q(retention_days__range=(SHORTEST_RETENTION, LONGEST_RETENTION)),
                retentionrun_first_has_request=Q(request__isnull=False)
                | Q(announced__isnull=True, previous_days__isnull=True),
            ),
        ]
        indexes = [models.Index(name="retentionrun_of_chatbot", fields=["chatbot", "-day", "-id"])]
