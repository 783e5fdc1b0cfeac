"""The scopes `holds:read` and `holds:write`."""

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
    ("holds:read", "Read legal holds"),
    ("holds:write", "Place, review and release legal holds"),
]


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0006_retention_days")]

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
    ]
