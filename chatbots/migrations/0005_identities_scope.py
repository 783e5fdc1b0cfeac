"""The scope `identities:write`."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0004_redact_scope"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="apikey",
            name="apikey_scopes_known",
        ),
        migrations.AlterField(
            model_name="apikey",
            name="scopes",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(
                    choices=[
                        ("deletions:write", "File, preview and cancel deletions"),
                        ("exports:write", "File, preview and cancel exports"),
                        ("requests:read", "Follow requests and fetch exports"),
                        ("requests:approve", "Approve and reject held requests"),
                        ("conversations:write", "Send conversations and files"),
                        ("conversations:read", "Read the conversations log"),
                        ("messages:redact", "Redact messages"),
                        ("identities:write", "Say who chatted in a conversation"),
                    ],
                    max_length=32,
                ),
                default=list,
                size=None,
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "scopes__contained_by",
                        [
                            "deletions:write",
                            "exports:write",
                            "requests:read",
                            "requests:approve",
                            "conversations:write",
                            "conversations:read",
                            "messages:redact",
                            "identities:write",
                        ],
                    )
                ),
                name="apikey_scopes_known",
            ),
        ),
    ]
