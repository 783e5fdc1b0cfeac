"""What Django has no operation for: composite foreign keys, how conversations are stored, and statistics.

A child names a conversation, and a row a variable, of its own chatbot only: one constraint over both columns instead of
two foreign keys. Room for updates in place, and vacuums that come early; where the figures come from: docs/explanation/table-storage.md. A
fill factor binds new pages only: `VACUUM FULL` or a restored dump rewrites the old ones.
"""

from django.db import migrations

OF_CONVERSATION = ("identity", "identitylookup", "message", "refusedidentity", "uploadedfile", "variablevalue")
OF_VARIABLE = {
    "conversation": "uci_variable_id",
    "identity": "variable_id",
    "variablevalue": "variable_id",
    "tombstone": "variable_id",
}

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

# Values of variables are gone after VARIABLE_DAYS; a renewal moves the expiry, which an index names: never in place.
SHORT_LIVED = """
ALTER TABLE conversations_{table} SET (
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);
"""

# As many come as go, each after ERASURE_LEDGER_DAYS. At the default a fifth of all digests would lie on in the pages.
TOMBSTONE = """
ALTER TABLE conversations_tombstone SET (autovacuum_vacuum_scale_factor = 0.05);
"""

# PostgreSQL's statistics hold samples of a column, which would outlive what is erased
# (docs/operators/scrub-freed-pages.md). Words of names have none, and no plan depends on samples of `look`. Nor have
# words a count by chatbot, as everywhere (docs/adr/0061-one-way-to-plan.md): the others are found by their foreign keys.
UNCOUNTED = """
ALTER TABLE conversations_nameword ALTER COLUMN word SET STATISTICS 0, ALTER COLUMN chatbot_id SET STATISTICS 0;
ALTER TABLE conversations_identity ALTER COLUMN look SET STATISTICS 0;
"""


def _foreign_key(table: str, column: str, target: str) -> str:
    return (
        f"ALTER TABLE conversations_{table} ADD CONSTRAINT {table}_{column.removesuffix('_id')}_of_chatbot"
        f" FOREIGN KEY (chatbot_id, {column}) REFERENCES {target} (chatbot_id, id);"
    )


class Migration(migrations.Migration):
    dependencies = [("conversations", "0001_schema"), ("chatbots", "0002_raw_sql")]

    operations = [
        migrations.RunSQL(sql)
        for sql in (
            *(_foreign_key(table, "conversation_id", "conversations_conversation") for table in OF_CONVERSATION),
            *(_foreign_key(table, column, "chatbots_variable") for table, column in OF_VARIABLE.items()),
            CONVERSATION,
            *(WRITTEN_ONCE.format(table=table) for table in ("message", "identity", "nameword")),
            *(SHORT_LIVED.format(table=table) for table in ("variablevalue", "identitylookup")),
            TOMBSTONE,
            UNCOUNTED,
        )
    ]
