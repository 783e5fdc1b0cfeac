"""The ledger's tables, and the triggers that have it told of what is accepted, withdrawn and revoked."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

# In the transaction that files, withdraws or revokes, whichever statement does so. Retention runs are filed by the
# service itself, which files them again.
TRIGGERS = """
CREATE FUNCTION compliance_journal_accepted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO compliance_journalentry (kind, request_id, at)
    SELECT 'accepted', id, clock_timestamp() FROM filed WHERE kind <> 'retention' ORDER BY seq;
    RETURN NULL;
END $$;
CREATE TRIGGER request_journal_accepted AFTER INSERT ON compliance_compliancerequest
    REFERENCING NEW TABLE AS filed FOR EACH STATEMENT EXECUTE FUNCTION compliance_journal_accepted();

CREATE FUNCTION compliance_journal_withdrawn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO compliance_journalentry (kind, request_id, at) VALUES ('withdrawn', NEW.id, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER request_journal_withdrawn AFTER UPDATE ON compliance_compliancerequest
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status IN ('cancelled', 'rejected'))
    EXECUTE FUNCTION compliance_journal_withdrawn();

CREATE FUNCTION compliance_journal_key_revoked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO compliance_journalentry (kind, key_prefix, at) VALUES ('key_revoked', NEW.prefix, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER apikey_journal_revoked AFTER UPDATE ON chatbots_apikey
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL)
    EXECUTE FUNCTION compliance_journal_key_revoked();
