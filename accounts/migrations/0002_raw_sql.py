"""No secret of an authenticator app is stored in the clear, in the table of django-otp."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_schema")]

    operations = [
        migrations.RunSQL("ALTER TABLE otp_totp_totpdevice ADD CONSTRAINT totpdevice_has_no_key CHECK (key = '')"),
    ]
