from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models
from django.db.models.functions import Coalesce


class Migration(migrations.Migration):
    dependencies = [("compliance", "0004_former_buckets")]

    operations = [
        migrations.AddField(
            model_name="compliancerequest",
            name="message_digests",
            field=ArrayField(
                base_field=models.BinaryField(max_length=32),
                help_text=(
                    "Keyed digests of a redaction's messages: a deletion may erase them before its line is made."
                ),
                null=True,
                size=None,
            ),
        ),
        migrations.AddIndex(
            model_name="compliancerequest",
            index=models.Index(
                Coalesce("completed_at", "cancelled_at", "rejected_at", "failed_at"),
                name="request_messages_kept",
                condition=models.Q(message_digests__isnull=False),
            ),
        ),
    ]
