"""The scope `changelog:read`, and what a reader of the change log needs to miss no entry (`chatbots.changelog`).

Before a transaction draws its first id of an entry, it takes a shared advisory lock that nobody waits for. The lock's
key is the newest id at that time, below 25699 (0x6463) in its upper 16 bits. The setting makes it one lock for each
transaction; both end with it, or with its savepoint.
"""

import django.contrib.postgres.fields
from django.db import migrations, models

SCOPES = [
    ("deletions:write", "File, preview and cancel deletions"),
    ("exports:write", "File, preview and cancel exports"),
    ("requests:read", "Follow requests and fetch exports"),
    ("requests:approve", "Approve and reject held requests"),
    ("conversations:write", "Send conversations and files"),
    ("conversations:read", "Read the conversations log"),
    ("messages:redact", "Redact messages"),
    ("identities:write", "Say who chatted in a conversation"),
    ("changelog:read", "Read the change log"),
]

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

RELEASE_PLACE = """
DROP TRIGGER changelog_hold_place ON chatbots_changelogentry;
DROP FUNCTION chatbots_changelog_hold_place();
"""


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0003_csv_dialect")]

    operations = [
        migrations.AlterField(
            model_name="apikey",
            name="scopes",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(choices=SCOPES, max_length=32), blank=True, default=list, size=None
            ),
        ),
        migrations.RemoveConstraint(model_name="apikey", name="apikey_scopes_known"),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(("scopes__contained_by", [scope for scope, _ in SCOPES])),
                name="apikey_scopes_known",
            ),
        ),
        migrations.RunSQL(HOLD_PLACE, RELEASE_PLACE),
    ]
