"""The resolver of a chatbot. A session token is a variable of the same chatbot: one constraint over both columns."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0006_identity_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="Resolver",
            fields=[
                (
                    "chatbot",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="resolver",
                        serialize=False,
                        to="chatbots.chatbot",
                    ),
                ),
                (
                    "url",
                    models.CharField(
                        help_text="In canonical form. Its path may be a secret.", max_length=500, verbose_name="URL"
                    ),
                ),
                (
                    "variable_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(),
                        help_text="What is sent: variables of the chatbot.",
                        size=None,
                    ),
                ),
                (
                    "pointer",
                    models.CharField(
                        blank=True,
                        default="/value",
                        help_text="Where the answer has the value (RFC 6901).",
                        max_length=200,
                    ),
                ),
                (
                    "off_reason",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("uci_changed", "Another variable has become the UCI since"),
                            ("uci_not_custom", "The UCI is no custom variable any more"),
                        ],
                        default="",
                        max_length=16,
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("called_at", models.DateTimeField(editable=False, help_text="When the last call ended.", null=True)),
                (
                    "failing_since",
                    models.DateTimeField(
                        editable=False, help_text="The first of the failed calls since the last good one.", null=True
                    ),
                ),
                (
                    "last_error",
                    models.CharField(
                        blank=True,
                        default="",
                        editable=False,
                        help_text="Why the last call failed; empty if not.",
                        max_length=32,
                    ),
                ),
                ("last_error_at", models.DateTimeField(editable=False, null=True)),
                (
                    "session_token",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        help_text="The sent user-channel variable that holds an opaque token of the client's own session.",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="chatbots.variable",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("url__regex", "^https?://[^/?#@[:space:]]+/[^?#[:space:]]*$")),
                        name="resolver_url_shape",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("pointer__regex", "^(/([^/~]|~0|~1)*)*$")), name="resolver_pointer_shape"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("variable_ids__len__range", (1, 10))), name="resolver_sends_some"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("off_reason__in", ["", "uci_changed", "uci_not_custom"])),
                        name="resolver_off_reason_known",
                    ),
                ],
            },
        ),
        migrations.RunSQL(
            "ALTER TABLE chatbots_resolver ADD CONSTRAINT resolver_session_token_of_chatbot"
            " FOREIGN KEY (chatbot_id, session_token_id) REFERENCES chatbots_variable (chatbot_id, id);",
            migrations.RunSQL.noop,  # it goes with its table
        ),
    ]
