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
            name="retention_set_at",
            field=models.DateTimeField(
                editable=False,
                help_text="Runs that were filed earlier are of another period. Null after a restore, until staff confirm it.",
                null=True,
            ),
        ),
        migrations.RunSQL(
            "UPDATE chatbots_chatbot SET retention_set_at = created_at WHERE retention_days IS NOT NULL",
            migrations.RunSQL.noop,
        ),
    ]
