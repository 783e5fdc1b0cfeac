"""Deletions that have to call a client's bucket wait in a lane of their own."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("compliance", "0018_claims_of_buckets")]

    operations = [
        migrations.AlterField(
            model_name="compliancerequest",
            name="lane",
            field=models.CharField(
                choices=[
                    ("normal", "Normal"),
                    ("alone", "Alone: its last claim failed or expired"),
                    ("large", "Large: it would hold up the others of a claim"),
                    ("client", "A deletion that has to call a client's bucket"),
                ],
                default="normal",
                max_length=8,
            ),
        ),
        migrations.RemoveConstraint(model_name="compliancerequest", name="request_lane_known"),
        migrations.AddConstraint(
            model_name="compliancerequest",
            constraint=models.CheckConstraint(
                name="request_lane_known", condition=models.Q(lane__in=["normal", "alone", "large", "client"])
            ),
        ),
    ]
