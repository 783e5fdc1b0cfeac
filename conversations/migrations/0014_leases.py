"""No worker builds an extract meanwhile, so all leases are over: what was taken costs no attempt."""

from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [
        ("conversations", "0013_lookups_in_doubt"),
    ]

    operations = [
        migrations.RunSQL(
            "UPDATE conversations_dailyextract SET token = NULL WHERE token IS NOT NULL", migrations.RunSQL.noop
        ),
        migrations.RemoveField(model_name="dailyextract", name="claimed_until"),
        migrations.RenameField(model_name="dailyextract", old_name="not_before", new_name="next_attempt_at"),
        migrations.AlterField(
            model_name="dailyextract",
            name="next_attempt_at",
            field=models.DateTimeField(
                db_default=Now(), help_text="When a worker may take it; while one holds it, when another may."
            ),
        ),
        *(
            migrations.AlterField(
                model_name=model,
                name="token",
                field=models.UUIDField(help_text="Fencing token of the worker that holds the row.", null=True),
            )
            for model in ("dailyextract", "identitylookup")
        ),
    ]
