"""A revoked key stays revoked: workers may revoke keys (a replay does), and nobody may bring one back."""

from django.db import migrations

TRIGGER = """
CREATE FUNCTION chatbots_keep_revoked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a revoked key stays revoked' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER apikey_keep_revoked BEFORE UPDATE OF revoked_at ON chatbots_apikey
    FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL)
    EXECUTE FUNCTION chatbots_keep_revoked();
"""
NO_TRIGGER = "DROP TRIGGER apikey_keep_revoked ON chatbots_apikey; DROP FUNCTION chatbots_keep_revoked();"


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0008_export_assurance")]

    operations = [migrations.RunSQL(TRIGGER, NO_TRIGGER)]
