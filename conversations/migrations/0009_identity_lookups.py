"""Look-ups of identities, each of a conversation of the same chatbot. Rows go after VARIABLE_DAYS, as values do."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0007_resolver"),
        ("conversations", "0008_refused_identities"),
    ]

    operations = [
        migrations.CreateModel(
            name="IdentityLookup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Waiting"),
                            ("resolved", "Resolved"),
                            ("unknown", "Not known there"),
                            ("failed", "Failed"),
                        ],
                        default="pending",
                        max_length=8,
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0, help_text="Calls since it was queued last.")),
                ("queued_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "next_attempt_at",
                    models.DateTimeField(
                        help_text="When a worker may take it; while one calls, when another may.", null=True
                    ),
                ),
                ("token", models.UUIDField(help_text="Fencing token of the worker that calls.", null=True)),
                ("give_up_at", models.DateTimeField(help_text="No attempt is made later.")),
                (
                    "last_error",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("no_answer", "No answer in time, or it broke off"),
                            ("name_unknown", "The name of the host does not resolve"),
                            ("address_refused", "The address leads into a private network"),
                            ("tls_failed", "The connection could not be encrypted, or the certificate does not fit"),
                            ("bad_answer", "What came back is not HTTP"),
                            ("bad_status", "The response status is neither 200 nor 404"),
                            ("answer_too_long", "The answer is too long"),
                            ("not_json", "The answer is not JSON"),
                            ("no_value", "The answer has nothing at the pointer"),
                            ("not_text", "What the answer has at the pointer is neither a string nor null"),
                            ("bad_value", "The value is empty, too long, a placeholder or not storable"),
                            ("not_stored", "The value could not be stored as this conversation's identity"),
                            ("value_missing", "Not tried: a variable to send is not stored any more"),
                            (
                                "signing_key_missing",
                                "The chatbot has neither a callback secret nor an active signing key",
                            ),
                            ("signing_key_unreadable", "The key ring does not open the secret that signs"),
                            ("resolver_resting", "Not tried: the address failed several times just before"),
                        ],
                        default="",
                        max_length=32,
                    ),
                ),
                ("finished_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField(help_text="The row is deleted then.")),
                (
                    "chatbot",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="chatbots.chatbot",
                    ),
                ),
                (
                    "conversation",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        to="conversations.conversation",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "pending")),
                        fields=["chatbot", "next_attempt_at"],
                        name="identitylookup_due",
                    ),
                    models.Index(
                        condition=models.Q(("state", "pending")),
                        fields=["chatbot", "queued_at"],
                        name="identitylookup_queued",
                    ),
                    models.Index(
                        condition=models.Q(("token__isnull", False)), fields=["token"], name="identitylookup_taken"
                    ),
                    models.Index(
                        condition=models.Q(("chatbot__gt", 0), ("finished_at__isnull", False)),
                        fields=["chatbot", "finished_at"],
                        name="identitylookup_ended",
                    ),
                    models.Index(fields=["expires_at"], name="identitylookup_expiry"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("conversation", "chatbot"), name="identitylookup_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("finished_at__isnull", True),
                                ("next_attempt_at__isnull", False),
                                ("state", "pending"),
                            ),
                            models.Q(
                                ("finished_at__isnull", False),
                                ("next_attempt_at__isnull", True),
                                ("state__in", ["resolved", "unknown", "failed"]),
                                ("token__isnull", True),
                            ),
                            _connector="OR",
                        ),
                        name="identitylookup_state_fits",
                    ),
                ],
            },
        ),
        migrations.RunSQL(
            "ALTER TABLE conversations_identitylookup ADD CONSTRAINT identitylookup_conversation_of_chatbot"
            " FOREIGN KEY (chatbot_id, conversation_id) REFERENCES conversations_conversation (chatbot_id, id);"
            "ALTER TABLE conversations_identitylookup SET ("
            " autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);",
            migrations.RunSQL.noop,  # they go with their table
        ),
    ]
