"""Indexes of values that have to go by age; addresses of callbacks that were given up before this update are emptied.

The indexes are built while the tables are in use. Safe to run again.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

_BATCH = 10_000

_GIVEN_UP = """
WITH over AS (
    SELECT id, request_id, status FROM compliance_callback
     WHERE state = 'given_up' AND url <> '' ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
), emptied AS (
    UPDATE compliance_callback c SET url = '' FROM over WHERE c.id = over.id
)
UPDATE compliance_compliancerequest r SET callback_url = ''
  FROM over WHERE r.id = over.request_id AND over.status IN ('completed', 'rejected', 'cancelled')
"""


def empty(_apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    with schema_editor.connection.cursor() as cursor:
        left = True
        while left:
            cursor.execute(_GIVEN_UP, [_BATCH])
            cursor.execute("SELECT EXISTS (SELECT FROM compliance_callback WHERE state = 'given_up' AND url <> '')")
            [left] = cursor.fetchone()


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("compliance", "0017_repeats_in_place")]

    operations = [
        migrations.AlterField(
            model_name="export",
            name="key",
            field=models.CharField(
                help_text="Object key; null once the object is removed, or was delivered ERASURE_LEDGER_DAYS ago.",
                max_length=1024,
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="callback",
            name="url",
            field=models.CharField(
                blank=True, default="", help_text="Emptied once delivered or given up.", max_length=500
            ),
        ),
        migrations.AlterField(
            model_name="compliancerequest",
            name="callback_url",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Emptied once a final state was delivered there or given up.",
                max_length=500,
            ),
        ),
        AddIndexConcurrently(
            model_name="compliancerequest",
            index=models.Index(
                name="request_failed_exports",
                fields=["failed_at"],
                condition=models.Q(kind="export", status="failed", uci_value__isnull=False),
            ),
        ),
        AddIndexConcurrently(
            model_name="export",
            index=models.Index(
                name="export_key_kept",
                fields=["finished_at"],
                condition=models.Q(hosting="client", key__isnull=False),
            ),
        ),
        migrations.RunPython(empty, migrations.RunPython.noop),
    ]
