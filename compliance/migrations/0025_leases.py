"""No worker runs meanwhile, so all leases are over."""

from django.db import migrations, models
from django.db.models.functions import Now

_DUE = "When a worker may take it; while one holds it, when another may."
_HELD = "Fencing token of the worker that holds the row."


class Migration(migrations.Migration):
    dependencies = [
        ("compliance", "0024_chatbots_uncounted"),
    ]

    operations = [
        *(
            operation
            for model in ("mailbox", "canaryturn")
            for operation in (
                migrations.RemoveField(model_name=model, name="claimed_until"),
                migrations.RenameField(model_name=model, old_name="next_at", new_name="next_attempt_at"),
                migrations.AlterField(
                    model_name=model,
                    name="next_attempt_at",
                    field=models.DateTimeField(db_default=Now(), help_text=_DUE),
                ),
            )
        ),
        *(
            migrations.AlterField(model_name=model, name="token", field=models.UUIDField(help_text=_HELD, null=True))
            for model in ("mailbox", "canaryturn", "callback")
        ),
    ]
