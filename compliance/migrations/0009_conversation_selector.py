"""Requests by conversation: the digests of the ids that a request names instead of a chatter."""

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions.comparison
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("compliance", "0008_request_lists")]

    operations = [
        migrations.RemoveConstraint(
            model_name="compliancerequest",
            name="request_open_names_chatter",
        ),
        migrations.AddField(
            model_name="compliancerequest",
            name="conversation_digests",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.BinaryField(max_length=32),
                help_text="As Conversation.external_id_digest; 1 to 100.",
                null=True,
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="compliancerequest",
            name="pending_export_id",
            field=models.UUIDField(
                help_text="The export by another selector that a deletion was last held for.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="compliancerequest",
            name="variable",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="chatbots.variable",
            ),
        ),
        migrations.AddIndex(
            model_name="compliancerequest",
            index=django.contrib.postgres.indexes.GinIndex(
                condition=models.Q(("conversation_digests__isnull", False)),
                fastupdate=False,
                fields=["conversation_digests"],
                name="request_of_conversations",
            ),
        ),
        migrations.AddIndex(
            model_name="compliancerequest",
            index=models.Index(
                condition=models.Q(
                    ("conversation_digests__isnull", False),
                    ("status__in", ["accepted", "on_hold", "processing", "failed"]),
                ),
                fields=["chatbot", "seq"],
                name="request_by_ids_open",
            ),
        ),
        migrations.AddIndex(
            model_name="compliancerequest",
            index=models.Index(
                django.db.models.functions.comparison.Coalesce(
                    "completed_at", "cancelled_at", "rejected_at", "failed_at"
                ),
                condition=models.Q(("chatbot__gt", 0), ("conversation_digests__isnull", False)),
                name="request_by_ids_kept",
            ),
        ),
        migrations.AddConstraint(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("conversation_digests__isnull", True), ("variable__isnull", False)),
                    models.Q(("uci_digest__isnull", True), ("uci_value__isnull", True), ("variable__isnull", True)),
                    _connector="OR",
                ),
                name="request_has_one_selector",
            ),
        ),
        migrations.AddConstraint(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("status__in", ["accepted", "on_hold", "processing"]), _negated=True),
                    models.Q(("uci_digest__isnull", False), ("uci_value__isnull", False)),
                    ("conversation_digests__isnull", False),
                    _connector="OR",
                ),
                name="request_open_names_somebody",
            ),
        ),
        migrations.AddConstraint(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("conversation_digests__isnull", True),
                    ("conversation_digests__len__range", (1, 100)),
                    _connector="OR",
                ),
                name="request_names_some_conversations",
            ),
        ),
    ]
