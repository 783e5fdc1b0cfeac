"""What Django has no operation for: triggers, a composite foreign key, and how tables are stored.

The change log's trigger refuses UPDATE and DELETE, not TRUNCATE: a test database is emptied by it. Where the figures of
the storage parameters come from: docs/explanation/table-storage.md.
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

# What a reader of the change log needs to miss no entry (`chatbots.changelog`). Before a transaction draws its first id of
# an entry, it takes a shared advisory lock that nobody waits for. The lock's key is the newest id at that time, below
# 25699 (0x6463) in its upper 16 bits. The setting makes it one lock for each transaction; both end with it, or with its
# savepoint.
HOLD_PLACE = """
CREATE FUNCTION chatbots_changelog_hold_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('compliance.changelog_place', TRUE), '') = '' THEN
        PERFORM pg_advisory_xact_lock_shared((25699::bigint << 48) | CASE WHEN is_called THEN last_value ELSE 0 END)
           FROM chatbots_changelogentry_id_seq;
        PERFORM set_config('compliance.changelog_place', 'held', TRUE);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER changelog_hold_place BEFORE INSERT ON chatbots_changelogentry
    FOR EACH STATEMENT EXECUTE FUNCTION chatbots_changelog_hold_place();
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

# ADR 0027 says why.
KEEP_PUBLIC_ID = """
CREATE FUNCTION chatbots_keep_public_id() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a public id never changes' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER chatbot_keep_public_id BEFORE UPDATE ON chatbots_chatbot
    FOR EACH ROW WHEN (OLD.public_id IS DISTINCT FROM NEW.public_id) EXECUTE FUNCTION chatbots_keep_public_id();
CREATE TRIGGER variable_keep_public_id BEFORE UPDATE ON chatbots_variable
    FOR EACH ROW WHEN (OLD.public_id IS DISTINCT FROM NEW.public_id) EXECUTE FUNCTION chatbots_keep_public_id();
"""

# Workers may revoke keys (a replay does), and nobody may bring one back.
KEEP_REVOKED = """
CREATE FUNCTION chatbots_keep_revoked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a revoked key stays revoked' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER apikey_keep_revoked BEFORE UPDATE OF revoked_at ON chatbots_apikey
    FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL)
    EXECUTE FUNCTION chatbots_keep_revoked();
"""

RESOLVER = """
ALTER TABLE chatbots_resolver ADD CONSTRAINT resolver_session_token_of_chatbot
    FOREIGN KEY (chatbot_id, session_token_id) REFERENCES chatbots_variable (chatbot_id, id);
"""

CHANGE_LOG = """
ALTER TABLE chatbots_changelogentry SET (
    -- Rows are never updated nor deleted, so nothing but inserts calls for a vacuum. At a twentieth of new rows, not
    -- at a fifth: each run then has little to do.
    autovacuum_vacuum_insert_scale_factor = 0.05,
    -- What it finds it freezes at once: no row will change, and no great freezing comes due years later.
    autovacuum_freeze_min_age = 0
);
"""

# Room on the page for the next count of the same key; and a count of a minute need not survive the machine.
RATE_LIMIT = "ALTER TABLE chatbots_ratelimitwindow SET UNLOGGED, SET (fillfactor = 50);"


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0001_schema")]

    operations = [
        migrations.RunSQL(sql)
        for sql in (
            APPEND_ONLY,
            HOLD_PLACE,
            KEEP_UCI,
            KEEP_PUBLIC_ID,
            KEEP_REVOKED,
            RESOLVER,
            CHANGE_LOG,
            RATE_LIMIT,
        )
    ]
