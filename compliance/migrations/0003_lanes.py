"""A request's lane takes the place of `alone`, the line is in the order in which requests may be taken, and one
index serves all questions about one chatter's requests."""

import django.db.models.functions.comparison
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0002_guards"), ("compliance", "0002_composite_keys")]

    operations = [
        migrations.AddField(
            model_name="claim",
            name="is_large",
            field=models.BooleanField(default=False, help_text="Of the large lane: counts against its limit."),
        ),
        migrations.AlterField(
            model_name="claim",
            name="owner",
            field=models.CharField(help_text="Host, cluster and process: host:parent's pid:pid.", max_length=100),
        ),
        migrations.AddField(
            model_name="compliancerequest",
            name="lane",
            field=models.CharField(
                choices=[
                    ("normal", "Normal"),
                    ("alone", "Alone: its last claim failed or expired"),
                    ("large", "Large: it would hold up the others of a claim"),
                ],
                default="normal",
                max_length=8,
            ),
        ),
        migrations.RunSQL(
            "UPDATE compliance_compliancerequest SET lane = 'alone' WHERE alone;",
            "UPDATE compliance_compliancerequest SET alone = TRUE WHERE lane <> 'normal';",
        ),
        migrations.RemoveIndex(model_name="compliancerequest", name="request_waiting"),
        migrations.RemoveField(model_name="compliancerequest", name="alone"),
        migrations.AddIndex(
            model_name="compliancerequest",
            index=models.Index(
                models.F("kind"),
                models.F("lane"),
                models.F("chatbot"),
                django.db.models.functions.comparison.Coalesce("not_before", "queued_at"),
                models.F("seq"),
                condition=models.Q(("claim__isnull", True), ("status", "accepted")),
                name="request_line",
            ),
        ),
        migrations.RemoveIndex(model_name="compliancerequest", name="request_chatter"),
        migrations.RemoveIndex(model_name="compliancerequest", name="request_export_owed"),
        migrations.AddIndex(
            model_name="compliancerequest",
            index=models.Index(fields=["variable", "uci_digest", "status", "seq"], name="request_of_chatter"),
        ),
        migrations.AddConstraint(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(("lane__in", ["normal", "alone", "large"])), name="request_lane_known"
            ),
        ),
    ]
