"""Log-ins and their failures in tables of our own. Those of django-axes, which were used before, go."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

# From where people have logged in is still asked. Names in the old tables are of users, or digests.
_TAKE_OVER = """
DO $$ BEGIN
    IF to_regclass('axes_accesslog') IS NOT NULL THEN
        INSERT INTO chatbots_stafflogin (user_id, address, at, ended_at)
        SELECT u.id, old.ip_address, old.attempt_time, old.logout_time
          FROM axes_accesslog AS old JOIN auth_user AS u ON u.username = old.username
         ORDER BY old.id;
    END IF;
END $$;
DROP TABLE IF EXISTS axes_accessattemptexpiration, axes_accessattempt, axes_accessfailurelog, axes_accesslog;
DELETE FROM django_migrations WHERE app = 'axes';
"""


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0012_values_gone"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="LoginFailures",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.BinaryField(max_length=32, unique=True)),
                ("address", models.GenericIPAddressField(help_text="Of version 6 the first 64 bits.", null=True)),
                ("failures", models.PositiveSmallIntegerField()),
                ("ends_at", models.DateTimeField(db_index=True, verbose_name="counts until")),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"verbose_name": "failed log-ins", "verbose_name_plural": "failed log-ins"},
        ),
        migrations.CreateModel(
            name="StaffLogin",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("address", models.GenericIPAddressField(help_text="Of version 6 the first 64 bits.", null=True)),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), db_index=True)),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "user",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "log-in",
                "indexes": [models.Index(fields=["user", "address"], name="stafflogin_user_address")],
            },
        ),
        migrations.RunSQL(_TAKE_OVER, migrations.RunSQL.noop),
    ]
