from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("compliance", "0006_digest")]

    operations = [
        migrations.AddField(
            model_name="redaction",
            name="csat_comment",
            field=models.BooleanField(
                db_default=False, default=False, help_text="Whether it redacts the conversation's CSAT comment."
            ),
        ),
        migrations.AlterField(
            model_name="redaction",
            name="message_numbers",
            field=ArrayField(
                base_field=models.BigIntegerField(),
                help_text="The messages' numbers, 1 to 100, or none with `csat_comment`; no database constraint.",
                size=None,
            ),
        ),
        migrations.RemoveConstraint(model_name="redaction", name="redaction_names_some_messages"),
        migrations.AddConstraint(
            model_name="redaction",
            constraint=models.CheckConstraint(
                condition=Q(message_numbers__len__range=(1, 100)) | Q(message_numbers__len=0, csat_comment=True),
                name="redaction_names_something",
            ),
        ),
        migrations.AddField(
            model_name="compliancerequest",
            name="csat_comments",
            field=models.IntegerField(
                db_default=0, default=0, help_text="Of a redaction; a deletion empties them with their conversations."
            ),
        ),
    ]
