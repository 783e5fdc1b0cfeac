"""Redacted messages. The constraints are checked for what there is in 0005, without a lock that writers meet."""

from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("conversations", "0003_open_conversations"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="message",
            name="message_kind_known",
        ),
        migrations.AlterField(
            model_name="message",
            name="kind",
            field=models.CharField(
                choices=[
                    ("text", "Text"),
                    ("quick_reply", "Quick reply"),
                    ("push", "Push"),
                    ("file", "File"),
                    ("event", "Event"),
                    ("redacted", "Redacted"),
                ],
                max_length=16,
            ),
        ),
        AddConstraintNotValid(
            model_name="message",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", ["text", "quick_reply", "push", "file", "event", "redacted"])),
                name="message_kind_known",
            ),
        ),
        AddConstraintNotValid(
            model_name="message",
            constraint=models.CheckConstraint(
                condition=models.Q(models.Q(("kind", "redacted"), _negated=True), ("text", ""), _connector="OR"),
                name="message_redacted_holds_nothing",
            ),
        ),
        migrations.AlterField(
            model_name="uploadedfile",
            name="state",
            field=models.CharField(
                choices=[("uploading", "Uploading"), ("stored", "Stored"), ("removing", "Being removed")],
                default="uploading",
                max_length=16,
            ),
        ),
        migrations.RemoveConstraint(model_name="uploadedfile", name="uploadedfile_state_fits"),
        AddConstraintNotValid(
            model_name="uploadedfile",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("state__in", ["uploading", "removing"]),
                    models.Q(("sha256__isnull", False), ("size__isnull", False), ("state", "stored")),
                    _connector="OR",
                ),
                name="uploadedfile_state_fits",
            ),
        ),
    ]