"""
NO_TRIGGERS = """
DROP TRIGGER apikey_journal_revoked ON chatbots_apikey;
DROP TRIGGER request_journal_withdrawn ON compliance_compliancerequest;
DROP TRIGGER request_journal_accepted ON compliance_compliancerequest;
DROP FUNCTION compliance_journal_key_revoked();
DROP FUNCTION compliance_journal_withdrawn();
DROP FUNCTION compliance_journal_accepted();
"""

# What is open, or can be retried, has been promised already.
OPEN_REQUESTS = """
INSERT INTO compliance_journalentry (kind, request_id, at)
SELECT 'accepted', id, clock_timestamp() FROM compliance_compliancerequest
 WHERE kind <> 'retention' AND status IN ('accepted', 'on_hold', 'processing', 'failed') ORDER BY seq;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0008_export_assurance"),
        ("compliance", "0008_assurance"),
    ]

    operations = [
        migrations.AlterField(
            model_name="callback",
            name="hold_reason",
            field=models.CharField(
                choices=[
                    ("too_many_conversations", "More conversations than the chatbot's guard allows"),
                    ("awaiting_approval", "Waiting for the approval of another person"),
                    ("export_pending", "An earlier export of this chatter has not been delivered"),
                    ("restored", "Staff decide, since the database was restored from a backup"),
                ],
                max_length=32,
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="compliancerequest",
            name="approved_holds",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(
                    choices=[
                        ("too_many_conversations", "More conversations than the chatbot's guard allows"),
                        ("awaiting_approval", "Waiting for the approval of another person"),
                        ("export_pending", "An earlier export of this chatter has not been delivered"),
                        ("restored", "Staff decide, since the database was restored from a backup"),
                    ],
                    max_length=32,
                ),
                default=list,
                help_text="The hold reasons that were approved. Any other reason needs a new approval.",
                size=None,
            ),
        ),
        migrations.AlterField(
            model_name="compliancerequest",
            name="hold_reason",
            field=models.CharField(
                choices=[
                    ("too_many_conversations", "More conversations than the chatbot's guard allows"),
                    ("awaiting_approval", "Waiting for the approval of another person"),
                    ("export_pending", "An earlier export of this chatter has not been delivered"),
                    ("restored", "Staff decide, since the database was restored from a backup"),
                ],
                max_length=32,
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="compliancerequest",
            name="origin",
            field=models.CharField(
                choices=[
                    ("api", "API"),
                    ("console", "Console"),
                    ("command", "Command"),
                    ("schedule", "Schedule"),
                    ("replay", "Replay of the erasure ledger"),
                ],
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="occurrence",
            name="name",
            field=models.CharField(
                choices=[
                    ("sweep", "The sweep ran"),
                    ("unexpected_task", "Something was in the queue's tables that the service does not put there"),
                    ("restarted", "A cluster was started anew, since it lost a process"),
                    ("journal", "What was accepted or withdrawn was written to the ledger"),
                    ("ledger_missing", "Objects of the ledger were gone, and were written again"),
                    ("ledger_foreign", "The ledger had objects that this service did not write"),
                ],
                max_length=16,
                primary_key=True,
                serialize=False,
            ),
        ),
        migrations.CreateModel(
            name="JournalEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("accepted", "A request was accepted"),
                            ("withdrawn", "A request was cancelled or rejected"),
                            ("key_revoked", "A key was revoked"),
                        ],
                        max_length=16,
                    ),
                ),
                ("request_id", models.UUIDField(null=True)),
                ("key_prefix", models.CharField(blank=True, db_default="", default="", max_length=16)),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                "indexes": [models.Index(fields=["request_id"], name="journalentry_request")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("key_prefix", ""),
                                ("kind__in", ["accepted", "withdrawn"]),
                                ("request_id__isnull", False),
                            ),
                            models.Q(
                                ("kind", "key_revoked"),
                                ("request_id__isnull", True),
                                models.Q(("key_prefix", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="journalentry_names_one",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="LedgerObject",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=120, unique=True)),
                (
                    "at",
                    models.DateTimeField(help_text="The time in its key: never before that of an earlier object."),
                ),
                (
                    "request_ids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), default=list, size=None),
                ),
                (
                    "key_prefixes",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=16),
                        default=list,
                        help_text="Of keys that were revoked.",
                        size=None,
                    ),
                ),
                ("sha256", models.BinaryField(max_length=32, null=True)),
                (
                    "written_at",
                    models.DateTimeField(
                        help_text="When the storage had answered. Null: unknown whether there is an object.",
                        null=True,
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["at"], name="ledgerobject_at")],
            },
        ),
        migrations.CreateModel(
            name="Service",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                (
                    "service_id",
                    models.UUIDField(help_text="Names its folder of the ledger. A copy gets another one (adopt)."),
                ),
                ("incarnation", models.UUIDField(help_text="The life of this database: new after each replay.")),
                (
                    "server",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Identifies the database server and this table; differs in a dump that was loaded.",
                        max_length=64,
                    ),
                ),
                (
                    "timeline",
                    models.BigIntegerField(
                        help_text="Of the write-ahead log; a failover begins another one.", null=True
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("restored", "Restored from a backup"),
                            ("catching_up", "Catching up after a failover"),
                        ],
                        default="open",
                        max_length=16,
                    ),
                ),
                (
                    "reason",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("other_server", "The database is on another server, or was loaded from a dump"),
                            ("objects_unknown", "The ledger has objects that this database does not know"),
                        ],
                        default="",
                        max_length=16,
                    ),
                ),
                ("tripped_at", models.DateTimeField(null=True)),
                (
                    "highest_number",
                    models.BigIntegerField(
                        help_text="The highest conversation number when the restore was noticed.", null=True
                    ),
                ),
                (
                    "checked_at",
                    models.DateTimeField(
                        help_text="When the ledger was last compared with this database.", null=True
                    ),
                ),
                ("replayed_at", models.DateTimeField(help_text="When the last replay ended.", null=True)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="service_one_row"),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["open", "restored", "catching_up"])),
                        name="service_state_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("reason__in", ["", "other_server", "objects_unknown"])),
                        name="service_reason_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("highest_number__isnull", True),
                                ("reason", ""),
                                ("state", "open"),
                                ("tripped_at__isnull", True),
                            ),
                            models.Q(
                                models.Q(("state", "open"), _negated=True),
                                models.Q(("reason", ""), _negated=True),
                                ("highest_number__isnull", False),
                                ("tripped_at__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="service_trip_is_whole",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="LedgerLine",
            fields=[
                ("request_id", models.UUIDField(primary_key=True, serialize=False)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("accepted", "A request was accepted"),
                            ("intended", "A request is about to be carried out"),
                            ("withdrawn", "A request was cancelled or rejected"),
                            ("exact", "A deletion has erased"),
                            ("redacted", "A redaction has removed"),
                            ("retention", "A retention run erases by age"),
                            ("key_revoked", "A key was revoked"),
                        ],
                        max_length=16,
                    ),
                ),
                ("line", models.JSONField(help_text="What the lines say, without the conversations' digests.")),
                (
                    "conversation_digests",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BinaryField(max_length=32), default=list, size=None
                    ),
                ),
                (
                    "outcome",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("filed", "Under way"),
                            ("erased", "Erased again"),
                            ("nothing_found", "Nothing was left to erase"),
                            ("filed_again", "Filed again"),
                            ("on_hold", "Filed again, on hold"),
                            ("withdrawn", "Was withdrawn"),
                            ("lost_export", "A lost export"),
                            ("unknown_chatbot", "The chatbot is not in this database"),
                            ("failed", "Could not be carried out"),
                        ],
                        default="",
                        max_length=16,
                    ),
                ),
                (
                    "chatbot",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="chatbots.chatbot",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("outcome__in", ["", "filed"])),
                        fields=["request_id"],
                        name="ledgerline_open",
                    )
                ],
            },
        ),
        migrations.RunSQL(TRIGGERS, NO_TRIGGERS),
        migrations.RunSQL(OPEN_REQUESTS, migrations.RunSQL.noop),
    ]
