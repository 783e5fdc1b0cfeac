from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0009_revoked_for_good"),
    ]

    operations = [
        migrations.AddField(
            model_name="chatbot",
            name="closed_at",
            field=models.DateTimeField(
                editable=False,
                help_text="After a restore: something that was erased may be here again, and an operator has to decide.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="chatbot",
            name="retention_unconfirmed",
            field=models.BooleanField(
                db_default=False,
                default=False,
                editable=False,
                help_text="After a restore: the period is the backup's, and staff have not confirmed it since.",
            ),
        ),
    ]
