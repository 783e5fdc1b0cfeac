"""When the person asked, if that was before the request was received. Null for the requests of before."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("compliance", "0020_request_subjects")]

    operations = [
        migrations.AddField(
            model_name="compliancerequest",
            name="requested_at",
            field=models.DateTimeField(
                help_text="When the person asked, if that was before it was received: the deadline counts from it.",
                null=True,
            ),
        ),
    ]
