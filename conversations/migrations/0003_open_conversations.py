"""An index for retention runs. Made concurrently: intake writes to this table all the time."""

from datetime import UTC, datetime

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("conversations", "0002_sql")]

    operations = [
        AddIndexConcurrently(
            model_name="conversation",
            index=models.Index(
                condition=Q(deletion_request_id__isnull=True, started_at__gt=datetime(1, 1, 1, tzinfo=UTC)),
                fields=["chatbot", "id"],
                name="conversation_open",
            ),
        ),
    ]
