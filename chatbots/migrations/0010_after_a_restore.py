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
    ]
