"""An index of files whose object is still to be removed. Built while the table is in use; safe to run again."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("conversations", "0011_future_times")]

    operations = [
        AddIndexConcurrently(
            model_name="uploadedfile",
            index=models.Index(
                name="uploadedfile_removing", fields=["conversation"], condition=models.Q(state="removing")
            ),
        ),
    ]
