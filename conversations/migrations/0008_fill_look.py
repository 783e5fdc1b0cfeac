"""Fill `look` of the identities that are stored, 5,000 rows at a time.

A run that was stopped goes on where it was: `migrate` again.
"""

from typing import Any

from django.db import migrations

from common.db import execute, fetch
from common.folding import look_hash

_ROWS = 5_000

_READ = """
SELECT id, chatbot_id, value FROM conversations_identity
 WHERE id > %s AND value IS NOT NULL AND look IS NULL
 ORDER BY id LIMIT %s
"""
_FILL = """
UPDATE conversations_identity AS mine SET look = new.look
  FROM unnest(%s::bigint[], %s::bigint[]) AS new(id, look)
 WHERE mine.chatbot_id = %s AND mine.id = new.id AND mine.id BETWEEN %s AND %s AND mine.value IS NOT NULL
"""


def _fill(_apps: Any, _schema_editor: Any) -> None:
    last = 0
    while rows := fetch(_READ, [last, _ROWS]):
        first, last = rows[0][0], rows[-1][0]
        looks: dict[int, dict[int, int]] = {}
        for number, chatbot, value in rows:
            looks.setdefault(chatbot, {})[number] = look_hash(value)
        # A statement for each chatbot, as Citus wants it.
        for chatbot, of_chatbot in looks.items():
            execute(_FILL, [list(of_chatbot), list(of_chatbot.values()), chatbot, first, last])


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("conversations", "0007_look")]

    operations = [migrations.RunPython(_fill, migrations.RunPython.noop, elidable=True)]
