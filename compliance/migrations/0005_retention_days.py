"""Retention runs of any period from 1 to 3,650 days.

The table has a small row for each chatbot and night, so the new constraint is checked at once.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0006_retention_days"),
        ("compliance", "0004_deadlines"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="retentionrun",
            name="retentionrun_days_offered",
        ),
        migrations.AlterField(
            model_name="retentionrun",
            name="previous_days",
            field=models.PositiveSmallIntegerField(
                help_text="Of a first run: the period before, if there was one.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="retentionrun",
            name="retention_days",
            field=models.PositiveSmallIntegerField(),
        ),
        migrations.AddConstraint(
            model_name="retentionrun",
            constraint=models.CheckConstraint(
                condition=models.Q(("retention_days__range", (1, 3650))), name="retentionrun_days_offered"
            ),
        ),
    ]
