"""No worker writes a mail meanwhile, so all leases are over."""

from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [
        ("compliance", "0024_chatbots_uncounted"),
    ]

    operations = [
        migrations.RemoveField(model_name="mailbox", name="claimed_until"),
        migrations.RenameField(model_name="mailbox", old_name="next_at", new_name="next_attempt_at"),
        migrations.AlterField(
            model_name="mailbox",
            name="next_attempt_at",
            field=models.DateTimeField(
                db_default=Now(), help_text="When a worker may take it; while one holds it, when another may."
            ),
        ),
        migrations.AlterField(
            model_name="mailbox",
            name="token",
            field=models.UUIDField(help_text="Fencing token of the worker that holds the row.", null=True),
        ),
    ]
