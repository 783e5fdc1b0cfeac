from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("compliance", "0002_postgresql")]

    operations = [
        migrations.AddField(
            model_name="leftcopy",
            name="is_unfinished",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Left in a client's former bucket by an attempt. The export may be finished elsewhere by now.",
            ),
        ),
    ]
