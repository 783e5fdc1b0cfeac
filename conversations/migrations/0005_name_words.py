"""A table of the words of user names, for the console's look-up, in place of the index on the whole name.

PostgreSQL's statistics hold samples of a column, so words have none (docs/operators/scrub-freed-pages.md), and nor
have chatbots, as everywhere (docs/adr/0061-one-way-to-plan.md). Rows are deleted as those of identities are.
"""

import django.db.models.deletion
from django.db import migrations, models

# Where the conversations are distributed, a local table cannot refer to them: `distribute` adds the key with the table.
FOREIGN_KEY = """
DO $$
DECLARE
    is_distributed boolean := FALSE;
BEGIN
    IF to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM pg_dist_partition
                                 WHERE logicalrelid = ''conversations_conversation''::regclass)' INTO is_distributed;
    END IF;
    IF NOT is_distributed THEN
        ALTER TABLE conversations_nameword ADD CONSTRAINT nameword_conversation_of_chatbot
            FOREIGN KEY (chatbot_id, conversation_id) REFERENCES conversations_conversation (chatbot_id, id);
    END IF;
END
$$
"""
STORAGE = """
ALTER TABLE conversations_nameword ALTER COLUMN word SET STATISTICS 0, ALTER COLUMN chatbot_id SET STATISTICS 0;
ALTER TABLE conversations_nameword SET (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.02
);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0002_sql"),
        ("conversations", "0004_marks_of_a_chatbot"),
    ]

    operations = [
        migrations.CreateModel(
            name="NameWord",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "conversation_id",
                        "word",
                        "chatbot_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "chatbot",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="chatbots.chatbot",
                    ),
                ),
                (
                    "conversation",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        to="conversations.conversation",
                    ),
                ),
                ("word", models.CharField(db_collation="C", max_length=64)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("word__gt", "")),
                        fields=["chatbot", "word", "conversation"],
                        name="nameword_lookup",
                    )
                ],
            },
        ),
        migrations.RunSQL(FOREIGN_KEY),
        migrations.RunSQL(STORAGE),
        migrations.RemoveIndex(model_name="conversation", name="conversation_user_name"),
    ]
