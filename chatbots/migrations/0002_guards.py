"""Rules that stand in the database: the change log is append-only, and a UCI cannot be removed.

The change log's trigger refuses UPDATE and DELETE, not TRUNCATE: a test database is emptied by it.
"""

from django.db import migrations

APPEND_ONLY = """
CREATE FUNCTION chatbots_changelog_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the change log is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER changelog_append_only BEFORE UPDATE OR DELETE ON chatbots_changelogentry
    FOR EACH ROW EXECUTE FUNCTION chatbots_changelog_append_only();
"""

KEEP_UCI = """
CREATE FUNCTION chatbots_variable_keep_uci() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.is_uci OR OLD.was_uci THEN
        RAISE EXCEPTION 'a present or former UCI cannot be removed'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER variable_keep_uci BEFORE DELETE ON chatbots_variable
    FOR EACH ROW EXECUTE FUNCTION chatbots_variable_keep_uci();
"""


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0001_initial")]

    operations = [
        migrations.RunSQL(
            APPEND_ONLY,
            "DROP TRIGGER changelog_append_only ON chatbots_changelogentry;"
            "DROP FUNCTION chatbots_changelog_append_only();",
        ),
        migrations.RunSQL(
            KEEP_UCI,
            "DROP TRIGGER variable_keep_uci ON chatbots_variable; DROP FUNCTION chatbots_variable_keep_uci();",
        ),
    ]
