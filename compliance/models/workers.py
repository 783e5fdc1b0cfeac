"""Records of workers: their claims on requests, their heartbeats, and the last occurrences of events."""

from django.db import models
from django.db.models.functions import Now

from chatbots.models import Chatbot
from common.tables import Named


class Claim(Named):
    """The set of requests one worker has taken. The row is the fence: a worker that cannot lock it writes nothing.

    `expires_at` is compared with the database's clock only.
    """

    owner = models.CharField(max_length=100, help_text="Host, cluster and process: host:parent's pid:pid.")
    token = models.UUIDField(help_text="Fencing token, known only to the worker that took the claim.")
    is_large = models.BooleanField(
        default=False, help_text="Whether it is in the large lane and counts against its limit."
    )
    bucket_of = models.ForeignKey(
        Chatbot,
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        help_text="The chatbot whose own bucket the claim may call. Null: only the hosted bucket.",
    )
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        # No other index: there are a handful of rows, and one on a column that every renewal of a claim writes would
        # keep PostgreSQL from updating them in place.
        constraints = [models.UniqueConstraint(name="claim_one_per_bucket", fields=["bucket_of"])]


class Heartbeat(Named):
    """The last sign of a cluster, by the database's clock (`compliance.cluster.heartbeats`). One row per start."""

    id = models.UUIDField(primary_key=True)  # django-q2's id of the cluster, new at each start
    name = models.CharField(max_length=100)  # how the owners of its claims begin: host, process and a unique part
    version = models.CharField(max_length=32)
    workers = models.PositiveSmallIntegerField()  # processes that carry out tasks
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()  # when the guard process last reported
    worked_at = models.DateTimeField(null=True)  # when one of its workers last took a task
    stopped_at = models.DateTimeField(null=True)  # when it stopped in order

    died_at = models.DateTimeField(null=True)  # when another cluster found its processes dead
    # Identifies the machine or container, within which process ids are unique.
    pid_scope = models.CharField(max_length=100, default="", db_default="")
    pid = models.IntegerField(null=True)  # process id of the guard
    began = models.BigIntegerField(null=True)  # when the guard started, in clock ticks since the machine booted

    # No index but the key: there are a handful of rows, and each beat renews one in place.


class Occurrence(Named):
    """The last time of an event, by the database's clock, and their number. One row for each name."""

    class Name(models.TextChoices):
        SWEEP = "sweep", "The sweep ran"
        UNEXPECTED_TASK = "unexpected_task", "Something was in the queue's tables that the service does not put there"
        CLUSTER_RESTARTED = "restarted", "A cluster was started anew, since it lost a process"
        JOURNAL = "journal", "What was accepted or withdrawn was written to the ledger"
        LEDGER_MISSING = "ledger_missing", "Objects of the ledger were gone, and were written again"
        LEDGER_FOREIGN = "ledger_foreign", "The ledger had objects that this service did not write"
        DATABASE_REFUSED = "database_refused", "The database refused work for now"
        BUCKET_MISSING = "bucket_missing", "The hosted bucket was missing, or could not be written to"
        LEDGER_LOOK = "ledger_look", "The ledger was compared with the database"

    name = models.CharField(max_length=16, choices=Name, primary_key=True)
    asked_at = models.DateTimeField(null=True)  # when it was last requested, for jobs that are requested
    last_at = models.DateTimeField(null=True)
    times = models.PositiveBigIntegerField(default=0)

    # No index but the key, and each is renewed in place.
