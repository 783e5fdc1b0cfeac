"""Redactions. Constraints on the requests are checked for what there is in 0007, without a lock that writers meet."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0002_sql"),
        ("compliance", "0005_validate_retention"),
    ]

    operations = [
        migrations.CreateModel(
            name="Redaction",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "conversation_id",
                    models.BigIntegerField(help_text="The conversation's number; no database constraint."),
                ),
                (
                    "message_numbers",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(),
                        help_text="The messages' numbers, 1 to 100; no database constraint.",
                        size=None,
                    ),
                ),
                (
                    "reason",
                    models.CharField(
                        choices=[
                            ("payment_data", "Payment data, such as a card number"),
                            ("credentials", "A password or another secret"),
                            ("identity_document", "An identity document, or its number"),
                            ("sensitive_data", "Health data, or other sensitive data"),
                            ("other_person", "Data of another person"),
                            ("other", "Another reason"),
                        ],
                        max_length=24,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="RepeatedExport",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="compliancerequest",
            name="request_cutoff_is_whole",
        ),
        migrations.RemoveConstraint(
            model_name="compliancerequest",
            name="request_kind_known",
        ),
        migrations.RemoveConstraint(
            model_name="compliancerequest",
            name="request_open_names_somebody",
        ),
        migrations.AlterField(
            model_name="compliancerequest",
            name="cutoff_at",
            field=models.DateTimeField(
                help_text="When a deletion marked, a redaction emptied its messages, or an export read its snapshot.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="compliancerequest",
            name="kind",
            field=models.CharField(
                choices=[
                    ("deletion", "Deletion"),
                    ("export", "Export"),
                    ("retention", "Retention run"),
                    ("redaction", "Redaction"),
                ],
                max_length=16,
            ),
        ),
        AddConstraintNotValid(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", ["deletion", "export", "retention", "redaction"])),
                name="request_kind_known",
            ),
        ),
        AddConstraintNotValid(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("kind__in", ["export", "redaction"]),
                    models.Q(("cutoff_at__isnull", True), ("cutoff_number__isnull", True)),
                    models.Q(("cutoff_at__isnull", False), ("cutoff_number__isnull", False)),
                    _connector="OR",
                ),
                name="request_cutoff_is_whole",
            ),
        ),
        AddConstraintNotValid(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "redaction"), _negated=True),
                    models.Q(("conversation_digests__isnull", True), ("variable__isnull", True)),
                    _connector="OR",
                ),
                name="request_redaction_names_nobody",
            ),
        ),
        AddConstraintNotValid(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("status__in", ["accepted", "on_hold", "processing"]), _negated=True),
                    models.Q(("uci_digest__isnull", False), ("uci_value__isnull", False)),
                    ("conversation_digests__isnull", False),
                    ("kind__in", ["retention", "redaction"]),
                    _connector="OR",
                ),
                name="request_open_names_somebody",
            ),
        ),
        migrations.AddField(
            model_name="redaction",
            name="chatbot",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="chatbots.chatbot"
            ),
        ),
        migrations.AddField(
            model_name="redaction",
            name="request",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="redaction",
                to="compliance.compliancerequest",
            ),
        ),
        migrations.AddField(
            model_name="repeatedexport",
            name="chatbot",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="chatbots.chatbot"
            ),
        ),
        migrations.AddField(
            model_name="repeatedexport",
            name="redaction",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="removed_exports",
                to="compliance.compliancerequest",
            ),
        ),
        migrations.AddField(
            model_name="repeatedexport",
            name="removed",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="repeated_by",
                to="compliance.compliancerequest",
            ),
        ),
        migrations.AddField(
            model_name="repeatedexport",
            name="repeat",
            field=models.OneToOneField(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="repeats",
                to="compliance.compliancerequest",
            ),
        ),
        migrations.AddIndex(
            model_name="redaction",
            index=models.Index(fields=["conversation_id"], name="redaction_conversation"),
        ),
        migrations.AddConstraint(
            model_name="redaction",
            constraint=models.CheckConstraint(
                condition=models.Q(("message_numbers__len__range", (1, 100))), name="redaction_names_some_messages"
            ),
        ),
        migrations.AddConstraint(
            model_name="redaction",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "reason__in",
                        [
                            "payment_data",
                            "credentials",
                            "identity_document",
                            "sensitive_data",
                            "other_person",
                            "other",
                        ],
                    )
                ),
                name="redaction_reason_known",
            ),
        ),
        migrations.AddIndex(
            model_name="repeatedexport",
            index=models.Index(fields=["redaction"], name="repeatedexport_redaction"),
        ),
    ]
