"""When something last happened that no other row records."""

from django.db import models


class Occurrence(models.Model):
    """By the database's clock, and how often. One row for each name."""

    class Name(models.TextChoices):
        SWEEP = "sweep", "The sweep ran"
        UNEXPECTED_TASK = "unexpected_task", "Something was in the queue's tables that the service does not put there"
        CLUSTER_RESTARTED = "restarted", "A cluster was started anew, since it lost a process"

    name = models.CharField(max_length=16, choices=Name, primary_key=True)
    asked_at = models.DateTimeField(null=True, help_text="When it was last asked for, of what is asked for.")
    last_at = models.DateTimeField(null=True)
    times = models.PositiveBigIntegerField(default=0)

    # No index but the key, and each is renewed in place.

    def __str__(self) -> str:
        return self.name
