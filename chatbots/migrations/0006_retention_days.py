"""A retention period of any number of days from 1 to 3,650, not only of the product's list.

The table has a row for each chatbot, so the new constraint is checked at once.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("chatbots", "0005_deadline"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="chatbot",
            name="chatbot_retention_days_offered",
        ),
        migrations.AlterField(
            model_name="chatbot",
            name="retention_days",
            field=models.PositiveSmallIntegerField(blank=True, null=True),
        ),
        migrations.AddConstraint(
            model_name="chatbot",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("retention_days__isnull", True), ("retention_days__range", (1, 3650)), _connector="OR"
                ),
                name="chatbot_retention_days_offered",
            ),
        ),
    ]
