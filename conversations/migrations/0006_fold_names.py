"""The words of the names that are stored.

In chunks, each in a transaction of its own that locks its conversations, so that none is erased, and no name changed,
between reading and writing. After a kill, `migrate` begins anew and leaves out what has words already. Marked and
erased conversations get none: their names are not searched. Each statement names one chatbot, as Citus wants it.
"""

from typing import Any

from django.db import migrations, transaction

from common.folding import words

CHUNK = 2_000

# So that PostgreSQL reads a chunk in the order of an index, and does not sort all of a chatbot's conversations for it.
BY_INDEX = "SET LOCAL enable_sort TO off; SET LOCAL enable_bitmapscan TO off; SET LOCAL enable_seqscan TO off"
# The condition on the start, always true, is that of the index `conversation_open`.
READ = """
SELECT id, user_name FROM conversations_conversation
 WHERE chatbot_id = %s AND id > %s AND deletion_request_id IS NULL AND user_name IS NOT NULL
   AND started_at > '0001-01-01 00:00:00+00'
 ORDER BY id LIMIT %s FOR SHARE
"""
FOLDED = (
    "SELECT DISTINCT conversation_id FROM conversations_nameword WHERE chatbot_id = %s AND conversation_id = ANY(%s)"
)
WRITE = """
INSERT INTO conversations_nameword (chatbot_id, conversation_id, word)
SELECT %s, given.number, given.word FROM unnest(%s::bigint[], %s::text[]) AS given(number, word)
"""


def fold(apps: Any, schema_editor: Any) -> None:
    connection = schema_editor.connection
    chatbots = apps.get_model("chatbots", "Chatbot").objects.using(connection.alias).order_by("pk")
    for chatbot in chatbots.values_list("pk", flat=True):
        last: int | None = 0
        while last is not None:
            with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
                last = _fold_some(cursor, chatbot, after=last)


def _fold_some(cursor: Any, chatbot: int, *, after: int) -> int | None:
    """Fold a chunk of a chatbot's names; return the last conversation's number, or None if these were all."""
    cursor.execute(BY_INDEX)
    cursor.execute(READ, [chatbot, after, CHUNK])
    names = dict(cursor.fetchall())
    cursor.execute(FOLDED, [chatbot, list(names)])
    folded = {number for (number,) in cursor.fetchall()}
    found = [(number, word) for number, name in names.items() if number not in folded for word in words(name)]
    cursor.execute(WRITE, [chatbot, [number for number, _ in found], [word for _, word in found]])
    return max(names) if len(names) == CHUNK else None


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("conversations", "0005_name_words")]

    operations = [migrations.RunPython(fold, migrations.RunPython.noop)]
