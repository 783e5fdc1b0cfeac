"""Identities that were refused since they name an erased chatter. Of the same chatbot as their conversations."""

from datetime import UTC, datetime

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

_OF_CONVERSATION = "refusedidentity_conversation_of_chatbot"
_WAYS = [
    ("user_channel", "Claimed through the user channel"),
    ("custom", "Said by the platform"),
    ("asserted", "Asserted by the client's server"),
    ("signed", "Signed by the client's backend"),
    ("resolved", "Resolved at the client's address"),
]


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0004_redact_scope"),
        ("conversations", "0007_identities_of_the_user_channel"),
    ]

    operations = [
        migrations.CreateModel(
            name="RefusedIdentity",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("request_id", models.UUIDField()),
                ("way", models.CharField(choices=_WAYS, max_length=12)),
                (
                    "at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("expires_at", models.DateTimeField()),
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
                "verbose_name_plural": "refused identities",
                "indexes": [
                    models.Index(
                        models.F("chatbot"),
                        models.OrderBy(models.F("id"), descending=True),
                        condition=models.Q(("at__gt", datetime(1, 1, 1, tzinfo=UTC))),
                        name="refusedidentity_newest",
                    ),
                    models.Index(fields=["expires_at"], name="refusedidentity_expiry"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("conversation", "request_id", "chatbot"), name="refusedidentity_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("way__in", ["user_channel", "custom", "asserted", "signed", "resolved"])),
                        name="refusedidentity_way_known",
                    ),
                ],
            },
        ),
        migrations.RunSQL(
            f"ALTER TABLE conversations_refusedidentity ADD CONSTRAINT {_OF_CONVERSATION}"
            " FOREIGN KEY (chatbot_id, conversation_id) REFERENCES conversations_conversation (chatbot_id, id);",
            f"ALTER TABLE conversations_refusedidentity DROP CONSTRAINT {_OF_CONVERSATION};",
        ),
    ]
