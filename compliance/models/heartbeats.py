"""Which clusters of workers are there: what each wrote of itself."""

from django.db import models


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
    stopped_at = models.DateTimeField(null=True, help_text="When it was told to stop, and did.")

    died_at = models.DateTimeField(null=True, help_text="When another cluster found that its processes are gone.")
    place = models.CharField(
        max_length=100, default="", db_default="", help_text="Where numbers of processes mean the same."
    )
    pid = models.IntegerField(null=True, help_text="The process that guards its workers.")
    began = models.BigIntegerField(null=True, help_text="When that began, in ticks since the machine did.")

    # No index but the key: there are a handful of rows, and each beat renews one in place.

    def __str__(self) -> str:
        return f"cluster {self.name}"
