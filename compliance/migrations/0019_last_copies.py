"""Whether an export can be made again. Those that a deletion has met before this update are known by their expiry."""

from django.conf import settings
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps
from django.db.models import F


def note(apps: StateApps, _schema_editor: BaseDatabaseSchemaEditor) -> None:
    exports = apps.get_model("compliance", "Export").objects.filter(hosting="hosted", key__isnull=False)
    met = exports.filter(expires_at__lte=F("finished_at") + settings.EXPORT_GRACE_DAYS)
    met.update(last_copy_since=F("finished_at"))


class Migration(migrations.Migration):
    dependencies = [("compliance", "0018_addresses_and_keys")]

    operations = [
        migrations.AddField(
            model_name="export",
            name="last_copy_since",
            field=models.DateTimeField(
                help_text="Since when a finished, hosted one holds a conversation that was closed: it cannot be made "
                "again.",
                null=True,
            ),
        ),
        migrations.RunPython(note, migrations.RunPython.noop),
    ]
