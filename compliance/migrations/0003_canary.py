"""What a turn of the canary has found is a field of the turn."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("compliance", "0002_sql")]

    operations = [
        migrations.DeleteModel(name="CanaryFinding"),
        migrations.RemoveIndex(model_name="canaryturn", name="canaryturn_left"),
        migrations.AddField(
            model_name="canaryturn",
            name="findings",
            field=models.JSONField(default=list, help_text="What was left: place (`Place`), code (`Left`), where."),
        ),
    ]
