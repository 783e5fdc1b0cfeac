"""Composite foreign keys: a child names a conversation, and a row a variable, of its own chatbot only.

One constraint over both columns instead of two foreign keys; ready for a table distributed by chatbot.
"""

from django.db import migrations

OF_CONVERSATION = ("identity", "message", "uploadedfile", "variablevalue")
OF_VARIABLE = {
    "conversation": "uci_variable_id",
    "identity": "variable_id",
    "variablevalue": "variable_id",
    "erasedchatter": "variable_id",
}


def _foreign_key(table: str, column: str, target: str) -> migrations.RunSQL:
    name = f"{table}_{column.removesuffix('_id')}_of_chatbot"
    return migrations.RunSQL(
        f"ALTER TABLE conversations_{table} ADD CONSTRAINT {name}"
        f" FOREIGN KEY (chatbot_id, {column}) REFERENCES {target} (chatbot_id, id);",
        f"ALTER TABLE conversations_{table} DROP CONSTRAINT {name};",
    )


class Migration(migrations.Migration):
    dependencies = [("conversations", "0001_initial"), ("chatbots", "0002_guards")]

    operations = [
        *(_foreign_key(table, "conversation_id", "conversations_conversation") for table in OF_CONVERSATION),
        *(_foreign_key(table, column, "chatbots_variable") for table, column in OF_VARIABLE.items()),
    ]
