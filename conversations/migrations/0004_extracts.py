"""Daily extracts, and the index by which a day's messages are found."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0004_client_buckets"),
        ("conversations", "0003_storage"),
    ]

    operations = [
        migrations.CreateModel(
            name="DailyExtract",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("day", models.DateField()),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField(help_text="The first instant that is no longer of the day.")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "To be made"),
                            ("done", "Done"),
                            ("stale", "To be made again"),
                            ("failed", "Failed"),
                            ("expired", "Expired"),
                        ],
                        default="pending",
                        max_length=8,
                    ),
                ),
                (
                    "version",
                    models.PositiveIntegerField(
                        default=1,
                        help_text="Goes up with each erasure or late message: what was read before no longer holds.",
                    ),
                ),
                (
                    "made_version",
                    models.PositiveIntegerField(help_text="The version that the file was read at.", null=True),
                ),
                (
                    "hosting",
                    models.CharField(default="hosted", help_text="Where the file lies, as in Bucket.", max_length=8),
                ),
                (
                    "bucket",
                    models.CharField(
                        blank=True, default="", help_text="The name of a client's bucket.", max_length=63
                    ),
                ),
                (
                    "key",
                    models.CharField(
                        help_text="In the bucket; null once the object is gone.", max_length=1024, null=True
                    ),
                ),
                (
                    "upload_id",
                    models.CharField(help_text="Of the multipart upload, while open.", max_length=1024, null=True),
                ),
                ("rows", models.BigIntegerField(null=True)),
                ("bytes", models.BigIntegerField(null=True)),
                ("sha256", models.CharField(help_text="Lower-case hex.", max_length=64, null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField(null=True)),
                ("stale_at", models.DateTimeField(help_text="Since when it has to be made again.", null=True)),
                ("token", models.UUIDField(help_text="Fencing token of the worker that makes it.", null=True)),
                ("claimed_until", models.DateTimeField(help_text="By the database's clock.", null=True)),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                (
                    "not_before",
                    models.DateTimeField(help_text="Not tried earlier: back-off after an error.", null=True),
                ),
                ("error_code", models.CharField(blank=True, default="", max_length=64)),
                (
                    "error_detail",
                    models.CharField(
                        blank=True, default="", help_text="Ours, never a library's text.", max_length=500
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
        ),
        migrations.CreateModel(
            name="ExtractErasure",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("request_id", models.UUIDField()),
                ("version", models.PositiveIntegerField()),
            ],
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(fields=["chatbot", "sent_at"], name="message_of_day"),
        ),
        migrations.AddField(
            model_name="dailyextract",
            name="chatbot",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="chatbots.chatbot"
            ),
        ),
        migrations.AddField(
            model_name="extracterasure",
            name="chatbot",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="chatbots.chatbot"
            ),
        ),
        migrations.AddField(
            model_name="extracterasure",
            name="extract",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="erasures",
                to="conversations.dailyextract",
            ),
        ),
        migrations.AddIndex(
            model_name="dailyextract",
            index=models.Index(
                condition=models.Q(("state__in", ["pending", "stale"])), fields=["id"], name="dailyextract_due"
            ),
        ),
        migrations.AddIndex(
            model_name="dailyextract",
            index=models.Index(
                condition=models.Q(("key__isnull", False)), fields=["expires_at"], name="dailyextract_expiry"
            ),
        ),
        migrations.AddConstraint(
            model_name="dailyextract",
            constraint=models.UniqueConstraint(fields=("chatbot", "day"), name="dailyextract_once_per_day"),
        ),
        migrations.AddConstraint(
            model_name="dailyextract",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["pending", "done", "stale", "failed", "expired"])),
                name="dailyextract_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="dailyextract",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "done"), _negated=True),
                    models.Q(
                        ("bytes__isnull", False),
                        ("finished_at__isnull", False),
                        ("key__isnull", False),
                        ("made_version", models.F("version")),
                        ("rows__isnull", False),
                        ("sha256__isnull", False),
                        ("upload_id__isnull", True),
                    ),
                    _connector="OR",
                ),
                name="dailyextract_done_is_whole",
            ),
        ),
        migrations.AddConstraint(
            model_name="dailyextract",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "failed"), _negated=True),
                    models.Q(("error_code", ""), _negated=True),
                    _connector="OR",
                ),
                name="dailyextract_failed_has_error",
            ),
        ),
        migrations.AddConstraint(
            model_name="dailyextract",
            constraint=models.CheckConstraint(
                condition=models.Q(("starts_at__lt", models.F("ends_at"))), name="dailyextract_day_has_length"
            ),
        ),
        migrations.AddIndex(
            model_name="extracterasure",
            index=models.Index(fields=["extract"], name="extracterasure_extract"),
        ),
        migrations.AddConstraint(
            model_name="extracterasure",
            constraint=models.UniqueConstraint(fields=("request_id", "extract"), name="extracterasure_once"),
        ),
    ]
