"""What workers record: their claims on requests, their heartbeats, and when something last happened."""

from django.db import models
from django.db.models.functions import Now

from chatbots.models import Chatbot


class Claim(models.Model):
    """The set of requests one worker has taken. The row is the fence: a worker that cannot lock it writes nothing.

    `expires_at` is read against the database's clock only.
    """

    owner = models.CharField(max_length=100, help_text="Host, cluster and process: host:parent's pid:pid.")
    token = models.UUIDField(help_text="Fencing token: known to the worker that took the claim, to no other.")
    is_large = models.BooleanField(default=False, help_text="Of the large lane: counts against its limit.")
    bucket_of = models.ForeignKey(
        Chatbot,
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        help_text="The chatbot whose own bucket it may call; the others call the hosted one alone.",
    )
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        # No other index: there are a handful of rows, and one on a column that every renewal of a claim writes would
        # keep PostgreSQL from updating them in place.
        constraints = [models.UniqueConstraint(name="claim_one_per_bucket", fields=["bucket_of"])]

    def __str__(self) -> str:
        return f"claim {self.pk}"


class Heartbeat(models.Model):
    """That a cluster was there, by the database's clock (`compliance.work.heartbeats`). One row for each start."""

    id = models.UUIDField(primary_key=True, help_text="django-q2's id of the cluster: another one at each start.")
    name = models.CharField(
        max_length=100, help_text="As the owners of its claims begin: host, process, and what no other has."
    )
    version = models.CharField(max_length=32)
    workers = models.PositiveSmallIntegerField(help_text="Processes that carry out tasks.")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="When the process that guards its workers wrote last.")
    worked_at = models.DateTimeField(null=True, help_text="When one of its workers took up a task last.")
    stopped_at = models.DateTimeField(null=True, help_text="When it was asked to stop, and did.")

    died_at = models.DateTimeField(null=True, help_text="When another cluster found that its processes are gone.")
    pid_scope = models.CharField(
        max_length=100, default="", db_default="", help_text="Where numbers of processes mean the same."
    )
    pid = models.IntegerField(null=True, help_text="The process that guards its workers.")
    began = models.BigIntegerField(null=True, help_text="When that began, in ticks since the machine did.")

    # No index but the key: there are a handful of rows, and each beat renews one in place.

    def __str__(self) -> str:
        return f"cluster {self.name}"


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
