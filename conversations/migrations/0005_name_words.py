"""A table of the words of user names, for the console's look-up, in place of the index on the whole name.

PostgreSQL's statistics hold samples of a column, so words have none (docs/operators/scrub-freed-pages.md), and nor
have chatbots, as everywhere (docs/adr/0061-one-way-to-plan.md). Rows are deleted as those of identities are. There is
no foreign key: its check takes more time than the rest of storing a word, and an import would be 3 % slower by it.
"""

import django.db.models.deletion
from django.db import migrations, models

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
        migrations.RunSQL(STORAGE),
        migrations.RemoveIndex(model_name="conversation", name="conversation_user_name"),
    ]
