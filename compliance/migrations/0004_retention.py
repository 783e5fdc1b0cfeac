"""Retention runs. Constraints on the requests are checked for what there is in 0005, without a lock that writers meet."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models
from django.db.models import Q

PERIODS = [(90, "3 months"), (180, "6 months"), (365, "12 months"), (730, "24 months"), (1095, "36 months")]


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0002_sql"), ("compliance", "0003_references_expire")]

    operations = [
        migrations.AddField(
            model_name="compliancerequest",
            name="slice",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.BigIntegerField(),
                help_text="The conversations that a retention run under way has closed and not verified yet.",
                null=True,
                size=None,
            ),
        ),
        migrations.AlterField(
            model_name="compliancerequest",
            name="kind",
            field=models.CharField(
                choices=[("deletion", "Deletion"), ("export", "Export"), ("retention", "Retention run")],
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="compliancerequest",
            name="origin",
            field=models.CharField(
                choices=[("api", "API"), ("console", "Console"), ("command", "Command"), ("schedule", "Schedule")],
                max_length=16,
            ),
        ),
        migrations.RemoveConstraint(model_name="compliancerequest", name="request_kind_known"),
        AddConstraintNotValid(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=Q(kind__in=["deletion", "export", "retention"]), name="request_kind_known"
            ),
        ),
        migrations.RemoveConstraint(model_name="compliancerequest", name="request_open_names_somebody"),
        AddConstraintNotValid(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=~Q(status__in=["accepted", "on_hold", "processing"])
                | Q(uci_value__isnull=False, uci_digest__isnull=False)
                | Q(conversation_digests__isnull=False)
                | Q(kind="retention"),
                name="request_open_names_somebody",
            ),
        ),
        AddConstraintNotValid(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=~Q(kind="retention") | Q(variable__isnull=True, conversation_digests__isnull=True),
                name="request_retention_names_nobody",
            ),
        ),
        migrations.CreateModel(
            name="RetentionRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "chatbot",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="retention_runs",
                        to="chatbots.chatbot",
                    ),
                ),
                ("day", models.DateField(help_text="The day of the run in the chatbot's time zone.")),
                (
                    "request",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="retention_run",
                        to="compliance.compliancerequest",
                    ),
                ),
                ("retention_days", models.PositiveSmallIntegerField(choices=PERIODS)),
                (
                    "older_than",
                    models.DateTimeField(help_text="Conversations whose last message is older are due."),
                ),
                (
                    "announced",
                    models.PositiveIntegerField(
                        help_text="Of a first run: the number of conversations that was shown and confirmed.",
                        null=True,
                    ),
                ),
                (
                    "previous_days",
                    models.PositiveSmallIntegerField(
                        choices=PERIODS, help_text="Of a first run: the period before, if there was one.", null=True
                    ),
                ),
                (
                    "examined_number",
                    models.BigIntegerField(
                        default=0,
                        help_text="Conversations up to this number are either closed by this run or were not due.",
                    ),
                ),
                (
                    "left_out",
                    models.PositiveIntegerField(
                        default=0, help_text="Conversations that were due and kept for an export that names them."
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["chatbot", "-day", "-id"], name="retentionrun_of_chatbot")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=Q(announced__isnull=True),
                        fields=["chatbot", "day"],
                        name="retentionrun_once_a_day",
                    ),
                    models.CheckConstraint(
                        condition=Q(retention_days__in=[90, 180, 365, 730, 1095]), name="retentionrun_days_offered"
                    ),
                    models.CheckConstraint(
                        condition=Q(request__isnull=False) | Q(announced__isnull=True, previous_days__isnull=True),
                        name="retentionrun_first_has_request",
                    ),
                ],
            },
        ),
    ]
