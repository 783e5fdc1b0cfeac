"""Conversations with times of the future from before intake refused these: they would never have been due.

Their retention period counts from this update. In batches, each in a transaction of its own; safe to run again.
"""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

_BATCH = 50_000

# By the index of open conversations.
_BOUND = """
WITH examined AS MATERIALIZED (
    SELECT id, started_at, last_message_at FROM conversations_conversation
     WHERE chatbot_id = %(chatbot)s AND deletion_request_id IS NULL AND started_at > '0001-01-01 00:00Z'
       AND id > %(after)s
     ORDER BY chatbot_id, id LIMIT %(most)s
), bound AS (
    UPDATE conversations_conversation c SET last_message_at = statement_timestamp()
      FROM examined
     WHERE c.id = examined.id AND c.chatbot_id = %(chatbot)s
       AND greatest(examined.started_at, examined.last_message_at) > statement_timestamp() + interval '1 day'
)
SELECT max(id) FROM examined
"""


def bound(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    with schema_editor.connection.cursor() as cursor:
        for chatbot_id in apps.get_model("chatbots", "Chatbot").objects.values_list("pk", flat=True):
            after: int | None = 0
            while after is not None:
                cursor.execute(_BOUND, {"chatbot": chatbot_id, "after": after, "most": _BATCH})
                [after] = cursor.fetchone()


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("conversations", "0010_tombstones")]

    operations = [migrations.RunPython(bound, migrations.RunPython.noop)]
