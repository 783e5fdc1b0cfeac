"""A check that was taken is taken again at once: no worker runs meanwhile."""

from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0010_after_a_restore"),
    ]

    operations = [
        migrations.RemoveField(model_name="bucketcheck", name="claimed_until"),
        migrations.AddField(
            model_name="bucketcheck",
            name="next_attempt_at",
            field=models.DateTimeField(
                db_default=Now(), help_text="When a worker may take it; while one holds it, when another may."
            ),
        ),
        migrations.AlterField(
            model_name="bucketcheck",
            name="token",
            field=models.UUIDField(help_text="Fencing token of the worker that holds the row.", null=True),
        ),
        migrations.RunSQL(
            migrations.RunSQL.noop, "UPDATE chatbots_bucketcheck SET token = gen_random_uuid() WHERE token IS NULL"
        ),
    ]
