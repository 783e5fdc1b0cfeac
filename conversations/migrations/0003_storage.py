"""How conversations are stored: two indexes less, room for updates in place, and vacuums that come early.

Where the figures come from: docs/scaling.md. A fill factor binds new pages only; `VACUUM FULL` or a restored dump
rewrites the old ones.
"""

from django.db import migrations, models

CONVERSATION = """
ALTER TABLE conversations_conversation SET (
    -- A message that comes changes its conversation's count and time, which no index names. With a fifth of each page
    -- left free such an update stays on the page and leaves all indexes alone: 100 of 100 where conversations are
    -- picked at random (80 without the room), 60 of 100 where the newest are updated in bursts (14 without).
    fillfactor = 80,
    -- An erasure leaves two dead versions of each conversation. What was erased should not lie there for long, and
    -- a fifth of ten million would.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.02
);
"""

# Rows are written once and deleted once, so no room is left on their pages.
WRITTEN_ONCE = """
ALTER TABLE conversations_{table} SET (
    -- What an erasure deleted stays readable in the pages until a vacuum. At 1,000,000 rows the default waits for
    -- 200,000 deleted ones, this for 20,000: 30,000 were cleaned up within 2 seconds, and not at all by the default.
    autovacuum_vacuum_scale_factor = 0.02,
    -- New pages become all-visible early, which the counting of a chatter's messages through the index lives on.
    autovacuum_vacuum_insert_scale_factor = 0.05,
    -- Plans hang on how many rows a conversation has.
    autovacuum_analyze_scale_factor = 0.02
);
"""

# Each row is gone after VARIABLE_DAYS. A renewal moves its expiry, which an index names: never in place.
VARIABLE_VALUE = """
ALTER TABLE conversations_variablevalue SET (
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);
"""

# As many come as go, each after ERASURE_LEDGER_DAYS. At the default a fifth of all digests would lie on in the pages.
ERASED_CHATTER = """
ALTER TABLE conversations_erasedchatter SET (autovacuum_vacuum_scale_factor = 0.05);
"""

_VACUUM = "autovacuum_vacuum_scale_factor"
_INSERT = "autovacuum_vacuum_insert_scale_factor"
_ANALYZE = "autovacuum_analyze_scale_factor"


def _reset(table: str, *parameters: str) -> str:
    return f"ALTER TABLE conversations_{table} RESET ({', '.join(parameters)});"


class Migration(migrations.Migration):
    dependencies = [("conversations", "0002_composite_keys"), ("chatbots", "0003_storage")]

    operations = [
        # A transcript finds a conversation's files by the conversation and joins its messages in memory.
        migrations.RemoveIndex(model_name="uploadedfile", name="uploadedfile_message"),
        # No longer `unique=True`, which brought an index for LIKE along that nobody uses.
        migrations.AlterField(
            model_name="uploadedfile",
            name="object_key",
            field=models.CharField(help_text="Holds no name and no UCI value.", max_length=1024),
        ),
        migrations.AddConstraint(
            model_name="uploadedfile",
            constraint=models.UniqueConstraint(fields=("object_key",), name="uploadedfile_key_once"),
        ),
        migrations.RunSQL(CONVERSATION, _reset("conversation", "fillfactor", _VACUUM, _INSERT, _ANALYZE)),
        *(
            migrations.RunSQL(WRITTEN_ONCE.format(table=table), _reset(table, _VACUUM, _INSERT, _ANALYZE))
            for table in ("message", "identity")
        ),
        migrations.RunSQL(VARIABLE_VALUE, _reset("variablevalue", _VACUUM, _ANALYZE)),
        migrations.RunSQL(ERASED_CHATTER, _reset("erasedchatter", _VACUUM)),
    ]
