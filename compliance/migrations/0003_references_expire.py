"""References are emptied by age: the sweep finds by an index those that are due.

Made concurrently: requests are filed all the time.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models.functions import Coalesce


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("compliance", "0002_sql")]

    operations = [
        migrations.AlterField(
            model_name="compliancerequest",
            name="reference",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Emptied ERASURE_LEDGER_DAYS after the request ended.",
                max_length=64,
            ),
        ),
        AddIndexConcurrently(
            model_name="compliancerequest",
            index=models.Index(
                Coalesce("completed_at", "cancelled_at", "rejected_at", "failed_at"),
                condition=models.Q(
                    models.Q(("reference", ""), _negated=True),
                    models.Q(
                        ("completed_at__isnull", False),
                        ("cancelled_at__isnull", False),
                        ("rejected_at__isnull", False),
                        models.Q(("conversation_digests__isnull", True), ("uci_digest__isnull", True)),
                        _connector="OR",
                    ),
                ),
                name="request_reference_kept",
            ),
        ),
    ]
