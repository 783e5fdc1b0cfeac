import django.contrib.postgres.fields
import django.utils.timezone
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0008_export_assurance"),
        ("compliance", "0010_mended_to"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="compliancerequest",
            name="request_open_names_somebody",
        ),
        migrations.AddField(
            model_name="ledgerline",
            name="at",
            field=models.DateTimeField(default=django.utils.timezone.now, help_text="The time in its key."),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="ledgerline",
            name="conversations",
            field=models.PositiveIntegerField(default=0, help_text="How many they are."),
        ),
        migrations.AddField(
            model_name="ledgerline",
            name="incarnation",
            field=models.UUIDField(
                default="00000000-0000-0000-0000-000000000000",
                help_text="The life of the database that ends with this replay.",
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="ledgerline",
            name="key",
            field=models.CharField(
                default="", help_text="The object that the line is from: the latest that has one.", max_length=120
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="ledgerline",
            name="numbers",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.BigIntegerField(),
                help_text="The conversations that it is about here.",
                null=True,
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="ledgerline",
            name="plan",
            field=models.CharField(
                blank=True,
                choices=[
                    ("erase", "Erase again"),
                    ("late", "Erase again what came late"),
                    ("record", "Record again: nothing of it is here"),
                    ("redact", "Redact again"),
                    ("run", "Erase by age again"),
                    ("file", "File again"),
                    ("hold", "File again, on hold"),
                    ("complete", "File again and complete: nobody is found"),
                    ("withdraw", "Withdraw again"),
                    ("leave", "Nothing to do"),
                    ("end_export", "Cancel: whom it would export is erased again"),
                    ("lost_export", "Name as lost"),
                    ("unknown_chatbot", "Name: the chatbot is not in this database"),
                    ("unknown_variable", "Name: the variable is not in this database"),
                    ("conflict", "Name: this database says otherwise"),
                ],
                default="",
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="ledgerline",
            name="outcome",
            field=models.CharField(
                blank=True,
                choices=[
                    ("filed", "Under way"),
                    ("erased", "Erased again"),
                    ("nothing_found", "Nothing was left to erase"),
                    ("filed_again", "Filed again"),
                    ("on_hold", "Filed again, on hold"),
                    ("withdrawn", "Withdrawn"),
                    ("unchanged", "Left as it is"),
                    ("left", "Left to the workers"),
                    ("lost_export", "A lost export"),
                    ("unknown_chatbot", "The chatbot is not in this database"),
                    ("unknown_variable", "The variable is not in this database"),
                    ("failed", "Could not be carried out"),
                ],
                default="",
                max_length=16,
            ),
        ),
        migrations.AddIndex(
            model_name="ledgerline",
            index=models.Index(fields=["at"], name="ledgerline_at"),
        ),
        AddConstraintNotValid(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("status__in", ["accepted", "on_hold", "processing"]), _negated=True),
                    models.Q(("uci_digest__isnull", False), ("uci_value__isnull", False)),
                    ("conversation_digests__isnull", False),
                    ("kind__in", ["retention", "redaction"]),
                    models.Q(("origin", "replay"), ("uci_digest__isnull", False)),
                    _connector="OR",
                ),
                name="request_open_names_somebody",
            ),
        ),
    ]
