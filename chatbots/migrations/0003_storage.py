"""How the change log is stored: one index less, and cleaning that suits a table that only grows.

The index on the chatbot alone served nothing that `changelog_chatbot_newest` does not serve: it begins with the
chatbot too. Where the figures come from: docs/scaling.md.
"""

import django.db.models.deletion
from django.db import migrations, models

CHANGE_LOG = """
ALTER TABLE chatbots_changelogentry SET (
    -- Rows are never updated nor deleted, so nothing but inserts calls for a vacuum. At a twentieth of new rows, not
    -- at a fifth: each run then has little to do.
    autovacuum_vacuum_insert_scale_factor = 0.05,
    -- What it finds it freezes at once: no row will change, and no great freezing comes due years later.
    autovacuum_freeze_min_age = 0
);
"""


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0002_guards")]

    operations = [
        migrations.AlterField(
            model_name="changelogentry",
            name="chatbot",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="change_log",
                to="chatbots.chatbot",
            ),
        ),
        migrations.RunSQL(
            CHANGE_LOG,
            "ALTER TABLE chatbots_changelogentry"
            " RESET (autovacuum_vacuum_insert_scale_factor, autovacuum_freeze_min_age);",
        ),
    ]
