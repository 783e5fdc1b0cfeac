"""A look-up that does not expire leaves its conversation out of exports, since somebody else may have chatted."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("conversations", "0012_files_to_remove")]

    operations = [
        migrations.AlterField(
            "IdentityLookup",
            "expires_at",
            models.DateTimeField(
                help_text="The row is deleted then. Null while exports leave the conversation out (`assurance`).",
                null=True,
            ),
        ),
        migrations.AddField(
            "IdentityLookup",
            "has_gap",
            models.BooleanField(
                db_default=False,
                help_text="A value was replaced before it had an answer, so no answer ends the doubt.",
            ),
        ),
    ]
