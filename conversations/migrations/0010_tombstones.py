"""What is remembered of erased chatters is remembered of conversations and messages too."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0009_revoked_for_good"),
        ("conversations", "0009_identity_lookups"),
    ]

    operations = [
        migrations.RenameModel("ErasedChatter", "Tombstone"),
        migrations.RenameIndex("Tombstone", new_name="tombstone_expiry", old_name="erasedchatter_expiry"),
        migrations.AddField(
            "Tombstone",
            "kind",
            models.CharField(
                choices=[
                    ("chatter", "An erased chatter"),
                    ("conversation", "An erased conversation without a row"),
                    ("message", "A redacted message without a row"),
                ],
                default="chatter",
                db_default="chatter",
                max_length=12,
            ),
        ),
        migrations.AddField(
            "Tombstone",
            "conversation_digest",
            models.BinaryField(help_text="Of a message's conversation.", max_length=32, null=True),
        ),
        migrations.AddField(
            "Tombstone", "erased_at", models.DateTimeField(db_default=Now(), help_text="When the erasure began.")
        ),
        migrations.RunSQL(
            "UPDATE conversations_tombstone SET erased_at = cutoff_at WHERE chatbot_id > 0", migrations.RunSQL.noop
        ),
        migrations.AlterField(
            "Tombstone",
            "cutoff_at",
            models.DateTimeField(help_text="Of a chatter: conversations begun before are refused.", null=True),
        ),
        migrations.AlterField(
            "Tombstone",
            "cutoff_number",
            models.BigIntegerField(
                help_text="Of a chatter: stored conversations up to this number are closed.", null=True
            ),
        ),
        migrations.AlterField(
            "Tombstone",
            "digest",
            models.BinaryField(help_text="Of the UCI value, or of the platform's id.", max_length=32),
        ),
        migrations.AlterField(
            "Tombstone",
            "variable",
            models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="chatbots.variable",
            ),
        ),
        # `distribute` knows keys by the names that the models give them. A distributed table refuses a new
        # name, and more than one change at a time.
        *(
            migrations.RunSQL(
                [
                    f"ALTER TABLE conversations_tombstone DROP CONSTRAINT {former}",
                    f"ALTER TABLE conversations_tombstone ADD CONSTRAINT {present} {key}",
                ],
                [
                    f"ALTER TABLE conversations_tombstone DROP CONSTRAINT {present}",
                    f"ALTER TABLE conversations_tombstone ADD CONSTRAINT {former} {key}",
                ],
            )
            for former, present, key in (
                (
                    "erasedchatter_variable_of_chatbot",
                    "tombstone_variable_of_chatbot",
                    "FOREIGN KEY (chatbot_id, variable_id) REFERENCES chatbots_variable (chatbot_id, id)",
                ),
                (
                    "conversations_erased_chatbot_id_5cf0586b_fk_chatbots_",
                    "conversations_tombst_chatbot_id_18b58a44_fk_chatbots_",
                    "FOREIGN KEY (chatbot_id) REFERENCES chatbots_chatbot (id) DEFERRABLE INITIALLY DEFERRED",
                ),
            )
        ),
        migrations.RemoveConstraint("Tombstone", "erasedchatter_once_per_request"),
        migrations.RemoveIndex("Tombstone", "erasedchatter_chatter"),
        migrations.AddConstraint(
            "Tombstone",
            models.UniqueConstraint(fields=("chatbot", "digest", "request_id"), name="tombstone_once_per_request"),
        ),
        migrations.AddConstraint(
            "Tombstone",
            models.CheckConstraint(
                condition=Q(
                    kind="chatter",
                    variable__isnull=False,
                    conversation_digest__isnull=True,
                    cutoff_at__isnull=False,
                    cutoff_number__isnull=False,
                )
                | Q(
                    Q(kind="conversation", conversation_digest__isnull=True)
                    | Q(kind="message", conversation_digest__isnull=False),
                    variable__isnull=True,
                    cutoff_at__isnull=True,
                    cutoff_number__isnull=True,
                ),
                name="tombstone_is_of_its_kind",
            ),
        ),
        migrations.AddIndex(
            "Tombstone",
            models.Index(
                condition=Q(conversation_digest__isnull=False),
                fields=["chatbot", "conversation_digest"],
                name="tombstone_of_message",
            ),
        ),
        # Backwards, this is first: the former table has nothing but chatters.
        migrations.RunSQL(
            migrations.RunSQL.noop, "DELETE FROM conversations_tombstone WHERE chatbot_id > 0 AND kind <> 'chatter'"
        ),
    ]
