"""How reliable an identity has to be for an export. The default is that of before: any."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chatbots", "0007_resolver")]

    operations = [
        migrations.AddField(
            model_name="chatbot",
            name="export_assurance",
            field=models.CharField(
                choices=[
                    ("any", "All conversations"),
                    ("platform", "Said by the platform, or verified"),
                    ("verified", "Verified only"),
                ],
                db_default="any",
                default="any",
                help_text="An export by UCI leaves out conversations whose identity is weaker.",
                max_length=8,
            ),
        ),
        migrations.AddConstraint(
            model_name="chatbot",
            constraint=models.CheckConstraint(
                condition=models.Q(("export_assurance__in", ["any", "platform", "verified"])),
                name="chatbot_export_assurance_known",
            ),
        ),
    ]
