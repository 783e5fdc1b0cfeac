"""The secrets of authenticator apps are encrypted under `ENCRYPTION_KEYS`.

They were derived from a stored seed with `DIGEST_KEY`. Apps, sessions and recovery codes stay as they are.
"""

import hmac

import django.db.models.deletion
from django.apps.registry import Apps
from django.conf import settings
from django.core.management.base import CommandError
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from common.crypto import encrypt


def move_secrets(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    seeds, secrets = apps.get_model("otp_totp", "TOTPDevice"), apps.get_model("accounts", "Authenticator")
    for device in seeds.objects.order_by("pk"):
        seed = bytes.fromhex(device.key)
        secret = hmac.digest(settings.DIGEST_KEY, f"authenticator:{device.user_id}:".encode() + seed, "sha256")[:20]
        encrypted = encrypt(secret.hex(), bound_to=f"authenticator:{device.user_id}:secret")
        # The row of the parent exists.
        secrets(totpdevice_ptr_id=device.pk, secret_encrypted=encrypted).save_base(raw=True)
        seeds.objects.filter(pk=device.pk).update(key="")
    # Or the table could not be altered in this transaction.
    editor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def refuse_if_any(apps: Apps, _: BaseDatabaseSchemaEditor) -> None:
    if apps.get_model("accounts", "Authenticator").objects.exists():
        raise CommandError(
            "There is no seed for a secret that exists, so authenticators cannot be moved back. Remove them first "
            "(manage.py remove_second_factor); their users set up new ones."
        )


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("otp_totp", "0003_add_timestamps"),
    ]

    operations = [
        migrations.DeleteModel(name="Authenticator"),
        migrations.CreateModel(
            name="Authenticator",
            fields=[
                (
                    "totpdevice_ptr",
                    models.OneToOneField(
                        auto_created=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        parent_link=True,
                        primary_key=True,
                        serialize=False,
                        to="otp_totp.totpdevice",
                    ),
                ),
                ("secret_encrypted", models.TextField()),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("secret_encrypted", ""), _negated=True),
                        name="authenticator_secret_not_empty",
                    )
                ],
            },
            bases=("otp_totp.totpdevice",),
        ),
        migrations.RunPython(move_secrets, refuse_if_any),
        # No secret in the clear; and a web server of the version before cannot store one that this version ignores.
        migrations.RunSQL(
            "ALTER TABLE otp_totp_totpdevice ADD CONSTRAINT totpdevice_has_no_key CHECK (key = '')",
            "ALTER TABLE otp_totp_totpdevice DROP CONSTRAINT totpdevice_has_no_key",
        ),
    ]
