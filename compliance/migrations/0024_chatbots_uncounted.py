"""PostgreSQL counts no longer whose rows a table has.

With such a count, a chatbot that is newer than the last ANALYZE has no rows for the planner, which then goes through
all of them. Without one, each is taken for a two-hundredth of the table, and rows are found by what names few of them.
"""

from django.db import migrations

# Of columns that name a chatbot or a variable of one. Citus refuses it for a table that is distributed already.
STATEMENT = """
DO $$
DECLARE
    each record;
BEGIN
    FOR each IN
        SELECT c.conrelid::regclass AS name, t.relname, n.nspname, a.attname
          FROM pg_constraint c
          JOIN pg_class t ON t.oid = c.conrelid
          JOIN pg_namespace n ON n.oid = t.relnamespace
          JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
         WHERE c.contype = 'f' AND c.confrelid IN ('chatbots_chatbot'::regclass, 'chatbots_variable'::regclass)
    LOOP
        BEGIN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', each.name, each.attname, {target});
            IF to_regproc('pg_catalog.pg_clear_attribute_stats') IS NOT NULL THEN
                EXECUTE 'SELECT pg_clear_attribute_stats($1, $2, $3, FALSE)'
                  USING each.nspname::text, each.relname::text, each.attname::text;
            END IF;
        EXCEPTION WHEN feature_not_supported THEN
            RAISE NOTICE 'The statistics of % stay as they are.', each.name;
        END;
    END LOOP;
END
$$
"""


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0010_after_a_restore"),
        ("compliance", "0023_split_lane"),
        ("conversations", "0013_lookups_in_doubt"),
    ]

    operations = [
        migrations.RunSQL(STATEMENT.replace("{target}", "0"), STATEMENT.replace("{target}", "-1")),
    ]
