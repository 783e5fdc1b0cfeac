"""The day of the last digest that an officer got. Workers of an older version leave it alone."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("compliance", "0005_retention_days"),
    ]

    operations = [
        migrations.AddField(
            model_name="mailbox",
            name="digest_on",
            field=models.DateField(
                help_text="The last day whose digest was mailed, or was not needed, since nothing was due.", null=True
            ),
        ),
    ]
