"""No worker has a turn meanwhile, so the one that runs is free."""

from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [
        ("compliance", "0025_mailboxes_are_leases"),
    ]

    operations = [
        migrations.RemoveField(model_name="canaryturn", name="claimed_until"),
        migrations.RenameField(model_name="canaryturn", old_name="next_at", new_name="next_attempt_at"),
        migrations.AlterField(
            model_name="canaryturn",
            name="next_attempt_at",
            field=models.DateTimeField(
                db_default=Now(), help_text="When a worker may take it; while one holds it, when another may."
            ),
        ),
        migrations.AlterField(
            model_name="canaryturn",
            name="token",
            field=models.UUIDField(help_text="Fencing token of the worker that holds the row.", null=True),
        ),
    ]
