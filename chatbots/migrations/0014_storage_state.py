"""What all processes know of a storage: that it does not answer, and what a check of a bucket has found."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0013_logins")]

    operations = [
        migrations.CreateModel(
            name="SilentStorage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "since",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was first found not to answer.",
                    ),
                ),
                ("rests_until", models.DateTimeField(help_text="No worker calls it before.", null=True)),
                (
                    "chatbot",
                    models.ForeignKey(
                        db_index=False,
                        help_text="Whose bucket it is; null for the operator's.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="chatbots.chatbot",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("chatbot",), name="silentstorage_once", nulls_distinct=False)
                ],
            },
        ),
        migrations.CreateModel(
            name="BucketCheck",
            fields=[
                (
                    "chatbot",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="chatbots.chatbot",
                    ),
                ),
                (
                    "token",
                    models.UUIDField(help_text="Of this asking: what a former one found is not written."),
                ),
                ("asked_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "claimed_until",
                    models.DateTimeField(help_text="A worker is at it; by the database's clock.", null=True),
                ),
                ("finished_at", models.DateTimeField(null=True)),
                ("steps", models.JSONField(default=list)),
                (
                    "error",
                    models.CharField(blank=True, default="", help_text="Code and detail, ours.", max_length=500),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("finished_at__isnull", True)),
                        fields=["asked_at"],
                        name="bucketcheck_open",
                    )
                ],
            },
        ),
    ]
