from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("compliance", "0003_unfinished_left_copies")]

    operations = [
        migrations.AddField(
            model_name="export",
            name="was_left_in_former_bucket",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="An attempt may have left something in a client's bucket that was not the chatbot's any more.",
            ),
        ),
        migrations.RemoveConstraint(model_name="leftcopy", name="leftcopy_export_once"),
        migrations.AddConstraint(
            model_name="leftcopy",
            constraint=models.UniqueConstraint(
                fields=["deletion", "export", "is_unfinished"], name="leftcopy_export_once"
            ),
        ),
    ]
