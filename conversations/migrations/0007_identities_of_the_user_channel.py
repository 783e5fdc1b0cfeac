"""What came through the user channel before 0006, in batches, each in a transaction of its own.

The table can be large and is written to meanwhile. Safe to run again after it was interrupted.
"""

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

_BATCH = 10_000

# By the index on (chatbot_id, variable_id, digest): each batch begins where the one before has ended, and does not read
# again what that has updated.
_UPDATE = """
UPDATE conversations_identity SET established_by = 'user_channel'
 WHERE id = ANY(ARRAY(SELECT id FROM conversations_identity
                       WHERE chatbot_id = %s AND variable_id = %s AND variable_id > 0 AND digest >= %s
                         AND established_by = 'custom' ORDER BY digest LIMIT %s))
RETURNING digest
"""


def update(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    variables = apps.get_model("chatbots", "Variable").objects.filter(category="user_channel")
    with schema_editor.connection.cursor() as cursor:
        for chatbot_id, variable_id in variables.values_list("chatbot_id", "pk"):
            updated = [b""]
            while updated:
                cursor.execute(_UPDATE, [chatbot_id, variable_id, max(updated), _BATCH])
                updated = [bytes(digest) for (digest,) in cursor]


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("conversations", "0006_identity_established_by")]

    operations = [
        migrations.RunPython(update, migrations.RunPython.noop),
        ValidateConstraint(model_name="identity", name="identity_established_by_known"),
    ]
