"""A key's limit of calls a minute, and the count of its present minute, in a table that waits for no disk."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0004_client_buckets")]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="rate_limit",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Calls a minute; empty for as many as RATE_LIMIT_PER_MINUTE says.",
                null=True,
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("rate_limit__isnull", True), ("rate_limit__range", (1, 1000000)), _connector="OR"
                ),
                name="apikey_rate_limit_in_range",
                violation_error_message="The rate limit is a number of calls a minute from 1 to 1,000,000.",
            ),
        ),
        migrations.CreateModel(
            name="RateLimitWindow",
            fields=[
                (
                    "api_key",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="chatbots.apikey",
                    ),
                ),
                (
                    "chatbot",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="chatbots.chatbot",
                    ),
                ),
                ("began_at", models.DateTimeField()),
                (
                    "taken",
                    models.BigIntegerField(help_text="Permits asked for; above the limit once it is reached."),
                ),
            ],
        ),
        migrations.RunSQL(
            # Room on the page for the next count of the same key.
            "ALTER TABLE chatbots_ratelimitwindow SET UNLOGGED, SET (fillfactor = 50);",
            migrations.RunSQL.noop,
        ),
    ]
