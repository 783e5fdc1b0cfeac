"""Keys that verify identity tokens, and whether a token must name its conversation."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0005_identities_scope"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="apikey",
            name="apikey_type_known",
        ),
        migrations.RemoveConstraint(
            model_name="apikey",
            name="apikey_secret_fits_type",
        ),
        migrations.AddField(
            model_name="apikey",
            name="algorithm",
            field=models.CharField(
                blank=True,
                choices=[
                    ("HS256", "HS256: a shared secret"),
                    ("ES256", "ES256: a public key on the curve P-256"),
                    ("RS256", "RS256: a public RSA key"),
                ],
                db_default="",
                default="",
                help_text="For an identity key: no other is taken.",
                max_length=5,
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="public_key",
            field=models.TextField(
                blank=True,
                db_default="",
                default="",
                help_text="For an identity key with ES256 or RS256: the client's, in PEM.",
            ),
        ),
        migrations.AddField(
            model_name="chatbot",
            name="token_names_conversation",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Whether an identity token must name its conversation, so that one that leaked fits no other.",
            ),
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
                blank=True,
                default=list,
                size=None,
            ),
        ),
        migrations.AlterField(
            model_name="apikey",
            name="secret_encrypted",
            field=models.TextField(
                blank=True,
                default="",
                help_text="For a signing key, and an identity key with HS256: we sign with it.",
            ),
        ),
        migrations.AlterField(
            model_name="apikey",
            name="type",
            field=models.CharField(
                choices=[("signing", "Signing key"), ("token", "Token"), ("identity", "Identity key")], max_length=8
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(("type__in", ["signing", "token", "identity"])), name="apikey_type_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("algorithm", ""),
                        ("public_key", ""),
                        ("secret_sha256__isnull", True),
                        ("type", "signing"),
                        models.Q(("secret_encrypted", ""), _negated=True),
                    ),
                    models.Q(
                        ("algorithm", ""),
                        ("public_key", ""),
                        ("secret_encrypted", ""),
                        ("secret_sha256__isnull", False),
                        ("type", "token"),
                    ),
                    models.Q(
                        ("secret_sha256__isnull", True),
                        ("type", "identity"),
                        models.Q(
                            models.Q(
                                ("algorithm", "HS256"),
                                ("public_key", ""),
                                models.Q(("secret_encrypted", ""), _negated=True),
                            ),
                            models.Q(
                                ("algorithm__in", ["ES256", "RS256"]),
                                ("secret_encrypted", ""),
                                models.Q(("public_key", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                    ),
                    _connector="OR",
                ),
                name="apikey_secret_fits_type",
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("type", "identity"), _negated=True),
                    models.Q(("rate_limit__isnull", True), ("scopes", [])),
                    _connector="OR",
                ),
                name="apikey_identity_makes_no_call",
            ),
        ),
    ]
