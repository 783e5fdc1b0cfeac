from typing import Any

from django.db import migrations, models
from django.db.models import Q

from conversations.placement import is_distributed

# So that no sample of it outlives the value, and plans do not depend on one. Citus refuses this of a distributed table.
_UNCOUNTED = "ALTER TABLE conversations_identity ALTER COLUMN look SET STATISTICS 0"


def _do_not_count(_apps: Any, schema_editor: Any) -> None:
    if not is_distributed():
        schema_editor.execute(_UNCOUNTED)


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0002_sql"), ("conversations", "0006_fold_names")]

    operations = [
        migrations.AddField(
            model_name="identity",
            name="look",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddConstraint(
            model_name="identity",
            constraint=models.CheckConstraint(
                condition=Q(value__isnull=False) | Q(look__isnull=True), name="identity_look_goes_with_value"
            ),
        ),
        migrations.RunPython(_do_not_count, migrations.RunPython.noop),
    ]
