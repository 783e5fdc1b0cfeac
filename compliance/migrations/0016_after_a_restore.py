from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0010_after_a_restore"),
        ("compliance", "0015_ledger_look"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="retentionrun",
            name="retentionrun_once_a_day",
        ),
        migrations.AddField(
            model_name="retentionrun",
            name="is_replayed",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="A replay has filed it, maybe beside a run of the same day.",
            ),
        ),
        migrations.AddField(
            model_name="service",
            name="reads_since",
            field=models.DateTimeField(
                help_text="A replay reads all objects since then, also those that this database knows.", null=True
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
                    ("lost_redaction", "A lost redaction"),
                    ("unknown_chatbot", "The chatbot is not in this database"),
                    ("undecided", "To be decided: its chatbot is closed until then"),
                    ("decided", "Left as it is by an operator"),
                    ("failed", "Could not be carried out"),
                ],
                default="",
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="ledgerline",
            name="plan",
            field=models.CharField(
                blank=True,
                choices=[
                    ("erase", "Erase again"),
                    ("late", "Erase again what came late"),
                    ("record", "Record again: nothing of it is here"),
                    ("redact", "Redact again"),
                    ("run", "Erase again what was due"),
                    ("file", "File again"),
                    ("hold", "File again, on hold"),
                    ("complete", "File again and complete: nobody is found"),
                    ("withdraw", "Withdraw again"),
                    ("leave", "Nothing to do"),
                    ("end_export", "Cancel: whom it would export is erased again"),
                    ("lost_export", "Name as lost"),
                    ("remember", "Redact what is sent again: the messages are not here"),
                    ("lost_redaction", "Name: the messages are not here, and nobody has approved it"),
                    ("unknown_chatbot", "Name: the chatbot is not in this database"),
                    ("unknown_variable", "Decide: the variable is not in this database"),
                    ("conflict", "Decide: this database says otherwise"),
                    ("unfiled", "Decide: it cannot be filed"),
                ],
                default="",
                max_length=16,
            ),
        ),
        migrations.AddIndex(
            model_name="ledgerline",
            index=models.Index(
                condition=models.Q(("outcome", "undecided")), fields=["chatbot"], name="ledgerline_undecided"
            ),
        ),
        migrations.AddConstraint(
            model_name="retentionrun",
            constraint=models.UniqueConstraint(
                condition=models.Q(("announced__isnull", True), ("is_replayed", False)),
                fields=("chatbot", "day"),
                name="retentionrun_once_a_day",
            ),
        ),
    ]
